# No distributed tables

select 1
-- OneGroup: no tables
--   tag: SELECT
--   sql: select 1

select now(), random()
-- OneGroup: no tables
--   tag: SELECT
--   sql: select now(), random()

select $1::int + 1
-- OneGroup: no tables
--   tag: SELECT
--   sql: select $1::int + 1

# OIDs are those that group 0 has told

select pg_catalog.pg_get_partkeydef('16385'::pg_catalog.oid)
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select pg_catalog.pg_get_partkeydef('16385'::pg_catalog.oid)

select 16385::regclass
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select 16385::regclass

select * from countries
-- OneGroup: only tables that every group has
--   tag: SELECT
--   sql: select * from countries

select * from countries c join country_names n on n.name = c.name
-- OneGroup: only tables that every group has
--   tag: SELECT
--   sql: select * from countries c join country_names n on n.name = c.name

select * from settings
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from settings

select * from local_view
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from local_view

select * from settings s join countries c on c.code = s.key
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from settings s join countries c on c.code = s.key

select * from pg_class
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from pgherd_catalog.pg_class

select * from information_schema.tables
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from pgherd_information.tables

select * from unknown_table
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from unknown_table
--   unknown: ['unknown_table']

select * from other.thing t
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select * from other.thing t
--   unknown: ['other.t']

select nextval('s')
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   sql: select nextval('s')

select my_function(1)
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   sql: select my_function(1)

select pg_advisory_lock(1)
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   pin: True
--   sql: select pg_advisory_lock(1)

select pg_advisory_xact_lock(1)
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   sql: select pg_advisory_xact_lock(1)

select pg_notify('a', 'b')
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   sql: select pg_notify('a', 'b')

select * from pgherd.shards
-- OneGroup: only tables that every group has
--   tag: SELECT
--   sql: select * from pgherd.shards

select state from pgherd.workflows
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: select state from pgherd.workflows

select * from countries for update
-- OneGroup: single tables, catalogs or session functions: group 0
--   write: True
--   tag: SELECT
--   sql: select * from countries for update

table settings
-- OneGroup: single tables, catalogs or session functions: group 0
--   tag: SELECT
--   sql: table settings

values (1), (2)
-- OneGroup: no tables
--   tag: SELECT
--   sql: values (1), (2)

with users as (select 1 as id) select * from users
-- OneGroup: no tables
--   tag: SELECT
--   sql: with users as (select 1 as id) select * from users

# Writes on group 0

insert into settings values ('a', 'b')
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: INSERT
--   sql: insert into settings values ('a', 'b')
--   rows: False

insert into settings select last_name, email from users
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: INSERT
--   sql: insert into settings select last_name, email from global.users
--   reads: [0, 1]
--   rows: False

update settings set value = 'x' where key in (select email from young)
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: UPDATE
--   sql: update settings set value = 'x' where key in (select email from global.young)
--   reads: [0, 1]
--   rows: False

delete from settings
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: DELETE
--   sql: delete from settings
--   rows: False

merge into settings s using countries c on c.code = s.key when matched then delete
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: MERGE
--   sql: merge into settings s using countries c on c.code = s.key when matched then delete
--   rows: False

with x as (insert into settings values ('a') returning *) select * from x
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: SELECT
--   sql: with x as (insert into settings values ('a') returning *) select * from x

insert into unknown_table values (1)
-- OneGroup: writes single tables: group 0
--   write: True
--   tag: INSERT
--   sql: insert into unknown_table values (1)
--   unknown: ['unknown_table']
--   rows: False

# A read whose shards all lie in one group: it says so if one of them has gone

select id from users where last_name = 'A' or last_name = 'B' limit 3
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT id FROM here.users WHERE last_name = 'A' OR last_name = 'B' LIMIT CASE WHEN pgherd.at_epoch(7) THEN 3::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS id FROM {rows} LIMIT 3
--   fallback: select id from global.users where last_name = 'A' or last_name = 'B' limit CASE WHEN pgherd.at_epoch(7) THEN CAST(3 AS bigint) END

select id from users where last_name < 'B' offset 2 limit all
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select id from global.users where last_name < 'B' offset 2 limit CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

select id as limit from users u where last_name < 'B' order by u.limit fetch first 2 rows with ties
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select id as limit from global.users u where last_name < 'B' order by u.limit fetch first (CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(2 AS bigint) END) rows with ties

select id as limit from users u where last_name < 'B' order by 1 fetch first row only offset 1
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select id as limit from global.users u where last_name < 'B' order by 1 fetch first (CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(1 AS bigint) END) row only offset 1

(select id from users where last_name < 'B' order by id limit $1)
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: SELECT * FROM ((select id from global.users where last_name < 'B' order by id limit $1)) AS pgherd_checked LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

((select id from users where last_name < 'B'))
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: ((select id from global.users where last_name < 'B')) LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

with few as (select id from users where last_name < 'B' limit 3) select count(*) from few
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: with few as (select id from global.users where last_name < 'B' limit 3) select count(*) from few LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

select id from users where last_name < 'B' union all (select id from users where last_name < 'C' limit 1)
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select id from global.users where last_name < 'B' union all (select id from global.users where last_name < 'C' limit 1) LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END
