# Rows divided by key

insert into users (last_name, id) values ('Abel', 1), ('Smith', 2)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.users (last_name, id) VALUES
--   rows_: {'row': "('Abel', 1)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', 2)", 'key': ["'Smith'"]}
--   keyspace: 1
--   table: public.users
--   rows: False

insert into users (last_name, id, email) values ($1, 1, lower($2)), ('it''s', 2, $1) on conflict do nothing returning id, $3::text
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.users (last_name, id, email) VALUES
--   rows_: {'row': '($1, 1, lower($2))', 'key': ['$1']}
--   rows_: {'row': "('it''s', 2, $1)", 'key': ["'it's'"]}
--   tail: [' ', 'on conflict do nothing returning id, ', '$3', '::text']
--   keyspace: 1
--   table: public.users

insert into events (kind) values ('a'), ($1) returning *
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (kind, id) VALUES
--   rows_: {'row': "('a', <new id>)", 'key': ['<new id>']}
--   rows_: {'row': '($1, <new id>)', 'key': ['<new id>']}
--   tail: [' ', 'returning *']
--   keyspace: 2
--   table: public.events

insert into events default values
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (id) VALUES
--   rows_: {'row': '(<new id>)', 'key': ['<new id>']}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into events values (default, 'a')
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events VALUES
--   rows_: {'row': "(<new id>, 'a')", 'key': ['<new id>']}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into events values (5, 'a')
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.events values (5, 'a')
--   keyspace: 2
--   key: ["'5'"]
--   rows: False
--   shards: [11]

insert into events (id, kind) values (5.4, 'a')
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (id, kind) VALUES
--   rows_: {'row': "(<CAST((5.4) AS bigint)>, 'a')", 'key': ['<CAST((5.4) AS bigint)>']}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into events (id, kind) values ($1 + 1, (select max(name) from countries))
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (id, kind) VALUES
--   rows_: {'row': '(<CAST(($1 + 1) AS bigint)>, <CAST(((select max(name) from countries)) AS text)>)', 'key': ['<CAST(($1 + 1) AS bigint)>']}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into events (kind, n) values ('a', nextval('s'))
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (kind, n, id) VALUES
--   rows_: {'row': "('a', <CAST((nextval('s')) AS integer) on group 0>, <new id>)", 'key': ['<new id>']}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into events (id, kind) values (7, (select email from users limit 1))
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.events (id, kind) VALUES
--   rows_: {'row': '(7, <CASE WHEN pgherd.at_epoch(7) THEN CAST(((select email from global.users limit 1)) AS text) END>)', 'key': ["'7'"]}
--   keyspace: 2
--   table: public.events
--   rows: False

insert into tokens (owner) values ($1)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.tokens (owner, id) VALUES
--   rows_: {'row': '($1, <CAST((gen_random_uuid()) AS uuid)>)', 'key': ['<CAST((gen_random_uuid()) AS uuid)>']}
--   keyspace: 4
--   table: public.tokens
--   rows: False

insert into tokens values (gen_random_uuid(), 'x')
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.tokens VALUES
--   rows_: {'row': "(<CAST((gen_random_uuid()) AS uuid)>, 'x')", 'key': ['<CAST((gen_random_uuid()) AS uuid)>']}
--   keyspace: 4
--   table: public.tokens
--   rows: False

insert into tokens values (uuidv7(), $1)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.tokens VALUES
--   rows_: {'row': '(<CAST((uuidv7()) AS uuid)>, $1)', 'key': ['<CAST((uuidv7()) AS uuid)>']}
--   keyspace: 4
--   table: public.tokens
--   rows: False

insert into visits values ('2024-01-01', 5), ('today', 6)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.visits VALUES
--   rows_: {'row': "('2024-01-01', 5)", 'key': ["'2024-01-01'", "'5'"]}
--   rows_: {'row': "(<CAST(('today') AS date)>, 6)", 'key': ["<CAST(('today') AS date)>", "'6'"]}
--   keyspace: 3
--   table: public.visits
--   rows: False

insert into orders (last_name, user_id) values ('Abel', 1), ('Smith', 2)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.orders (last_name, user_id, id) VALUES
--   rows_: {'row': "('Abel', 1, <new id>)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', 2, <new id>)", 'key': ["'Smith'"]}
--   keyspace: 1
--   table: public.orders
--   rows: False

insert into orders (last_name, id) overriding system value values ('Abel', 1), ('Smith', 2)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.orders (last_name, id) overriding system value VALUES
--   rows_: {'row': "('Abel', 1)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', 2)", 'key': ["'Smith'"]}
--   keyspace: 1
--   table: public.orders
--   rows: False

insert into orders (last_name, id) overriding user value values ('Abel', 1), ('Smith', 2)
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.orders (last_name, id) overriding user value VALUES
--   rows_: {'row': "('Abel', <new id>)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', <new id>)", 'key': ["'Smith'"]}
--   keyspace: 1
--   table: public.orders
--   rows: False

insert into "Sales Team".leads values ('a'), ('z')
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into "shard_?_Sales Team".leads VALUES
--   rows_: {'row': "('a')", 'key': ["'a'"]}
--   rows_: {'row': "('z')", 'key': ["'z'"]}
--   keyspace: 1
--   table: Sales Team.leads
--   rows: False

insert into users (last_name, id) values ('Abel', 1), ('Smith', 2) on conflict (last_name, id) do update set age = public.users.age + $1
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.users (last_name, id) VALUES
--   rows_: {'row': "('Abel', 1)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', 2)", 'key': ["'Smith'"]}
--   tail: [' ', 'on conflict (last_name, id) do update set age = users.age + ', '$1']
--   keyspace: 1
--   table: public.users
--   rows: False

insert into users as u values ('Abel', 1), ('Smith', 2) on conflict (last_name, id) do update set last_name = excluded.last_name, age = u.age
-- InsertRows: its rows are divided by shard key
--   write: True
--   tag: INSERT
--   head: insert into shard_?.users as u VALUES
--   rows_: {'row': "('Abel', 1)", 'key': ["'Abel'"]}
--   rows_: {'row': "('Smith', 2)", 'key': ["'Smith'"]}
--   tail: [' ', 'on conflict (last_name, id) do update set last_name = excluded.last_name, age = u.age']
--   keyspace: 1
--   table: public.users
--   rows: False

# Bad keys

insert into users values (null, 1)
-- NullKey 23502: null value in column "last_name" of relation "users" violates not-null constraint
--   hint: It is part of the shard key: give it a value.

insert into users (id) values (1)
-- NullKey 23502: null value in column "last_name" of relation "users" violates not-null constraint
--   hint: It is part of the shard key: give it a value.

insert into users (last_name, id) values ('a', 1), (null, 2)
-- NullKey 23502: null value in column "last_name" of relation "users" violates not-null constraint
--   hint: It is part of the shard key: give it a value.

insert into events values ('x', 'a')
-- BadKey 22P02: invalid input syntax for type bigint: "x"

insert into events values ('x', 'a'), (1, 'b')
-- BadKey 22P02: invalid input syntax for type bigint: "x"

insert into visits values ('1999-01-01', 5)
-- NoShard 23514: no shard of relation "visits" found for row
--   detail: Shard key of the failing row is (day, shop) = (1999-01-01, 5).
--   hint: See pgherd.shards for the ranges.

insert into orders (last_name, id) values ('Abel', 1)
-- GeneratedAlways 428C9: cannot insert a non-DEFAULT value into column "id"
--   detail: Column "id" is an identity column defined as GENERATED ALWAYS.
--   hint: Use OVERRIDING SYSTEM VALUE to override.

insert into users (nope) values (1)
-- UndefinedColumn 42703: column "nope" of relation "users" does not exist

insert into events (id, kind) values (1, 'a', 'b')
-- TooManyValues 42601: INSERT has more expressions than target columns

# Rows from a query

insert into orders (last_name, user_id, total) select last_name, id, 0 from users
-- Scatter: each shard's new rows come from its own
--   write: True
--   tag: INSERT
--   text: insert into shard_?.orders (last_name, user_id, total) select last_name, id, 0 from shard_?.users
--   shards: [1, 2, 3]
--   rows: False

insert into orders (last_name, user_id, total) select last_name, count(*), sum(total) from orders group by last_name returning *
-- Scatter: each shard's new rows come from its own
--   write: True
--   tag: INSERT
--   text: insert into shard_?.orders (last_name, user_id, total) select last_name, count(*), sum(total) from shard_?.orders group by last_name returning *
--   shards: [1, 2, 3]

insert into orders (last_name, user_id) select o.last_name, u.id from users u join orders o using (last_name) where u.age > $1 on conflict do nothing
-- Scatter: each shard's new rows come from its own
--   write: True
--   tag: INSERT
--   text: insert into shard_?.orders (last_name, user_id) select o.last_name, u.id from shard_?.users u join shard_?.orders o using (last_name) where u.age > $1 on conflict do nothing
--   shards: [1, 2, 3]
--   rows: False

insert into users (last_name, id) select email, id from users
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     Gather: each group answers for its own shards
--       tag: SELECT
--       arm: SELECT q.c1::text AS last_name, q.c2::bigint AS id FROM (SELECT email, id FROM here.users) q(c1, c2) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       fallback: SELECT CAST(q.c1 AS text) AS last_name, CAST(q.c2 AS bigint) AS id FROM (select email, id from global.users) AS q(c1, c2) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   table: public.users
--   columns: ['last_name', 'id']
--   head: INSERT INTO shard_?.users (last_name, id)
--   rows: False

insert into events (kind) select email from users
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     Gather: each group answers for its own shards
--       tag: SELECT
--       arm: SELECT q.c1::text AS kind, pgherd.next_id()::bigint AS id FROM (SELECT email FROM here.users) q(c1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       fallback: SELECT CAST(q.c1 AS text) AS kind, CAST((pgherd.next_id()) AS bigint) AS id FROM (select email from global.users) AS q(c1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   table: public.events
--   columns: ['kind', 'id']
--   head: INSERT INTO shard_?.events (kind, id)
--   rows: False

insert into events (kind, n) select key, 1 from settings on conflict do nothing returning id
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT CAST(q.c1 AS text) AS kind, CAST(q.c2 AS integer) AS n, CAST((pgherd.next_id()) AS bigint) AS id FROM (select key, 1 from settings ) AS q(c1, c2)
--   table: public.events
--   columns: ['kind', 'n', 'id']
--   head: INSERT INTO shard_?.events (kind, n, id)
--   tail: on conflict do nothing returning id

insert into users select * from users order by id limit 5
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     Federated: it joins or orders rows of several groups in a way that one server must see whole
--       tag: SELECT
--       sql: SELECT CAST(q.c1 AS text) AS last_name, CAST(q.c2 AS bigint) AS id, CAST(q.c3 AS text) AS email, CAST(q.c4 AS integer) AS age, CAST(q.c5 AS numeric) AS score, CAST(q.c6 AS boolean) AS active, CAST(q.c7 AS timestamp with time zone) AS created FROM (select * from global.users order by id limit 5) AS q(c1, c2, c3, c4, c5, c6, c7) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--       groups: [0, 1]
--       reads: [0, 1]
--   table: public.users
--   columns: ['last_name', 'id', 'email', 'age', 'score', 'active', 'created']
--   head: INSERT INTO shard_?.users (last_name, id, email, age, score, active, created)
--   rows: False

insert into users (last_name, id) select name, 1 from countries
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     OneGroup: only tables that every group has
--       tag: SELECT
--       sql: SELECT CAST(q.c1 AS text) AS last_name, CAST(q.c2 AS bigint) AS id FROM (select name, 1 from countries) AS q(c1, c2)
--   table: public.users
--   columns: ['last_name', 'id']
--   head: INSERT INTO shard_?.users (last_name, id)
--   rows: False

# In every shard

update users set age = age + 1
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = age + 1
--   shards: [1, 2, 3]
--   rows: False

update users set age = 1 where last_name > 'P' returning id
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = 1 where last_name > 'P' returning id
--   shards: [2, 3]

update users set age = 1 where last_name in ('Abel', 'Smith')
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = 1 where last_name in ('Abel', 'Smith')
--   shards: [1, 2]
--   rows: False

update users set age = (select count(*) from orders o where o.last_name = users.last_name)
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = (select count(*) from shard_?.orders o where o.last_name = users.last_name)
--   shards: [1, 2, 3]
--   rows: False

update users set age = 1 where email in (select code from countries)
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = 1 where email in (select code from countries)
--   shards: [1, 2, 3]
--   rows: False

update users set age = 1 where email in (select key from settings)
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT key FROM settings
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET age = 1 WHERE email IN (SELECT * FROM pgherd.source(1))
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

update users set age = 1 where id in (select n from events)
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     Gather: each group answers for its own shards
--       tag: SELECT
--       arm: SELECT n FROM here.events LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       fallback: SELECT n FROM global.events LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET age = 1 WHERE id IN (SELECT * FROM pgherd.source(1))
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

update users u set age = 1 from orders o where o.last_name = u.last_name
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users u set age = 1 from shard_?.orders o where o.last_name = u.last_name
--   shards: [1, 2, 3]
--   rows: False

update users set last_name = last_name where age = 1
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set last_name = last_name where age = 1
--   shards: [1, 2, 3]
--   rows: False

delete from users
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: DELETE
--   text: delete from shard_?.users
--   shards: [1, 2, 3]
--   rows: False

delete from users u using settings s where s.key = u.email
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: DELETE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT key FROM public.settings
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: DELETE
--       text: DELETE FROM shard_?.users u USING (SELECT * FROM pgherd.source(1)) s WHERE s.key = u.email
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

delete from public.users where public.users.age = 5 returning public.users.id
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: DELETE
--   text: delete from shard_?.users where shard_?.users.age = 5 returning shard_?.users.id
--   shards: [1, 2, 3]

delete from events where id in (1, 2)
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: DELETE
--   text: delete from shard_?.events where id in (1, 2)
--   shards: [10, 12]
--   rows: False

merge into users u using orders o on u.last_name = o.last_name and u.id = o.user_id when matched then update set age = 1
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: MERGE
--   text: merge into shard_?.users u using shard_?.orders o on u.last_name = o.last_name and u.id = o.user_id when matched then update set age = 1
--   shards: [1, 2, 3]
--   rows: False

# Rows that move

update orders set last_name = 'B' where id = 5
-- MoveRows: the shard key changes: rows move to the shards that their new keys name
--   write: True
--   tag: UPDATE
--   take: DELETE FROM shard_?.orders WHERE id = 5 RETURNING 'B'::text AS last_name, orders.user_id AS user_id, orders.id AS id, orders.total AS total, orders.note AS note
--   put: INSERT INTO shard_?.orders (last_name, user_id, id, total, note)
--   columns: ['last_name', 'user_id', 'id', 'total', 'note']
--   table: public.orders
--   shards: [1, 2, 3]
--   rows: False

update orders o set last_name = upper(last_name), total = total + 1, note = default where o.note = 'x' returning *
-- MoveRows: the shard key changes: rows move to the shards that their new keys name
--   write: True
--   tag: UPDATE
--   take: DELETE FROM shard_?.orders o WHERE o.note = 'x' RETURNING upper(last_name)::text AS last_name, o.user_id AS user_id, o.id AS id, (total + 1)::numeric AS total, NULL::text AS note
--   put: INSERT INTO shard_?.orders AS o (last_name, user_id, id, total, note)
--   columns: ['last_name', 'user_id', 'id', 'total', 'note']
--   table: public.orders
--   shards: [1, 2, 3]
--   returning: RETURNING *

update events set id = id + 1
-- MoveRows: the shard key changes: rows move to the shards that their new keys name
--   write: True
--   tag: UPDATE
--   take: DELETE FROM shard_?.events RETURNING (id + 1)::bigint AS id, events.kind AS kind, events.at AS at, events.n AS n
--   put: INSERT INTO shard_?.events (id, kind, at, n)
--   columns: ['id', 'kind', 'at', 'n']
--   table: public.events
--   shards: [10, 11, 12, 13]
--   rows: False

update clicks set event_id = $1 where event_id = $2
-- MoveRows: the shard key changes: rows move to the shards that their new keys name
--   write: True
--   tag: UPDATE
--   take: DELETE FROM shard_?.clicks WHERE event_id = $2 RETURNING $1::bigint AS event_id, clicks.n AS n
--   put: INSERT INTO shard_?.clicks (event_id, n)
--   columns: ['event_id', 'n']
--   table: public.clicks
--   shards: [10, 11, 12, 13]
--   rows: False

update orders set last_name = u.email from users u where u.last_name = orders.last_name
-- MoveRows: the shard key changes: rows move to the shards that their new keys name
--   write: True
--   tag: UPDATE
--   take: DELETE FROM shard_?.orders USING shard_?.users u WHERE u.last_name = orders.last_name RETURNING u.email::text AS last_name, orders.user_id AS user_id, orders.id AS id, orders.total AS total, orders.note AS note
--   put: INSERT INTO shard_?.orders (last_name, user_id, id, total, note)
--   columns: ['last_name', 'user_id', 'id', 'total', 'note']
--   table: public.orders
--   shards: [1, 2, 3]
--   rows: False

# Reference tables

insert into countries (code, name, added) values ('de', 'Germany', '2024-01-01')
-- ReferenceWrite: the same write in every group
--   write: True
--   tag: INSERT
--   sql: insert into countries (code, name, added) values ('de', 'Germany', '2024-01-01')
--   table: public.countries
--   mode: text
--   rows: False

insert into countries values ('de', 'Germany')
-- ReferenceWrite: the same write in every group
--   write: True
--   tag: INSERT
--   sql: insert into countries values ('de', 'Germany')
--   table: public.countries
--   mode: text
--   rows: False

insert into countries values ('de', 'Germany', now()) on conflict (code) do update set name = excluded.name returning code, upper(name)
-- ReferenceWrite: group 0 computes the rows, the others take them over
--   write: True
--   tag: INSERT
--   sql: insert into countries values ('de', 'Germany', now()) on conflict (code) do update set name = excluded.name returning code, upper(name)
--   table: public.countries
--   mode: image
--   image_sql: INSERT INTO countries VALUES ('de', 'Germany', now()) ON CONFLICT (code) DO UPDATE SET name = excluded.name RETURNING countries.code, countries.name, countries.added
--   image_columns: ['code', 'name', 'added']
--   apply_sql: INSERT INTO public.countries AS t (code, name, added) OVERRIDING SYSTEM VALUE SELECT c1, c2, c3 FROM {rows} ON CONFLICT (code) DO UPDATE SET name = EXCLUDED.name, added = EXCLUDED.added
--   returning: SELECT code, upper(name) FROM (SELECT p.c1 AS code, p.c2 AS name, p.c3 AS added FROM {rows}) AS countries

insert into countries select key, value, null from settings
-- ReferenceWrite: group 0 computes the rows, the others take them over
--   write: True
--   tag: INSERT
--   sql: insert into countries select key, value, null from settings
--   table: public.countries
--   mode: image
--   image_sql: INSERT INTO countries SELECT key, value, NULL FROM settings RETURNING countries.code, countries.name, countries.added
--   image_columns: ['code', 'name', 'added']
--   apply_sql: INSERT INTO public.countries AS t (code, name, added) OVERRIDING SYSTEM VALUE SELECT c1, c2, c3 FROM {rows}
--   rows: False

update countries set name = upper(name) where code = $1 returning *
-- ReferenceWrite: the same write in every group
--   write: True
--   tag: UPDATE
--   sql: update countries set name = upper(name) where code = $1 returning *
--   table: public.countries
--   mode: text

update countries set added = now()
-- ReferenceWrite: group 0 computes the rows, the others take them over
--   write: True
--   tag: UPDATE
--   sql: update countries set added = now()
--   table: public.countries
--   mode: image
--   image_sql: UPDATE countries SET added = now() RETURNING countries.code, countries.name, countries.added
--   image_columns: ['code', 'name', 'added']
--   apply_sql: UPDATE public.countries AS t SET name = p.c2, added = p.c3 FROM {rows} WHERE t.code = p.c1
--   rows: False

delete from countries where random() < 0.5
-- ReferenceWrite: group 0 computes the rows, the others take them over
--   write: True
--   tag: DELETE
--   sql: delete from countries where random() < 0.5
--   table: public.countries
--   mode: image
--   image_sql: DELETE FROM countries WHERE random() < 0.5 RETURNING countries.code, countries.name, countries.added
--   image_columns: ['code', 'name', 'added']
--   apply_sql: DELETE FROM public.countries AS t USING {rows} WHERE t.code = p.c1
--   rows: False

delete from countries where code = 'x'
-- ReferenceWrite: the same write in every group
--   write: True
--   tag: DELETE
--   sql: delete from countries where code = 'x'
--   table: public.countries
--   mode: text
--   rows: False

with x as (delete from countries where code = 'a' returning *) select * from x
-- ReferenceWrite: the same write in every group
--   write: True
--   tag: SELECT
--   sql: with x as (delete from countries where code = 'a' returning *) select * from x
--   table: public.countries
--   mode: text

merge into users u using orders o on u.last_name = o.last_name and u.id = o.user_id when not matched then insert (last_name, id) values (o.last_name, o.user_id)
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: MERGE
--   text: merge into shard_?.users u using shard_?.orders o on u.last_name = o.last_name and u.id = o.user_id when not matched then insert (last_name, id) values (o.last_name, o.user_id)
--   shards: [1, 2, 3]
--   rows: False

merge into users u using orders o on u.last_name = o.last_name and u.id = o.user_id when not matched by source then delete
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: MERGE
--   text: merge into shard_?.users u using shard_?.orders o on u.last_name = o.last_name and u.id = o.user_id when not matched by source then delete
--   shards: [1, 2, 3]
--   rows: False

merge into users u using countries c on u.last_name = c.code when matched then delete
-- Scatter: the rows may lie in any of these shards
--   write: True
--   tag: MERGE
--   text: merge into shard_?.users u using countries c on u.last_name = c.code when matched then delete
--   shards: [1, 2, 3]
--   rows: False

# What other groups hold is fetched first

with x as (select * from countries) insert into users (last_name, id) select name, 1 from x
-- InsertSelect: the query's rows are divided by shard key
--   write: True
--   tag: INSERT
--   source:
--     OneGroup: only tables that every group has
--       tag: SELECT
--       sql: SELECT CAST(q.c1 AS text) AS last_name, CAST(q.c2 AS bigint) AS id FROM (WITH x AS (SELECT * FROM countries) SELECT name, 1 FROM x) AS q(c1, c2)
--   table: public.users
--   columns: ['last_name', 'id']
--   head: INSERT INTO shard_?.users (last_name, id)
--   rows: False

update orders set last_name = e.kind from events e where e.id = orders.user_id
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     Gather: each group answers for its own shards
--       tag: SELECT
--       arm: SELECT id, kind FROM here.events LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       fallback: SELECT id, kind FROM global.events LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   inner:
--     MoveRows: the shard key changes: rows move to the shards that their new keys name
--       write: True
--       tag: UPDATE
--       take: DELETE FROM shard_?.orders USING (SELECT * FROM pgherd.source(1)) e WHERE e.id = orders.user_id RETURNING e.kind::text AS last_name, orders.user_id AS user_id, orders.id AS id, orders.total AS total, orders.note AS note
--       put: INSERT INTO shard_?.orders (last_name, user_id, id, total, note)
--       columns: ['last_name', 'user_id', 'id', 'total', 'note']
--       table: public.orders
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

update users set age = (select max(age) from users)
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     Gather: each group aggregates its own shards; their results are aggregated again
--       tag: SELECT
--       arm: SELECT max(age) FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--       groups: [0, 1]
--       combine: SELECT max(p.c1) AS max FROM {rows}
--       fallback: SELECT max(age) FROM global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET age = (SELECT * FROM pgherd.source(1))
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

update users set age = 1 where last_name in (select last_name from young)
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     Federated: it joins or orders rows of several groups in a way that one server must see whole
--       tag: SELECT
--       sql: SELECT last_name FROM global.young LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--       groups: [0, 1]
--       reads: [0, 1]
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET age = 1 WHERE last_name IN (SELECT * FROM pgherd.source(1))
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

with n as (select key from settings) delete from orders using n where n.key = orders.note
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: DELETE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: WITH n AS (SELECT key FROM settings) SELECT * FROM n
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: DELETE
--       text: WITH n AS (SELECT * FROM pgherd.source(1)) DELETE FROM shard_?.orders USING n WHERE n.key = orders.note
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

update users set age = 1 where exists (select 1 from settings s where s.key = users.email and s.value = $1) and id = $2
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT key, value FROM public.settings
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET age = 1 WHERE EXISTS (SELECT 1 FROM (SELECT * FROM pgherd.source(1)) s WHERE s.key = users.email AND s.value = $1) AND id = $2
--       shards: [1, 2, 3]
--       rows: False
--   numbers: [1, 2]
--   rows: False

update users set email = (select value from settings where key = 'a') where last_name = 'Hill' and id = 1
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT value FROM settings WHERE key = 'a'
--   inner:
--     Single: the shard key is fixed
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET email = (SELECT * FROM pgherd.source(1)) WHERE last_name = 'Hill' AND id = 1
--       keyspace: 1
--       key: ["'Hill'"]
--       rows: False
--       shards: [1]
--   rows: False

# Locking reads over several shards

select * from users order by age for update
-- Scatter: rows are locked in every shard that may hold them, then merged
--   write: True
--   tag: SELECT
--   text: SELECT * FROM shard_?.users WHERE pgherd.at_epoch(7) FOR UPDATE
--   shards: [1, 2, 3]
--   combine: SELECT p.c1 AS last_name, p.c2 AS id, p.c3 AS email, p.c4 AS age, p.c5 AS score, p.c6 AS active, p.c7 AS created FROM {rows} ORDER BY p.c4

select id from orders where total > $1 order by total desc limit $2 offset 3 for update skip locked
-- Scatter: rows are locked in every shard that may hold them, then merged
--   write: True
--   tag: SELECT
--   text: SELECT id, total FROM shard_?.orders WHERE pgherd.at_epoch(7) AND total > $1 ORDER BY total DESC LIMIT $2::bigint + 3::bigint FOR UPDATE SKIP LOCKED
--   shards: [1, 2, 3]
--   combine: SELECT p.c1 AS id FROM {rows} ORDER BY p.c2 DESC LIMIT $1 OFFSET 3
--   combine_params: [2]

delete from orders where (last_name, id) in (select last_name, id from orders order by id limit 1 for update skip locked)
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: DELETE
--   source 1:
--     Scatter: rows are locked in every shard that may hold them, then merged
--       write: True
--       tag: SELECT
--       text: SELECT last_name, id FROM shard_?.orders WHERE pgherd.at_epoch(7) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
--       shards: [1, 2, 3]
--       combine: SELECT p.c1 AS last_name, p.c2 AS id FROM {rows} ORDER BY p.c2 LIMIT 1
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: DELETE
--       text: DELETE FROM shard_?.orders WHERE (last_name, id) IN (SELECT * FROM pgherd.source(1))
--       shards: [1, 2, 3]
--       rows: False
--   rows: False

insert into users (last_name, id) values ('a', 1), ('z', 2) on conflict (last_name, id) do update set age = (select count(*) from settings) returning id
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: INSERT
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT count(*) FROM settings
--   inner:
--     InsertRows: its rows are divided by shard key
--       write: True
--       tag: INSERT
--       head: INSERT INTO shard_?.users (last_name, id) VALUES
--       rows_: {'row': "('a', 1)", 'key': ["'a'"]}
--       rows_: {'row': "('z', 2)", 'key': ["'z'"]}
--       tail: [' ', 'ON CONFLICT (last_name, id) DO UPDATE SET age = (SELECT * FROM pgherd.source(1)) RETURNING id']
--       keyspace: 1
--       table: public.users

update users set (age, email) = (select 1, value from settings limit 1) where id = 5
-- Supplied: what it reads in other groups is fetched first
--   write: True
--   tag: UPDATE
--   source 1:
--     OneGroup: single tables, catalogs or session functions: group 0
--       tag: SELECT
--       sql: SELECT 1, value FROM settings LIMIT 1
--   inner:
--     Scatter: the rows may lie in any of these shards
--       write: True
--       tag: UPDATE
--       text: UPDATE shard_?.users SET (age, email) = (SELECT * FROM pgherd.source(1)) WHERE id = 5
--       shards: [1, 2, 3]
--       rows: False
--   rows: False
