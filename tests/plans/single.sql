# The shard key is fixed

select * from users where last_name = 'Smith'
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where last_name = 'Smith'
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select * from users where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users where $1 = last_name
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where $1 = last_name
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from public.users where public.users.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where shard_?.users.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from "users" u where u.last_name = $1::text
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?."users" u where u.last_name = $1::text
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from "Sales Team".leads where last_name = 'x'
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from "shard_?_Sales Team".leads where last_name = 'x'
--   keyspace: 1
--   key: ["'x'"]
--   shards: [3]

select * from users where last_name in ('Smith')
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where last_name in ('Smith')
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select * from users where last_name = 'Smith' and id = 5 for update
-- Single: the shard key is fixed
--   write: True
--   tag: SELECT
--   text: select * from shard_?.users where last_name = 'Smith' and id = 5 for update LIMIT CASE WHEN pgherd.table_here('shard_?.users') THEN CAST(NULL AS bigint) END
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select * from users where (last_name, id) = ('Smith', 5)
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where (last_name, id) = ('Smith', 5)
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select * from events where id = '17'
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.events where id = '17'
--   keyspace: 2
--   key: ["'17'"]
--   shards: [10]

select * from events where id = 17
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.events where id = 17
--   keyspace: 2
--   key: ["'17'"]
--   shards: [10]

select * from events where id = 17::bigint
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.events where id = 17::bigint
--   keyspace: 2
--   key: ["'17'"]
--   shards: [10]

select * from events where id = -17
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.events where id = -17
--   keyspace: 2
--   key: ["'-17'"]
--   shards: [12]

select * from tokens where id = '6d2cc2ac-9a4c-4b4b-8f4c-1f4d1f1d1f1d'
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.tokens where id = '6d2cc2ac-9a4c-4b4b-8f4c-1f4d1f1d1f1d'
--   keyspace: 4
--   key: ["'6d2cc2ac-9a4c-4b4b-8f4c-1f4d1f1d1f1d'"]
--   shards: [31]

select * from visits where day = '2024-01-01' and shop = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.visits where day = '2024-01-01' and shop = $1
--   keyspace: 3
--   key: ["'2024-01-01'", '$1']
--   shards: [20, 21, 22]

select * from visits where (day, shop) = ($1, $2)
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.visits where (day, shop) = ($1, $2)
--   keyspace: 3
--   key: ['$1', '$2']
--   shards: [20, 21, 22]

# Joins, subqueries, CTEs within a shard

select * from users u join orders o on o.last_name = u.last_name where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u join shard_?.orders o on o.last_name = u.last_name where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users join orders using (last_name) where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users join shard_?.orders using (last_name) where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users natural join orders where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users natural join shard_?.orders where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u, orders o, countries c where o.last_name = u.last_name and u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u, shard_?.orders o, countries c where o.last_name = u.last_name and u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u left join orders o on o.last_name = u.last_name where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u left join shard_?.orders o on o.last_name = u.last_name where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u left join orders o on o.last_name = u.last_name left join orders p on p.last_name = o.last_name where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u left join shard_?.orders o on o.last_name = u.last_name left join shard_?.orders p on p.last_name = o.last_name where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from orders o right join users u on o.last_name = u.last_name where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.orders o right join shard_?.users u on o.last_name = u.last_name where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u where u.last_name = $1 and exists (select 1 from orders o where o.last_name = u.last_name)
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u where u.last_name = $1 and exists (select 1 from shard_?.orders o where o.last_name = u.last_name)
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u where u.last_name = $1 and u.id not in (select user_id from orders where last_name = $1)
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u where u.last_name = $1 and u.id not in (select user_id from shard_?.orders where last_name = $1)
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select *, (select count(*) from orders o where o.last_name = u.last_name) from users u where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select *, (select count(*) from shard_?.orders o where o.last_name = u.last_name) from shard_?.users u where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users where last_name = $1 union all select * from users where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where last_name = $1 union all select * from shard_?.users where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

with u as (select * from users where last_name = $1) select * from u join orders o on o.last_name = u.last_name
-- Single: the shard key is fixed
--   tag: SELECT
--   text: with u as (select * from shard_?.users where last_name = $1) select * from u join shard_?.orders o on o.last_name = u.last_name
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

with u as (select * from users) select * from u where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: with u as (select * from shard_?.users) select * from u where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from (select * from users) u where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from (select * from shard_?.users) u where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from (select last_name, count(*) from users group by last_name) u where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from (select last_name, count(*) from shard_?.users group by last_name) u where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u, lateral (select * from orders o where o.last_name = u.last_name limit 1) x where u.last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u, lateral (select * from shard_?.orders o where o.last_name = u.last_name limit 1) x where u.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select row_number() over (order by id) from users where last_name = $1
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select row_number() over (order by id) from shard_?.users where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select * from users u where u.last_name = 'Abel' and exists (select 1 from orders o where o.last_name = 'Adams')
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users u where u.last_name = 'Abel' and exists (select 1 from shard_?.orders o where o.last_name = 'Adams')
--   keyspace: 1
--   key: ["'Abel'"]
--   shards: [1]

select * from users where last_name = null
-- Single: the shard key is fixed
--   tag: SELECT
--   text: select * from shard_?.users where last_name = null
--   keyspace: 1
--   key: ['NULL']
--   shards: [1, 2, 3]

# Writes within a shard

insert into users (last_name, id) values ('Smith', 1)
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users (last_name, id) values ('Smith', 1)
--   keyspace: 1
--   key: ["'Smith'"]
--   rows: False
--   shards: [2]

insert into users values ($1, $2, $3) on conflict (last_name, id) do update set email = excluded.email, age = users.age + 1 returning *
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users values ($1, $2, $3) on conflict (last_name, id) do update set email = excluded.email, age = users.age + 1 returning *
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

insert into users as u (last_name, id) values ($1, 1), ($1, 2)
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users as u (last_name, id) values ($1, 1), ($1, 2)
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

insert into public.users (last_name, id) values ($1, 1) on conflict (last_name, id) do update set age = public.users.age + 1
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users (last_name, id) values ($1, 1) on conflict (last_name, id) do update set age = shard_?.users.age + 1
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

insert into users (last_name, id) select $1, 5
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users (last_name, id) select $1, 5
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

insert into users (last_name, id) select last_name, id from users where last_name = $1
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users (last_name, id) select last_name, id from shard_?.users where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

insert into users (last_name, id) values ($1, 1) on conflict (last_name, id) do update set last_name = excluded.last_name
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: insert into shard_?.users (last_name, id) values ($1, 1) on conflict (last_name, id) do update set last_name = excluded.last_name
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

update users set age = 5 where last_name = $1
-- Single: the shard key is fixed
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set age = 5 where last_name = $1
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

update users set last_name = $1 where last_name = $1 and id = 3
-- Single: the shard key is fixed
--   write: True
--   tag: UPDATE
--   text: update shard_?.users set last_name = $1 where last_name = $1 and id = 3
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

update users u set age = 5 from orders o where o.last_name = u.last_name and u.last_name = $1 returning u.*
-- Single: the shard key is fixed
--   write: True
--   tag: UPDATE
--   text: update shard_?.users u set age = 5 from shard_?.orders o where o.last_name = u.last_name and u.last_name = $1 returning u.*
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

delete from users where last_name = $1 and id = $2
-- Single: the shard key is fixed
--   write: True
--   tag: DELETE
--   text: delete from shard_?.users where last_name = $1 and id = $2
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

delete from users using orders o where o.last_name = users.last_name and users.last_name = $1
-- Single: the shard key is fixed
--   write: True
--   tag: DELETE
--   text: delete from shard_?.users using shard_?.orders o where o.last_name = users.last_name and users.last_name = $1
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

merge into users u using (values ($1, $2)) as s (last_name, id) on u.last_name = s.last_name and u.id = s.id when matched then update set age = 1 when not matched then insert (last_name, id) values (s.last_name, s.id)
-- Single: the shard key is fixed
--   write: True
--   tag: MERGE
--   text: merge into shard_?.users u using (values ($1, $2)) as s (last_name, id) on u.last_name = s.last_name and u.id = s.id when matched then update set age = 1 when not matched then insert (last_name, id) values (s.last_name, s.id)
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

with d as (delete from orders where last_name = $1 returning *) insert into orders (last_name, user_id, total) select last_name, user_id, total from d
-- Single: the shard key is fixed
--   write: True
--   tag: INSERT
--   text: with d as (delete from shard_?.orders where last_name = $1 returning *) insert into shard_?.orders (last_name, user_id, total) select last_name, user_id, total from d
--   keyspace: 1
--   key: ['$1']
--   rows: False
--   shards: [1, 2, 3]

with x as (update users set age = 1 where last_name = $1 returning id) select * from x
-- Single: the shard key is fixed
--   write: True
--   tag: SELECT
--   text: with x as (update shard_?.users set age = 1 where last_name = $1 returning id) select * from x
--   keyspace: 1
--   key: ['$1']
--   shards: [1, 2, 3]

select id from users where last_name = 'Smith' order by id limit 1 for update
-- Single: the shard key is fixed
--   write: True
--   tag: SELECT
--   text: select id from shard_?.users where last_name = 'Smith' order by id limit CASE WHEN pgherd.table_here('shard_?.users') THEN CAST(1 AS bigint) END for update
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select id from users where last_name = 'Smith' order by id for no key update skip locked limit $1 offset 2
-- Single: the shard key is fixed
--   write: True
--   tag: SELECT
--   text: select id from shard_?.users where last_name = 'Smith' order by id for no key update skip locked limit CASE WHEN pgherd.table_here('shard_?.users') THEN CAST($1 AS bigint) END offset 2
--   keyspace: 1
--   key: ["'Smith'"]
--   shards: [2]

select id from "Sales Team".leads where region = 'o''x' for share
-- Scatter: rows are locked in every shard that may hold them
--   write: True
--   tag: SELECT
--   text: select id from "shard_?_Sales Team".leads where region = 'o''x' for share LIMIT CASE WHEN pgherd.table_here('"shard_?_Sales Team".leads') THEN CAST(NULL AS bigint) END
--   shards: [1, 2, 3]
