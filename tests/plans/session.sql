# Transactions

begin
-- Control
--   tag: BEGIN
--   action: begin
--   rows: False

begin isolation level repeatable read, read only
-- Control
--   tag: BEGIN
--   action: begin
--   isolation: repeatable read
--   read_only: True
--   modes: ISOLATION LEVEL REPEATABLE READ, READ ONLY
--   rows: False

start transaction isolation level serializable read write deferrable
-- Control
--   tag: START TRANSACTION
--   action: begin
--   isolation: serializable
--   modes: ISOLATION LEVEL SERIALIZABLE, READ WRITE, DEFERRABLE
--   rows: False

commit
-- Control
--   tag: COMMIT
--   action: commit
--   rows: False

commit and chain
-- Control
--   tag: COMMIT
--   action: commit
--   chain: True
--   rows: False

rollback
-- Control
--   tag: ROLLBACK
--   action: rollback
--   rows: False

savepoint "A b"
-- Control
--   tag: SAVEPOINT
--   action: savepoint
--   name: A b
--   rows: False

release savepoint a
-- Control
--   tag: RELEASE
--   action: release
--   name: a
--   rows: False

rollback to savepoint a
-- Control
--   tag: ROLLBACK
--   action: rollback_to
--   name: a
--   rows: False

set transaction isolation level serializable
-- Control
--   tag: SET
--   action: set_transaction
--   isolation: serializable
--   modes: ISOLATION LEVEL SERIALIZABLE
--   rows: False

set session characteristics as transaction read only
-- SetVariable
--   tag: SET
--   sql: set session characteristics as transaction read only
--   name: session_characteristics
--   value: READ ONLY
--   rows: False

# Settings

set search_path to "Sales Team", public
-- SetVariable
--   tag: SET
--   sql: set search_path to "Sales Team", public
--   name: search_path
--   value: "Sales Team", public
--   rows: False

set local work_mem = '64MB'
-- SetVariable
--   tag: SET
--   sql: set local work_mem = '64MB'
--   name: work_mem
--   value: 64MB
--   local: True
--   rows: False

set time zone 'Europe/Berlin'
-- SetVariable
--   tag: SET
--   sql: set time zone 'Europe/Berlin'
--   name: timezone
--   value: Europe/Berlin
--   rows: False

set statement_timeout = 500
-- SetVariable
--   tag: SET
--   sql: set statement_timeout = 500
--   name: statement_timeout
--   value: 500
--   rows: False

set pgherd.snapshot = off
-- SetVariable
--   tag: SET
--   sql: set pgherd.snapshot = off
--   name: pgherd.snapshot
--   value: off
--   rows: False

set statement_timeout to default
-- SetVariable
--   tag: SET
--   sql: set statement_timeout to default
--   name: statement_timeout
--   rows: False

reset statement_timeout
-- SetVariable
--   tag: RESET
--   sql: reset statement_timeout
--   name: statement_timeout
--   rows: False

reset all
-- SetVariable
--   tag: RESET
--   sql: reset all
--   name: all
--   rows: False

set role joe
-- SetVariable
--   tag: SET
--   sql: set role joe
--   name: role
--   value: joe
--   rows: False

set session authorization default
-- SetVariable
--   tag: SET
--   sql: set session authorization default
--   name: session_authorization
--   rows: False

show search_path
-- Show
--   tag: SHOW
--   sql: show search_path
--   name: search_path

show all
-- Show
--   tag: SHOW
--   sql: show all
--   name: all

select set_config('work_mem', '64MB', true)
-- SetVariable
--   tag: SELECT
--   sql: select set_config('work_mem', '64MB', true)
--   name: work_mem
--   value: 64MB
--   local: True

select set_config('work_mem', $1, true)
-- SetVariable
--   tag: SELECT
--   sql: select set_config('work_mem', $1, true)
--   calls: ["'work_mem'", '$1', "'true'"]

discard all
-- Discard
--   tag: DISCARD
--   what: all
--   rows: False

discard temp
-- Discard
--   tag: DISCARD
--   what: temp
--   rows: False

# Prepared statements and cursors

prepare p (int, text[], numeric(10, 2)) as select * from events where id = $1
-- Prepare
--   tag: PREPARE
--   name: p
--   types: ['int', 'text[]', 'numeric(10, 2)']
--   inner: select * from events where id = $1
--   rows: False

execute p (1, 'a', null, 1 + 1, -5)
-- Execute
--   tag: SELECT
--   name: p
--   args: ["'1'", "'a'", 'NULL', '<1 + 1>', "'-5'"]

deallocate p
-- Deallocate
--   tag: DEALLOCATE
--   name: p
--   rows: False

deallocate all
-- Deallocate
--   tag: DEALLOCATE
--   rows: False

declare c cursor for select * from users order by age
-- Declare
--   tag: DECLARE
--   name: c
--   prefix: declare c cursor for
--   inner:
--     Federated: it joins or orders rows of several groups in a way that one server must see whole
--       tag: SELECT
--       sql: select * from global.users order by age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--       groups: [0, 1]
--       reads: [0, 1]
--   rows: False

declare c scroll cursor with hold for select * from users where last_name = 'Smith'
-- Declare
--   tag: DECLARE
--   pin: True
--   name: c
--   prefix: declare c scroll cursor with hold for
--   inner:
--     Single: the shard key is fixed
--       tag: SELECT
--       text: select * from shard_?.users where last_name = 'Smith'
--       keyspace: 1
--       key: ["'Smith'"]
--       shards: [2]
--   hold: True
--   rows: False

fetch 5 from c
-- Fetch
--   tag: FETCH
--   sql: fetch 5 from c
--   name: c
--   action: fetch

move c
-- Fetch
--   tag: MOVE
--   sql: move c
--   name: c
--   action: move
--   rows: False

close c
-- Fetch
--   tag: CLOSE
--   sql: close c
--   name: c
--   action: close
--   rows: False

close all
-- Fetch
--   tag: CLOSE
--   sql: close all
--   action: close
--   rows: False

# Calls

call pgherd.split('users', 'N')
-- Call
--   write: True
--   tag: CALL
--   name: split
--   args: ["'users'", "'N'"]
--   rows: False

call pgherd.distribute('users', by => 'hash', key => 'id', dry => true)
-- Call
--   write: True
--   tag: CALL
--   name: distribute
--   args: ["'users'"]
--   named: ['by', "'hash'"]
--   named: ['key', "'id'"]
--   named: ['dry', "'true'"]
--   rows: False

call pgherd.move($1, 2)
-- Call
--   write: True
--   tag: CALL
--   name: move
--   args: ['$1', "'2'"]
--   rows: False

call my_procedure(1)
-- OneGroup: procedures run on group 0
--   write: True
--   tag: CALL
--   sql: call my_procedure(1)

select pgherd.transaction_id()
-- Call
--   tag: SELECT
--   name: transaction_id
--   column: transaction_id

select * from pgherd.transaction_status('1-2-3')
-- Call
--   tag: SELECT
--   name: transaction_status
--   args: ["'1-2-3'"]
--   column: transaction_status

select pgherd.next_id()
-- OneGroup: no tables
--   tag: SELECT
--   sql: select pgherd.next_id()

# Notifications and code

listen a
-- OneGroup: notifications meet on group 0
--   tag: LISTEN
--   pin: True
--   sql: listen a
--   rows: False

notify a, 'b'
-- OneGroup: notifications meet on group 0
--   write: True
--   tag: NOTIFY
--   sql: notify a, 'b'
--   rows: False

unlisten *
-- OneGroup: notifications meet on group 0
--   tag: UNLISTEN
--   sql: unlisten *
--   rows: False

do $$ begin end $$
-- OneGroup: code blocks run on group 0
--   write: True
--   tag: DO
--   sql: do $$ begin end $$
--   rows: False

# EXPLAIN

explain select * from users where last_name = 'Smith'
-- Explain
--   tag: EXPLAIN
--   inner:
--     Single: the shard key is fixed
--       tag: SELECT
--       text: select * from shard_?.users where last_name = 'Smith'
--       keyspace: 1
--       key: ["'Smith'"]
--       shards: [2]
--   prefix: explain

explain (analyze, format json) select count(*) from users
-- Explain
--   tag: EXPLAIN
--   inner:
--     Gather: each group aggregates its own shards; their results are aggregated again
--       tag: SELECT
--       arm: SELECT count(*) FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       combine: SELECT COALESCE(sum(p.c1), 0)::bigint AS count FROM {rows}
--       fallback: select count(*) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   prefix: explain (analyze, format json)
--   analyze: True
--   format: json

explain analyze verbose update users set age = 1
-- Explain
--   tag: EXPLAIN
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: update shard_?.users set age = 1
--       shards: [1, 2, 3]
--       rows: False
--   prefix: explain analyze verbose
--   analyze: True

explain (select 1)
-- Explain
--   tag: EXPLAIN
--   inner:
--     OneGroup: no tables
--       tag: SELECT
--       sql: (select 1)
--   prefix: explain

alter table users set (pgherd.autosplit = off, pgherd.size_max = '2GB')
-- Call
--   write: True
--   tag: ALTER TABLE
--   name: set_keyspace
--   args: ["'users'", "'autosplit'", "'off'", "'size_max'", "'2GB'"]
--   rows: False

alter table if exists public.users reset (pgherd.autosplit)
-- Call
--   write: True
--   tag: ALTER TABLE
--   name: set_keyspace
--   args: ["'public.users'", "'autosplit'", "'default'"]
--   named: ['if_exists', "'true'"]
--   rows: False

select t.x as y from pgherd.session_token() as t (x)
-- Call
--   tag: SELECT
--   name: session_token
--   column: y

select x as y from pgherd.session_token() as t (x)
-- Call
--   tag: SELECT
--   name: session_token
--   column: y
