-- mode: reads
-- What ORMs and tools send: Django, SQLAlchemy, Rails, Hibernate, psql.

SELECT "users"."last_name", "users"."id", "users"."age" FROM "users" WHERE "users"."id" IN (1, 2, 3) ORDER BY "users"."id" ASC LIMIT 21

SELECT COUNT(*) AS "__count" FROM "users"

SELECT 1 AS "a" FROM "users" WHERE "users"."last_name" = 'Hill' LIMIT 1

SELECT COUNT("users"."id") FILTER (WHERE "users"."active") AS "n", AVG("users"."age") AS "age__avg" FROM "users"

SELECT "users"."country", COUNT("users"."id") AS "n" FROM "users" GROUP BY "users"."country" HAVING COUNT("users"."id") > 3 ORDER BY "n" DESC, 1

SELECT DISTINCT "users"."country" AS "country" FROM "users" WHERE NOT ("users"."country" IS NULL) ORDER BY 1 ASC

SELECT "users"."id", EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE (U0."last_name" = ("users"."last_name") AND U0."user_id" = ("users"."id")) LIMIT 1) AS "has" FROM "users" ORDER BY "users"."id"

SELECT "users"."id", (SELECT U0."amount" FROM "orders" U0 WHERE (U0."last_name" = ("users"."last_name") AND U0."user_id" = ("users"."id")) ORDER BY U0."amount" DESC LIMIT 1) AS "top" FROM "users" ORDER BY 1

SELECT "users"."id" FROM "users" INNER JOIN "countries" ON ("users"."country" = "countries"."code") WHERE UPPER("countries"."name"::text) LIKE UPPER('%ger%') ORDER BY 1

SELECT DATE_TRUNC('day', "events"."at") AS "d", COUNT("events"."id") AS "c" FROM "events" GROUP BY 1 ORDER BY 1 ASC

SELECT (EXTRACT(YEAR FROM "users"."seen" AT TIME ZONE 'UTC')) AS "y", COUNT(*) AS "c" FROM "users" GROUP BY 1

SELECT "users"."id" FROM "users" WHERE ("users"."doc" -> 'even') = 'true'::jsonb ORDER BY 1

SELECT "users"."id" FROM "users" WHERE "users"."tags" @> (ARRAY['t1'])::text[] ORDER BY 1

SELECT "users"."id", ROW_NUMBER() OVER (PARTITION BY "users"."country" ORDER BY "users"."age" DESC, "users"."id") AS "rn" FROM "users" ORDER BY 1

SELECT "col1" FROM (SELECT "users"."id" AS "col1" FROM "users" ORDER BY "users"."id" LIMIT 5) "subquery" ORDER BY 1

SELECT users.last_name AS users_last_name, users.id AS users_id, orders_1.no AS orders_1_no FROM users LEFT OUTER JOIN orders AS orders_1 ON users.last_name = orders_1.last_name AND users.id = orders_1.user_id ORDER BY users.id, orders_1.no

SELECT anon_1.users_id AS anon_1_users_id, orders_1.no FROM (SELECT users.last_name AS users_last_name, users.id AS users_id FROM users ORDER BY users.id LIMIT 3) AS anon_1 LEFT OUTER JOIN orders AS orders_1 ON anon_1.users_last_name = orders_1.last_name AND anon_1.users_id = orders_1.user_id ORDER BY 1, 2

SELECT orders.last_name AS orders_last_name, orders.user_id, orders.no FROM orders WHERE (orders.last_name, orders.user_id) IN (('Hill', 2), ('Zorn', 6), ('Park', 11)) ORDER BY 1, 2, 3

SELECT count(*) AS count_1 FROM (SELECT users.id AS users_id FROM users WHERE users.age > 20) AS anon_1

SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1

SELECT "users".* FROM "users" WHERE "users"."last_name" = 'Hill' AND "users"."id" = 2 LIMIT 1

SELECT SUM("orders"."amount") AS sum_amount, "users"."country" AS users_country FROM "users" INNER JOIN "orders" ON "orders"."last_name" = "users"."last_name" AND "orders"."user_id" = "users"."id" GROUP BY "users"."country"

SELECT "users"."id" FROM "users" WHERE ("users"."age" BETWEEN 20 AND 30) AND "users"."last_name" != 'Hill' ORDER BY "users"."last_name" ASC, "users"."id" DESC LIMIT 5 OFFSET 2

select u1_0.last_name,u1_0.id,u1_0.age from users u1_0 where u1_0.last_name='Hill' and u1_0.id=2

select u1_0.id,o1_0.no from users u1_0 left join orders o1_0 on u1_0.last_name=o1_0.last_name and u1_0.id=o1_0.user_id where u1_0.age>30 order by u1_0.id,o1_0.no fetch first 7 rows only

select count(*) from users u1_0 where u1_0.id in (select o1_0.user_id from orders o1_0 where o1_0.amount>50)

select distinct u1_0.country from users u1_0 order by u1_0.country offset 1 rows

-- params: ["Hill", "2"]
SELECT "users"."age" FROM "users" WHERE ("users"."last_name" = $1 AND "users"."id" = $2) LIMIT 21

-- params: ["2", "10"]
SELECT "users".* FROM "users" WHERE "users"."level" = $1 ORDER BY "users"."id" ASC LIMIT $2

-- params: ["{1,5,9}"]
SELECT id FROM users WHERE id = ANY($1::int8[]) ORDER BY id

-- params: ["20", "5", "0"]
SELECT u.id, c.name FROM users u LEFT JOIN countries c ON c.code = u.country WHERE u.age >= $1 ORDER BY u.id LIMIT $2 OFFSET $3

-- params: ["%a%", "h%"]
SELECT id FROM users WHERE first_name ILIKE $1 OR last_name ILIKE $2 ORDER BY id

-- params: ["2024-03-05T00:00:00Z", "2024-03-20T00:00:00Z"]
SELECT count(*), min(seen), max(seen) FROM users WHERE seen >= $1 AND seen < $2

select current_schema()

SELECT version() LIKE 'PostgreSQL%'

show transaction isolation level

show standard_conforming_strings

SELECT t.oid > 0, typarray > 0 FROM pg_type t WHERE t.typname = 'hstore'

SELECT typname FROM pg_type WHERE typname IN ('mood', 'positive', 'point2') ORDER BY 1

SELECT e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typname = 'mood' ORDER BY e.enumsortorder

SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'users' AND table_schema = 'public' ORDER BY ordinal_position

SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2

SELECT kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu ON kcu.constraint_name = tc.constraint_name AND kcu.table_name = tc.table_name WHERE tc.table_name = 'users' AND tc.constraint_type = 'PRIMARY KEY' ORDER BY kcu.ordinal_position

SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype IN ('p', 'f') ORDER BY conname

SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename IN ('users', 'orders', 'events') ORDER BY 1

SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1

SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1

SELECT schemaname, viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1, 2

SELECT relname FROM pg_class WHERE oid = 'shop.carts'::regclass

SELECT has_table_privilege('users', 'SELECT'), pg_table_is_visible('users'::regclass)

SELECT pg_get_serial_sequence('logs', 'id')

SELECT pg_catalog.pg_encoding_to_char(6), current_database() IS NOT NULL, current_user, session_user

SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND sequencename NOT LIKE 'posts%' ORDER BY 1

SELECT to_regclass('users'), to_regclass('nowhere')
