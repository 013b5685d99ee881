# One arm for each group, rows one after another

select * from users
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select id, upper(email) from users where age > $1
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT id, upper(email) FROM here.users WHERE age > $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select id, upper(email) from global.users where age > $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users u join orders o on o.last_name = u.last_name and o.user_id = u.id
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u JOIN here.orders o ON o.last_name = u.last_name AND o.user_id = u.id LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u join global.orders o on o.last_name = u.last_name and o.user_id = u.id LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users u JOIN shard_1.orders o ON o.last_name = u.last_name AND o.user_id = u.id WHERE pgherd.at_epoch(7)']
--   arms: [1, '(SELECT * FROM shard_2.users u JOIN shard_2.orders o ON o.last_name = u.last_name AND o.user_id = u.id WHERE pgherd.at_epoch(7)) UNION ALL (SELECT * FROM shard_3.users u JOIN shard_3.orders o ON o.last_name = u.last_name AND o.user_id = u.id WHERE pgherd.at_epoch(7))']

select * from users u left join orders o using (last_name)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u LEFT JOIN here.orders o USING (last_name) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u left join global.orders o using (last_name) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users u LEFT JOIN shard_1.orders o USING (last_name) WHERE pgherd.at_epoch(7)']
--   arms: [1, '(SELECT * FROM shard_2.users u LEFT JOIN shard_2.orders o USING (last_name) WHERE pgherd.at_epoch(7)) UNION ALL (SELECT * FROM shard_3.users u LEFT JOIN shard_3.orders o USING (last_name) WHERE pgherd.at_epoch(7))']

select * from users u join countries c on c.code = u.email
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u JOIN countries c ON c.code = u.email LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u join countries c on c.code = u.email LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select last_name, count(*), count(distinct age), array_agg(id) from users group by last_name
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT last_name, count(*), count(DISTINCT age), array_agg(id) FROM here.users GROUP BY last_name LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select last_name, count(*), count(distinct age), array_agg(id) from global.users group by last_name LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users u where exists (select 1 from orders o where o.last_name = u.last_name)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u WHERE EXISTS (SELECT 1 FROM here.orders o WHERE o.last_name = u.last_name) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u where exists (select 1 from global.orders o where o.last_name = u.last_name) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users u WHERE pgherd.at_epoch(7) AND EXISTS (SELECT 1 FROM shard_1.orders o WHERE o.last_name = u.last_name)']
--   arms: [1, '(SELECT * FROM shard_2.users u WHERE pgherd.at_epoch(7) AND EXISTS (SELECT 1 FROM shard_2.orders o WHERE o.last_name = u.last_name)) UNION ALL (SELECT * FROM shard_3.users u WHERE pgherd.at_epoch(7) AND EXISTS (SELECT 1 FROM shard_3.orders o WHERE o.last_name = u.last_name))']

select * from users u where last_name in (select last_name from orders)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u WHERE last_name IN (SELECT last_name FROM here.orders) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u where last_name in (select last_name from global.orders) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users u WHERE pgherd.at_epoch(7) AND last_name IN (SELECT last_name FROM shard_1.orders)']
--   arms: [1, '(SELECT * FROM shard_2.users u WHERE pgherd.at_epoch(7) AND last_name IN (SELECT last_name FROM shard_2.orders)) UNION ALL (SELECT * FROM shard_3.users u WHERE pgherd.at_epoch(7) AND last_name IN (SELECT last_name FROM shard_3.orders))']

select * from (select last_name, sum(total) as s from orders group by last_name) q where q.s > 5
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM (SELECT last_name, sum(total) AS s FROM here.orders GROUP BY last_name) q WHERE q.s > 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from (select last_name, sum(total) as s from global.orders group by last_name) q where q.s > 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from "Sales Team".leads
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM "here_Sales Team".leads LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from "global_Sales Team".leads LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from public.users where public.users.age = 5
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE here.users.age = 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where global.users.age = 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users, country_names
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users, country_names LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users, country_names LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

# Partial aggregates

select count(*) from users
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT count(*) FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT COALESCE(sum(p.c1), 0)::bigint AS count FROM {rows}
--   fallback: select count(*) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select count(*), sum(age), avg(age), min(email), max(created), bool_and(active) from users where score > 1
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT count(*), sum(age), count(age), min(email), max(created), bool_and(active) FROM here.users WHERE score > 1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT COALESCE(sum(p.c1), 0)::bigint AS count, sum(p.c2)::{t2} AS sum, sum(p.c2) / (NULLIF(sum(p.c3), 0)) AS avg, min(p.c4) AS min, max(p.c5) AS max, bool_and(p.c6) AS bool_and FROM {rows}
--   fallback: select count(*), sum(age), avg(age), min(email), max(created), bool_and(active) from global.users where score > 1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select age, count(*) from users group by age
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT age, count(*) FROM here.users GROUP BY age LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS age, COALESCE(sum(p.c2), 0)::bigint AS count FROM {rows} GROUP BY p.c1
--   fallback: select age, count(*) from global.users group by age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select age as a, count(*) from users group by a order by 2 desc limit 10
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT age, count(*) FROM here.users GROUP BY age LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS a, COALESCE(sum(p.c2), 0)::bigint AS count FROM {rows} GROUP BY p.c1 ORDER BY 2 DESC LIMIT 10
--   fallback: select age as a, count(*) from global.users group by a order by 2 desc limit CASE WHEN pgherd.at_epoch(7) THEN CAST(10 AS bigint) END

select upper(email), sum(score) / count(*) * 100.0 as m from users group by 1 having count(*) > $1 order by m limit $2 offset $3
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT upper(email), sum(score), count(*) FROM here.users GROUP BY upper(email) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS upper, (sum(p.c2)::{t2} / COALESCE(sum(p.c3), 0)::bigint) * 100.0 AS m FROM {rows} GROUP BY p.c1 HAVING COALESCE(sum(p.c3), 0)::bigint > $1 ORDER BY m LIMIT $2 OFFSET $3
--   combine_params: [1, 2, 3]
--   fallback: select upper(email), sum(score) / count(*) * 100.0 as m from global.users group by 1 having count(*) > $1 order by m limit CASE WHEN pgherd.at_epoch(7) THEN CAST($2 AS bigint) END offset $3

select count(*) filter (where active), sum(age) filter (where active) from users
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT count(*) FILTER (WHERE active), sum(age) FILTER (WHERE active) FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT COALESCE(sum(p.c1), 0)::bigint AS count, sum(p.c2)::{t2} AS sum FROM {rows}
--   fallback: select count(*) filter (where active), sum(age) filter (where active) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select distinct age from users
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT DISTINCT age FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT DISTINCT p.c1 AS age FROM {rows}
--   fallback: select distinct age from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select distinct age, count(*) from users group by age, email order by age
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT age, email, count(*) FROM here.users GROUP BY age, email LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT DISTINCT p.c1 AS age, COALESCE(sum(p.c3), 0)::bigint AS count FROM {rows} GROUP BY p.c1, p.c2 ORDER BY age
--   fallback: select distinct age, count(*) from global.users group by age, email order by age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select c.name, count(*) from users u cross join countries c group by c.name
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT c.name, count(*) FROM here.users u CROSS JOIN countries c GROUP BY c.name LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS name, COALESCE(sum(p.c2), 0)::bigint AS count FROM {rows} GROUP BY p.c1
--   fallback: select c.name, count(*) from global.users u cross join countries c group by c.name LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select o.note, sum(o.total) from users u join orders o using (last_name) group by o.note
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT o.note, sum(o.total) FROM here.users u JOIN here.orders o USING (last_name) GROUP BY o.note LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS note, sum(p.c2)::{t2} AS sum FROM {rows} GROUP BY p.c1
--   fallback: select o.note, sum(o.total) from global.users u join global.orders o using (last_name) group by o.note LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT o.note, sum(o.total) FROM shard_1.users u JOIN shard_1.orders o USING (last_name) WHERE pgherd.at_epoch(7) GROUP BY o.note']
--   arms: [1, '(SELECT o.note, sum(o.total) FROM shard_2.users u JOIN shard_2.orders o USING (last_name) WHERE pgherd.at_epoch(7) GROUP BY o.note) UNION ALL (SELECT o.note, sum(o.total) FROM shard_3.users u JOIN shard_3.orders o USING (last_name) WHERE pgherd.at_epoch(7) GROUP BY o.note)']

select count(*) * $1 from users
-- Gather: each group aggregates its own shards; their results are aggregated again
--   tag: SELECT
--   arm: SELECT count(*) FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT COALESCE(sum(p.c1), 0)::bigint * $1 AS "?column?" FROM {rows}
--   combine_params: [1]
--   fallback: select count(*) * $1 from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select count(distinct age) from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select count(distinct age) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select string_agg(email, ',') from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select string_agg(email, ',') from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select stddev(age) from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select stddev(age) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select sum(sum(age)) over () from users group by age
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select sum(sum(age)) over () from global.users group by age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select age, count(*) from users group by rollup (age)
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select age, count(*) from global.users group by rollup (age) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select count(*) from users where last_name > 'P'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select count(*) from global.users where last_name > 'P' LIMIT CASE WHEN pgherd.still_here(7, '{2,3}') THEN CAST(NULL AS bigint) END
--   group: 1

select '{rows}' as x, count(*) from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select '{rows}' as x, count(*) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

# Order and limit

select * from users order by age
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT * FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS last_name, p.c2 AS id, p.c3 AS email, p.c4 AS age, p.c5 AS score, p.c6 AS active, p.c7 AS created FROM {rows} ORDER BY p.c4
--   fallback: select * from global.users order by age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users order by age limit 10
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT * FROM here.users ORDER BY age LIMIT CASE WHEN pgherd.at_epoch(7) THEN 10::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS last_name, p.c2 AS id, p.c3 AS email, p.c4 AS age, p.c5 AS score, p.c6 AS active, p.c7 AS created FROM {rows} ORDER BY p.c4 LIMIT 10
--   fallback: select * from global.users order by age limit CASE WHEN pgherd.at_epoch(7) THEN CAST(10 AS bigint) END

select id, email as e from users order by e desc nulls last, lower(last_name) limit $1 offset $2
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT id, email AS e, lower(last_name) FROM here.users ORDER BY e DESC NULLS LAST, lower(last_name) LIMIT CASE WHEN pgherd.at_epoch(7) THEN ($1::bigint + $2::bigint)::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS id, p.c2 AS e FROM {rows} ORDER BY p.c2 DESC NULLS LAST, p.c3 LIMIT $1 OFFSET $2
--   combine_params: [1, 2]
--   fallback: select id, email as e from global.users order by e desc nulls last, lower(last_name) limit CASE WHEN pgherd.at_epoch(7) THEN CAST($1 AS bigint) END offset $2

select id from users order by email collate "C" limit 3
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT id, email COLLATE "C" FROM here.users ORDER BY email COLLATE "C" LIMIT CASE WHEN pgherd.at_epoch(7) THEN 3::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS id FROM {rows} ORDER BY p.c2 COLLATE "C" LIMIT 3
--   fallback: select id from global.users order by email collate "C" limit CASE WHEN pgherd.at_epoch(7) THEN CAST(3 AS bigint) END

select * from users limit 5
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT * FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN 5::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS last_name, p.c2 AS id, p.c3 AS email, p.c4 AS age, p.c5 AS score, p.c6 AS active, p.c7 AS created FROM {rows} LIMIT 5
--   fallback: select * from global.users limit CASE WHEN pgherd.at_epoch(7) THEN CAST(5 AS bigint) END

select * from users offset 5
-- Gather: each group answers for its own shards; their rows are merged
--   tag: SELECT
--   arm: SELECT * FROM here.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   combine: SELECT p.c1 AS last_name, p.c2 AS id, p.c3 AS email, p.c4 AS age, p.c5 AS score, p.c6 AS active, p.c7 AS created FROM {rows} OFFSET 5
--   fallback: select * from global.users offset 5 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select distinct on (age) age, id from users order by age, id
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select distinct on (age) age, id from global.users order by age, id LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select id from users order by age limit (select 3)
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select id from global.users order by age limit CASE WHEN pgherd.at_epoch(7) THEN CAST((select 3) AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

# Federated

select * from users u join events e on e.n = u.age
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u join global.events e on e.n = u.age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users u join users v on u.age = v.age
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u join global.users v on u.age = v.age LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select count(*) from countries c left join users u on u.email = c.code
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select count(*) from countries c left join global.users u on u.email = c.code LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select count(*) from (select * from users limit 3) q
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select count(*) from (select * from global.users limit 3) q LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select last_name from users union select last_name from orders
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select last_name from global.users union select last_name from global.orders LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select *, row_number() over (order by id) from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select *, row_number() over (order by id) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from young
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.young LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users, settings
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users, settings LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0]
--   reads: [0, 1]

select * from users where score > (select avg(score) from users)
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users where score > (select avg(score) from global.users) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

with recursive t as (select last_name, 1 as n from users union all select last_name, n + 1 from t where n < 3) select count(*) from t
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: with recursive t as (select last_name, 1 as n from global.users union all select last_name, n + 1 from t where n < 3) select count(*) from t LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select ctid from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select ctid from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select my_function(id) from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   write: True
--   tag: SELECT
--   sql: select my_function(id) from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select nextval('s'), id from users
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   write: True
--   tag: SELECT
--   sql: select nextval('s'), id from global.users LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0]
--   reads: [0, 1]

select u.id, u.email, count(*) from users u join orders o on o.last_name = u.last_name group by u.last_name, u.id
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT u.id, u.email, count(*) FROM here.users u JOIN here.orders o ON o.last_name = u.last_name GROUP BY u.last_name, u.id, u.email LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: SELECT u.id, u.email, count(*) FROM global.users u JOIN global.orders o ON o.last_name = u.last_name GROUP BY u.last_name, u.id, u.email LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT u.id, u.email, count(*) FROM shard_1.users u JOIN shard_1.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) GROUP BY u.last_name, u.id, u.email']
--   arms: [1, '(SELECT u.id, u.email, count(*) FROM shard_2.users u JOIN shard_2.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) GROUP BY u.last_name, u.id, u.email) UNION ALL (SELECT u.id, u.email, count(*) FROM shard_3.users u JOIN shard_3.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) GROUP BY u.last_name, u.id, u.email)']

# Locks in every shard

select * from users where age = 5 for update
-- Scatter: rows are locked in every shard that may hold them
--   write: True
--   tag: SELECT
--   text: select * from shard_?.users where age = 5 for update LIMIT CASE WHEN pgherd.table_here('shard_?.users') THEN CAST(NULL AS bigint) END
--   shards: [1, 2, 3]

select * from users u join orders o using (last_name) where u.age = 5 for update of u skip locked
-- Scatter: rows are locked in every shard that may hold them
--   write: True
--   tag: SELECT
--   text: select * from shard_?.users u join shard_?.orders o using (last_name) where u.age = 5 for update of u skip locked LIMIT CASE WHEN pgherd.table_here('shard_?.users') THEN CAST(NULL AS bigint) END
--   shards: [1, 2, 3]
