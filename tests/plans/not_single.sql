# Conditions that do not fix the key

select * from users where last_name > 'P'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.users where last_name > 'P' LIMIT CASE WHEN pgherd.still_here(7, '{2,3}') THEN CAST(NULL AS bigint) END
--   group: 1

select * from users where last_name >= 'T'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.users where last_name >= 'T' LIMIT CASE WHEN pgherd.still_here(7, '{3}') THEN CAST(NULL AS bigint) END
--   group: 1

select * from users where last_name between 'A' and 'B'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.users where last_name between 'A' and 'B' LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

select * from users where last_name < 'C' and last_name > 'A'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.users where last_name < 'C' and last_name > 'A' LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

select * from users where last_name in ('Abel', 'Adams')
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.users where last_name in ('Abel', 'Adams') LIMIT CASE WHEN pgherd.still_here(7, '{1}') THEN CAST(NULL AS bigint) END

select * from users where last_name in ('Abel', 'Smith')
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name IN ('Abel', 'Smith') LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name in ('Abel', 'Smith') LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where last_name in ($1, $2)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name IN ($1, $2) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name in ($1, $2) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where last_name = 'Abel' or last_name = 'Smith'
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name = 'Abel' OR last_name = 'Smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name = 'Abel' or last_name = 'Smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where not last_name = 'Smith'
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE NOT last_name = 'Smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where not last_name = 'Smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where lower(last_name) = 'smith'
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE lower(last_name) = 'smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where lower(last_name) = 'smith' LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where last_name = lower($1)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name = lower($1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name = lower($1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where last_name = email
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name = email LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name = email LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from users where last_name = 'Smith' collate "C"
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name = 'Smith' COLLATE "C" LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name = 'Smith' collate "C" LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from events where id = 17.0
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.events WHERE id = 17.0 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.events where id = 17.0 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from events where id = 'x'
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.events WHERE id = 'x' LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.events where id = 'x' LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from events where id = 99999999999999999999
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.events WHERE id = 99999999999999999999 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.events where id = 99999999999999999999 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from events where id::text = '5'
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.events WHERE id::text = '5' LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.events where id::text = '5' LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from events where id = any($1)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.events WHERE id = ANY($1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.events where id = any($1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

select * from visits where day = '2024-01-01'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.visits where day = '2024-01-01' LIMIT CASE WHEN pgherd.still_here(7, '{21,22}') THEN CAST(NULL AS bigint) END
--   group: 1

select * from visits where day = '2023-05-05'
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.visits where day = '2023-05-05' LIMIT CASE WHEN pgherd.still_here(7, '{20}') THEN CAST(NULL AS bigint) END

select * from visits where day = '2024-01-01' and shop > 700
-- OneGroup: all shards it may read lie in one group
--   tag: SELECT
--   sql: select * from global.visits where day = '2024-01-01' and shop > 700 LIMIT CASE WHEN pgherd.still_here(7, '{21,22}') THEN CAST(NULL AS bigint) END
--   group: 1

select * from visits where day = $1
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.visits WHERE day = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.visits where day = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END

# Outer joins fix one side only

select * from users u left join orders o on o.last_name = u.last_name where o.note = 'x' and o.last_name = $1
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u LEFT JOIN here.orders o ON o.last_name = u.last_name WHERE o.note = 'x' AND o.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u left join global.orders o on o.last_name = u.last_name where o.note = 'x' and o.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, "SELECT * FROM shard_1.users u LEFT JOIN shard_1.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) AND o.note = 'x' AND o.last_name = $1"]
--   arms: [1, "(SELECT * FROM shard_2.users u LEFT JOIN shard_2.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) AND o.note = 'x' AND o.last_name = $1) UNION ALL (SELECT * FROM shard_3.users u LEFT JOIN shard_3.orders o ON o.last_name = u.last_name WHERE pgherd.at_epoch(7) AND o.note = 'x' AND o.last_name = $1)"]

select * from users u left join orders o on o.last_name = u.last_name and u.last_name = $1
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users u LEFT JOIN here.orders o ON o.last_name = u.last_name AND u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users u left join global.orders o on o.last_name = u.last_name and u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users u LEFT JOIN shard_1.orders o ON o.last_name = u.last_name AND u.last_name = $1 WHERE pgherd.at_epoch(7)']
--   arms: [1, '(SELECT * FROM shard_2.users u LEFT JOIN shard_2.orders o ON o.last_name = u.last_name AND u.last_name = $1 WHERE pgherd.at_epoch(7)) UNION ALL (SELECT * FROM shard_3.users u LEFT JOIN shard_3.orders o ON o.last_name = u.last_name AND u.last_name = $1 WHERE pgherd.at_epoch(7))']

select * from users u left join orders o on o.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u left join global.orders o on o.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users u full join orders o on o.last_name = u.last_name where u.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u full join global.orders o on o.last_name = u.last_name where u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users u left join orders o on u.last_name = $1 and o.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u left join global.orders o on u.last_name = $1 and o.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

# Different keys

select * from users u join orders o on o.user_id = u.id where u.last_name = $1 and o.last_name = $2
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u join global.orders o on o.user_id = u.id where u.last_name = $1 and o.last_name = $2 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users u, events e where u.last_name = $1 and e.id = $2
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u, global.events e where u.last_name = $1 and e.id = $2 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users where last_name = $1 union all select * from users where last_name = $2
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users where last_name = $1 union all select * from global.users where last_name = $2 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users u where u.last_name = $1 and u.id in (select user_id from orders)
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u where u.last_name = $1 and u.id in (select user_id from global.orders) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from users where last_name = $1 or exists (select 1 from orders o where o.last_name = users.last_name and o.last_name = $1)
-- Gather: each group answers for its own shards
--   tag: SELECT
--   arm: SELECT * FROM here.users WHERE last_name = $1 OR EXISTS (SELECT 1 FROM here.orders o WHERE o.last_name = users.last_name AND o.last_name = $1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN NULL::bigint END
--   groups: [0, 1]
--   fallback: select * from global.users where last_name = $1 or exists (select 1 from global.orders o where o.last_name = users.last_name and o.last_name = $1) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   arms: [0, 'SELECT * FROM shard_1.users WHERE pgherd.at_epoch(7) AND (last_name = $1 OR EXISTS (SELECT 1 FROM shard_1.orders o WHERE o.last_name = users.last_name AND o.last_name = $1))']
--   arms: [1, '(SELECT * FROM shard_2.users WHERE pgherd.at_epoch(7) AND (last_name = $1 OR EXISTS (SELECT 1 FROM shard_2.orders o WHERE o.last_name = users.last_name AND o.last_name = $1))) UNION ALL (SELECT * FROM shard_3.users WHERE pgherd.at_epoch(7) AND (last_name = $1 OR EXISTS (SELECT 1 FROM shard_3.orders o WHERE o.last_name = users.last_name AND o.last_name = $1)))']

select exists (select 1 from users u where not exists (select 1 from orders o where o.last_name = u.last_name and o.last_name = $1))
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select exists (select 1 from global.users u where not exists (select 1 from global.orders o where o.last_name = u.last_name and o.last_name = $1)) LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from (select * from users limit 10) u where u.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from (select * from global.users limit 10) u where u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from (select *, row_number() over (order by id) from users) u where u.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from (select *, row_number() over (order by id) from global.users) u where u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

with u as (select * from users) select * from u a join u b on a.id = b.id where a.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: with u as (select * from global.users) select * from u a join u b on a.id = b.id where a.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0, 1]
--   reads: [0, 1]

select * from settings s join users u on u.last_name = s.value where u.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from settings s join global.users u on u.last_name = s.value where u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0]
--   reads: [0, 1]

select * from users u join pg_class c on c.relname = u.last_name where u.last_name = $1
-- Federated: it joins or orders rows of several groups in a way that one server must see whole
--   tag: SELECT
--   sql: select * from global.users u join pgherd_catalog.pg_class c on c.relname = u.last_name where u.last_name = $1 LIMIT CASE WHEN pgherd.at_epoch(7) THEN CAST(NULL AS bigint) END
--   groups: [0]
--   reads: [0, 1]
