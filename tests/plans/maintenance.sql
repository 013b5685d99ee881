# TRUNCATE, VACUUM, LOCK

truncate users
-- OnAll: every part of the tables is emptied
--   write: True
--   tag: TRUNCATE
--   sql: [0, 'TRUNCATE shard_1.users']
--   sql: [1, 'TRUNCATE shard_2.users, shard_3.users']
--   rows: False

truncate users, orders restart identity cascade
-- OnAll: every part of the tables is emptied
--   write: True
--   tag: TRUNCATE
--   sql: [0, 'TRUNCATE shard_1.users, shard_1.orders RESTART IDENTITY CASCADE']
--   sql: [1, 'TRUNCATE shard_2.users, shard_3.users, shard_2.orders, shard_3.orders RESTART IDENTITY CASCADE']
--   rows: False

truncate countries, settings
-- OnAll: every part of the tables is emptied
--   write: True
--   tag: TRUNCATE
--   sql: [0, 'TRUNCATE public.countries, public.settings']
--   sql: [1, 'TRUNCATE public.countries']
--   references: ['public.countries']
--   rows: False

truncate unknown_table
-- OnAll: every part of the tables is emptied
--   write: True
--   tag: TRUNCATE
--   sql: [0, 'TRUNCATE unknown_table']
--   rows: False

vacuum
-- OnAll: the parts of the tables, where they lie
--   write: True
--   tag: VACUUM
--   sql: [0, 'vacuum']
--   sql: [1, 'vacuum']
--   rows: False

vacuum (analyze) users (age, email), settings
-- OnAll: the parts of the tables, where they lie
--   write: True
--   tag: VACUUM
--   sql: [0, 'vacuum (analyze) shard_1.users (age, email), public.settings']
--   sql: [1, 'vacuum (analyze) shard_2.users (age, email), shard_3.users (age, email)']
--   rows: False

analyze users
-- OnAll: the parts of the tables, where they lie
--   write: True
--   tag: ANALYZE
--   sql: [0, 'analyze shard_1.users']
--   sql: [1, 'analyze shard_2.users, shard_3.users']
--   rows: False

lock table users in share mode nowait
-- OnAll: every part of the tables is locked
--   write: True
--   tag: LOCK
--   sql: [0, 'LOCK TABLE public.users, shard_1.users IN SHARE MODE NOWAIT']
--   sql: [1, 'LOCK TABLE public.users, shard_2.users, shard_3.users IN SHARE MODE NOWAIT']
--   rows: False

lock users, countries, settings
-- OnAll: every part of the tables is locked
--   write: True
--   tag: LOCK
--   sql: [0, 'LOCK TABLE public.users, shard_1.users, public.countries, public.settings IN ACCESS EXCLUSIVE MODE']
--   sql: [1, 'LOCK TABLE public.users, shard_2.users, shard_3.users, public.countries IN ACCESS EXCLUSIVE MODE']
--   rows: False

checkpoint
-- OnAll: the same in every group
--   tag: CHECKPOINT
--   sql: [0, 'checkpoint']
--   sql: [1, 'checkpoint']
--   rows: False

set constraints all deferred
-- OnAll: the same in every group
--   tag: SET
--   sql: [0, 'set constraints all deferred']
--   sql: [1, 'set constraints all deferred']
--   rows: False

# COPY

copy users from stdin
-- CopyIn: its rows are divided by shard key
--   write: True
--   tag: COPY
--   table: public.users
--   columns: ['last_name', 'id', 'email', 'age', 'score', 'active', 'created']
--   head: COPY shard_?.users (last_name, id, email, age, score, active, created) FROM STDIN
--   delimiter:
--   null: \N
--   quote: "
--   escape: "
--   rows: False

copy users (last_name, id) from stdin with (format csv, header, delimiter ';', null 'x', quote '''') where id > 5
-- CopyIn: its rows are divided by shard key
--   write: True
--   tag: COPY
--   table: public.users
--   columns: ['last_name', 'id']
--   head: COPY shard_?.users (last_name, id) FROM STDIN
--   options: with (format csv, header, delimiter ';', null 'x', quote '''') where id > 5
--   format: csv
--   header: True
--   delimiter: ;
--   null: x
--   quote: '
--   escape: '
--   rows: False

copy users from stdin binary
-- CopyIn: its rows are divided by shard key
--   write: True
--   tag: COPY
--   table: public.users
--   columns: ['last_name', 'id', 'email', 'age', 'score', 'active', 'created']
--   head: COPY shard_?.users (last_name, id, email, age, score, active, created) FROM STDIN
--   options: binary
--   format: binary
--   delimiter:
--   null: \N
--   quote: "
--   escape: "
--   rows: False

copy countries from stdin csv
-- CopyIn: one stream
--   write: True
--   tag: COPY
--   table: public.countries
--   columns: ['code', 'name', 'added']
--   head: COPY public.countries (code, name, added) FROM STDIN
--   options: csv
--   format: csv
--   delimiter: ,
--   quote: "
--   escape: "
--   rows: False

copy settings to stdout
-- CopyOut: the table lies whole on group 0
--   tag: COPY
--   arms: [0, 'copy settings to stdout']
--   rows: False

copy users to stdout
-- CopyOut: each group sends the rows of its own shards
--   tag: COPY
--   arms: [0, 'COPY (SELECT last_name, id, email, age, score, active, created FROM here.users WHERE pgherd.at_epoch(7)) TO STDOUT']
--   arms: [1, 'COPY (SELECT last_name, id, email, age, score, active, created FROM here.users WHERE pgherd.at_epoch(7)) TO STDOUT']
--   rows: False

copy users (id) to stdout with (format csv, header)
-- CopyOut: each group sends the rows of its own shards
--   tag: COPY
--   arms: [0, 'COPY (SELECT id FROM here.users WHERE pgherd.at_epoch(7)) TO STDOUT with (format csv, header)']
--   arms: [1, 'COPY (SELECT id FROM here.users WHERE pgherd.at_epoch(7)) TO STDOUT with (format csv, header)']
--   header: True
--   rows: False

copy (select * from users where last_name = 'Smith') to stdout
-- CopyOut: the shard key is fixed
--   tag: COPY
--   arms: [1, "COPY (select * from shard_2.users where last_name = 'Smith') to stdout"]
--   rows: False

copy (select count(*) from users) to stdout
-- CopyOut: each group aggregates its own shards; their results are aggregated again
--   tag: COPY
--   arms: [0, 'COPY (select count(*) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END) to stdout']
--   rows: False

copy (select * from users where age > 5) to stdout with (format binary)
-- CopyOut: each group answers for its own shards
--   tag: COPY
--   arms: [0, 'COPY (SELECT * FROM here.users WHERE age > 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END) to stdout with (format binary)']
--   arms: [1, 'COPY (SELECT * FROM here.users WHERE age > 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END) to stdout with (format binary)']
--   binary: True
--   rows: False

copy unknown_table from stdin
-- OneGroup: not a table of the map: group 0
--   write: True
--   tag: COPY
--   sql: copy unknown_table from stdin
--   unknown: ['unknown_table']
--   rows: False

copy users (nope) from stdin
-- UndefinedColumn 42703: column "nope" of relation "users" does not exist

# Definitions

create table t (id int)
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: create table t (id int)
--   rows: False

create temp table t (id int)
-- OneGroup: temporary: on the session's own connection to group 0
--   write: True
--   tag: CREATE
--   pin: True
--   sql: create temp table t (id int)
--   rows: False

create temp table t as select * from users
-- OneGroup: temporary: on the session's own connection to group 0
--   write: True
--   tag: SELECT
--   pin: True
--   sql: create temp table t as select * from global.users
--   reads: [0, 1]
--   rows: False

create table t as select * from users
-- Ddl: a new single table on group 0
--   write: True
--   tag: SELECT
--   statement: create table t as select * from global.users
--   rows: False

create materialized view m as select count(*) from users
-- Ddl: a new single table on group 0
--   write: True
--   tag: SELECT
--   statement: create materialized view m as select count(*) from global.users
--   rows: False

select * into t from users
-- Ddl: a new single table on group 0
--   write: True
--   tag: SELECT
--   statement: CREATE TABLE t AS SELECT * FROM global.users
--   rows: False

refresh materialized view m
-- OneGroup: materialized views live on group 0
--   write: True
--   tag: REFRESH
--   sql: refresh materialized view m
--   reads: [0, 1]
--   rows: False

create view v as select * from users
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: create view v as select * from users
--   rows: False

create index on users (age)
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: create index on users (age)
--   rows: False

drop table users
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: drop table users
--   rows: False

alter table users add column x int
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: alter table users add column x int
--   rows: False

grant select on users to joe
-- Ddl: a definition: carried out in every group
--   write: True
--   statement: grant select on users to joe
--   rows: False
