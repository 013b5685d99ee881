-- mode: reads
-- Reads of one table, expressions, ordering, limits.

SELECT * FROM users

SELECT * FROM users ORDER BY last_name, id

SELECT last_name, id FROM users WHERE last_name = 'Hill' ORDER BY id

SELECT * FROM users WHERE last_name = 'Hill' AND id = 2

-- params: ["Hill", "2"]
SELECT * FROM users WHERE last_name = $1 AND id = $2

-- params: ["30"]
SELECT id FROM users WHERE age > $1 ORDER BY id

-- params: ["Hill", null]
SELECT id FROM users WHERE last_name = $1 AND email IS NOT DISTINCT FROM $2

-- params: ["{Hill,Zorn}"]
SELECT id, last_name FROM users WHERE last_name = ANY($1) ORDER BY id

-- params: ["2", "3"]
SELECT id FROM users ORDER BY id LIMIT $1 OFFSET $2

SELECT id, last_name FROM users WHERE last_name IN ('Hill', 'Zorn') ORDER BY last_name DESC, id

SELECT id FROM users WHERE last_name BETWEEN 'B' AND 'M' ORDER BY 1

SELECT id FROM users WHERE last_name LIKE 'A%' ORDER BY 1

SELECT id FROM users WHERE last_name > 'P' AND age IS NOT NULL ORDER BY age, id

SELECT id FROM users WHERE (last_name, id) > ('Moore', 10) ORDER BY last_name, id LIMIT 5

SELECT id FROM users WHERE NOT (last_name = 'Hill') AND id < 12 ORDER BY id

SELECT id FROM users WHERE last_name = 'Hill' OR age = 24 ORDER BY id

SELECT id FROM users WHERE last_name IS NULL

SELECT id FROM users WHERE false

SELECT id FROM users WHERE last_name = NULL

SELECT id, age FROM users ORDER BY age DESC NULLS LAST, id LIMIT 7 OFFSET 3

SELECT id, age FROM users ORDER BY age NULLS FIRST, id DESC

-- ties
SELECT age FROM users ORDER BY age FETCH FIRST 5 ROWS WITH TIES

SELECT age, id FROM users ORDER BY 1, 2 OFFSET 38

SELECT first_name || '!' AS shout, upper(last_name), length(email) FROM users ORDER BY id

SELECT id AS "Id", age + 1 AS "next AGE", 'x' FROM users WHERE id < 4 ORDER BY "Id"

SELECT u.*, 1 AS one FROM users u ORDER BY u.id LIMIT 2

SELECT users::text FROM users WHERE id = 3

SELECT (u).id, u.doc ->> 'n', doc -> 'list' -> 0 FROM users u WHERE id < 5 ORDER BY 1

SELECT id, tags[1], tags[1:2], array_length(tags, 1) FROM users WHERE 't1' = ANY(tags) ORDER BY id

SELECT id FROM users WHERE tags && ARRAY['t2'] ORDER BY id

SELECT id FROM users WHERE doc @> '{"even": true}' AND doc ? 'n' ORDER BY id

SELECT id, feeling FROM users WHERE feeling > 'sad' ORDER BY feeling, id

SELECT id, feeling::text, wait, seen AT TIME ZONE 'UTC', level, full_name FROM users ORDER BY id LIMIT 6

SELECT id, date_trunc('month', seen), extract(dow FROM seen), born + 30, age(born, date '1979-01-01') FROM users ORDER BY id

SELECT CASE WHEN age > 30 THEN 'old' WHEN age IS NULL THEN 'unknown' ELSE 'young' END AS class, id FROM users ORDER BY 1, 2

SELECT coalesce(first_name, 'none'), nullif(age, 31), greatest(age, id), least(age, 20) FROM users ORDER BY id

SELECT DISTINCT first_name FROM users ORDER BY first_name

SELECT DISTINCT country, feeling FROM users ORDER BY country NULLS FIRST, feeling

SELECT DISTINCT ON (last_name) last_name, id, age FROM users ORDER BY last_name, age DESC NULLS LAST, id

SELECT DISTINCT ON (country) country, last_name, id FROM users ORDER BY country, id DESC

SELECT id FROM users ORDER BY full_name, id LIMIT 10

SELECT id FROM users ORDER BY last_name COLLATE "C" DESC, id DESC LIMIT 4

SELECT id, kind, n, at, payload, ratio, cost, bits FROM events ORDER BY id

SELECT * FROM events WHERE id = 7

SELECT * FROM events WHERE id IN (1, 2, 3, 99) ORDER BY id

SELECT * FROM docs ORDER BY id

SELECT * FROM docs WHERE id = '00000000-0000-4000-8000-000000000007'

SELECT (corner).x, lower(span), host FROM docs WHERE (corner).y > 10 ORDER BY 1

SELECT * FROM words WHERE word = 'w3'

SELECT * FROM words ORDER BY hits, word

SELECT * FROM posts ORDER BY id

SELECT * FROM readings WHERE region = 'north' ORDER BY at, sensor

SELECT * FROM readings WHERE region = 'north' AND at = '2024-01-02 00:00+00' ORDER BY sensor

SELECT * FROM readings WHERE region = 'north' AND at >= '2024-01-05 00:00+00' ORDER BY at, sensor

SELECT * FROM shop.carts ORDER BY owner, id

SELECT carts.total, shop.carts.id FROM shop.carts WHERE shop.carts.owner = 'c' ORDER BY 2

SELECT * FROM shop.prices ORDER BY sku

SELECT * FROM countries ORDER BY code

SELECT * FROM settings ORDER BY key

SELECT * FROM adults ORDER BY last_name, id

SELECT * FROM adults WHERE last_name = 'Hill' ORDER BY id

SELECT * FROM totals ORDER BY last_name, user_id

SELECT * FROM totals WHERE last_name = 'Zorn' ORDER BY user_id

SELECT * FROM notes ORDER BY key

SELECT public.users.id FROM public.users ORDER BY public.users.id LIMIT 3

TABLE words

VALUES (1, 'a'), (2, 'b')

VALUES (1, 'a'), (2, 'b') ORDER BY 1 DESC LIMIT 1

SELECT

SELECT FROM users WHERE id < 3

SELECT 1 AS a, 'x' AS b, NULL AS c, 1.5, true, now() IS NOT NULL

SELECT generate_series(1, 3) AS n

SELECT id, unnest(tags) AS tag FROM users WHERE id < 6 ORDER BY id, tag

SELECT id, generate_series(1, 2) FROM users WHERE id < 4 ORDER BY 1, 2

SELECT id, unnest(tags) AS tag FROM users ORDER BY tag, id LIMIT 9

SELECT count(*) FROM (SELECT unnest(tags) FROM users) t

SELECT tableoid IS NOT NULL, xmin IS NOT NULL FROM users WHERE last_name = 'Hill' AND id = 2

SELECT last_name FROM users WHERE md5(email) > 'a' ORDER BY md5(email)

SELECT id FROM users TABLESAMPLE BERNOULLI (100) ORDER BY id

SELECT id, xmlelement(name a, last_name)::text FROM users WHERE id < 3 ORDER BY 1

SELECT to_jsonb(u) FROM users u WHERE id = 5

SELECT row_to_json(u) FROM (SELECT id, last_name FROM users ORDER BY id LIMIT 3) u

SELECT * FROM users WHERE id = (SELECT max(id) FROM users)

SELECT 'a' 'b'

SELECT E'a\tb', $$dollar$$, U&'d\0061t\+000061', B'101', X'1F'

SELECT "last_name" FROM "users" AS "U" WHERE "U"."id" = 3 -- a comment

SELECT /* one /* nested */ comment */ id FROM users WHERE id = 3;

SELECT id FROM users WHERE last_name = 'Hill' AND last_name = 'Zorn'

SELECT id FROM users WHERE last_name = 'Hill'::varchar(2)

SELECT id FROM users WHERE last_name = 'Hi' || 'll' ORDER BY id

SELECT id FROM users WHERE last_name = lower('HILL') ORDER BY id

SELECT id FROM events WHERE id = 3.0

SELECT id FROM events WHERE id = '3'

SELECT id FROM events WHERE id = 3.5

SELECT id FROM events WHERE id::text = '3'

SELECT id FROM events WHERE id + 0 = 3

SELECT id FROM events WHERE id = 3::smallint

SELECT id FROM events WHERE 3 = id

SELECT id FROM events WHERE id = -3

SELECT id FROM events WHERE id > 25 AND id <= 28 ORDER BY id

SELECT id FROM users WHERE last_name = current_user

SELECT id FROM users WHERE last_name ILIKE 'hill' ORDER BY id

SELECT id FROM users WHERE last_name ~ '^[AB]' ORDER BY id

SELECT id FROM users WHERE id % 5 = 0 AND last_name IN (SELECT 'Hill') ORDER BY id

-- params: ["3"]
SELECT id FROM events WHERE id = $1::int

-- params: ["3"]
SELECT id FROM events WHERE id = $1::int + 1

-- params: ["{1,2,77}"]
SELECT id FROM events WHERE id = ANY($1::bigint[]) ORDER BY id

-- params: ["1", "2"]
SELECT id FROM events WHERE id IN ($1, $2) ORDER BY id

-- params: [null]
SELECT id FROM events WHERE id = $1

-- params: ["abc"]
SELECT id FROM events WHERE id = $1

-- params: ["login"]
SELECT $1 AS p, kind, id FROM events WHERE kind = $1 ORDER BY id

-- params: ["w1"]
SELECT word, $1::text || 'x' FROM words WHERE word = $1

-- params: ["5"]
SELECT sum(n) + $1 FROM events
