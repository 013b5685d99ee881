-- mode: writes
-- tables: users orders events event_parts words posts readings shop.carts countries settings banned
-- Statements in which earlier versions, or other sharding layers, went wrong.

INSERT INTO words (word, hits) VALUES ('w1', 1), ('n1', 2) ON CONFLICT (word) DO UPDATE SET hits = (SELECT max(priority) FROM settings) RETURNING word, hits

INSERT INTO words (word, hits) VALUES ('w1', 1) ON CONFLICT (word) DO UPDATE SET hits = (SELECT count(*) FROM users)

INSERT INTO words (word, hits) VALUES ('w1', 1), ('n2', 2) RETURNING word, (SELECT max(priority) FROM settings)

UPDATE words SET hits = hits + 1 WHERE hits = 2 RETURNING word, (SELECT max(priority) FROM settings) AS top, (SELECT count(*) FROM users)

DELETE FROM words WHERE hits = 3 RETURNING word, EXISTS (SELECT 1 FROM settings s WHERE s.priority = words.hits)

UPDATE users SET (age, email) = (SELECT s.priority, s.value FROM settings s WHERE s.key = 'a') WHERE id < 6

UPDATE users u SET age = (SELECT count(*) FROM events e WHERE e.n = u.level), email = (SELECT min(kind) FROM events)

UPDATE users SET age = (SELECT u2.age FROM users u2 WHERE u2.id = users.id + 1)

UPDATE users SET age = x.n FROM (SELECT country, count(*) AS n FROM users GROUP BY country) x WHERE x.country = users.country RETURNING users.id, x.*

UPDATE orders SET note = u.first_name FROM users u WHERE u.id = orders.user_id AND u.first_name IS NOT NULL

DELETE FROM orders o WHERE amount < (SELECT avg(amount) FROM orders)

DELETE FROM orders o WHERE amount < (SELECT avg(amount) FROM orders i WHERE i.note = o.note)

DELETE FROM events WHERE id IN (SELECT max(id) FROM events GROUP BY kind) AND NOT EXISTS (SELECT FROM event_parts p WHERE p.event_id = events.id)

DELETE FROM words WHERE (word, hits) NOT IN (SELECT key, priority FROM settings WHERE priority IS NOT NULL) AND hits < 2

DELETE FROM words WHERE word NOT IN (SELECT NULL::text FROM settings)

DELETE FROM words WHERE word IN ('w1', 'w2') OR hits IN (SELECT priority FROM settings)

UPDATE words SET last = (SELECT born FROM users WHERE last_name = 'Hill' AND id = 2), hits = 5 WHERE word > 'w2'

UPDATE words SET hits = CASE WHEN word IN (SELECT 'w' || user_id FROM banned) THEN 0 ELSE hits END

UPDATE words SET word = 'moved' || hits FROM settings s WHERE s.priority = words.hits AND s.key = 'a' AND words.word = 'w1' RETURNING word

UPDATE shop.carts SET total = p.price FROM shop.prices p WHERE p.sku = 'x' AND shop.carts.owner = 'c' RETURNING shop.carts.id, p.price

UPDATE shop.carts c SET total = (SELECT price FROM shop.prices WHERE shop.prices.sku = 'y') WHERE c.total > (SELECT max(shop.prices.price) FROM shop.prices)

INSERT INTO settings SELECT word, last::text, hits FROM words WHERE hits > 3 ON CONFLICT DO NOTHING

INSERT INTO orders (last_name, user_id, no, amount) SELECT u.last_name, u.id, 70, s.priority FROM users u JOIN settings s ON s.priority = u.level WHERE s.key <> 'c'

INSERT INTO orders (last_name, user_id, no, amount) SELECT last_name, id, 71, row_number() OVER (ORDER BY id) FROM users ORDER BY id LIMIT 5 RETURNING user_id, amount

WITH s AS (SELECT last_name, id FROM users WHERE age > 40), m AS (SELECT max(no) AS no FROM orders) INSERT INTO orders (last_name, user_id, no) SELECT s.last_name, s.id, m.no + 1 FROM s, m

WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) UPDATE events SET n = t.n FROM t WHERE t.n = events.id RETURNING events.id, events.n

WITH b AS (SELECT user_id FROM banned WHERE user_id IS NOT NULL), c AS (SELECT user_id + 1 AS id FROM b) DELETE FROM event_parts WHERE event_id IN (SELECT id FROM c) OR event_id IN (SELECT user_id FROM b)

UPDATE countries SET members = 0 WHERE code IN (SELECT country FROM users WHERE age > 40)

DELETE FROM countries WHERE code NOT IN (SELECT country FROM users WHERE country IS NOT NULL)

UPDATE banned SET why = (SELECT string_agg(last_name, ',' ORDER BY id) FROM users WHERE users.id = banned.user_id)

DELETE FROM settings WHERE priority IN (SELECT level FROM users)

MERGE INTO words w USING (SELECT kind, count(*)::int AS n FROM events GROUP BY kind) e ON w.word = e.kind WHEN MATCHED THEN UPDATE SET hits = e.n

MERGE INTO events e USING event_parts p ON p.event_id = e.id AND p.part = 1 WHEN MATCHED THEN UPDATE SET kind = p.body WHEN NOT MATCHED THEN DO NOTHING

-- refused
MERGE INTO words w USING settings s ON s.key = w.word WHEN NOT MATCHED THEN INSERT VALUES (s.key, 1, NULL)

SELECT * FROM (SELECT last_name, id, rank() OVER (ORDER BY score) AS r FROM users) t WHERE last_name = 'Hill' ORDER BY id

SELECT * FROM (SELECT last_name, id FROM users ORDER BY id LIMIT 10) t WHERE last_name = 'Hill' ORDER BY id

SELECT DISTINCT ON (u.last_name) u.last_name, o.amount FROM users u LEFT JOIN orders o ON o.last_name = u.last_name ORDER BY u.last_name, o.amount DESC NULLS LAST

SELECT u.last_name, count(o.no), count(*) FROM users u LEFT JOIN orders o ON o.last_name = u.last_name AND o.amount > 100 GROUP BY u.last_name ORDER BY 1

SELECT u.id FROM users u LEFT JOIN orders o ON o.last_name = u.last_name WHERE o.last_name = 'Hill' ORDER BY 1, o.no

SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.last_name = 'Hill' AND o.user_id = u.id WHERE u.id < 20 ORDER BY 1, 2

SELECT u.id FROM users u LEFT JOIN orders o ON o.last_name = u.last_name AND u.last_name = 'Hill' WHERE u.id < 6 ORDER BY 1, o.no

SELECT count(*) FROM users u FULL JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id WHERE u.last_name = 'Hill' OR o.last_name IS NULL

-- ties
SELECT avg(age), sum(age), count(*) FILTER (WHERE last_name = 'Hill') FROM users WHERE last_name IN ('Hill', 'Zorn') GROUP BY ROLLUP (last_name) ORDER BY 1

SELECT last_name, avg(score)::numeric(10, 4), stddev_samp(score)::numeric(10, 4), count(DISTINCT age) FILTER (WHERE age > 20) FROM users GROUP BY last_name HAVING count(DISTINCT feeling) > 1 ORDER BY 1

SELECT sum(score) / count(*) = avg(score), sum(n::numeric) = sum(n), max(at) - min(at) FROM users, events

SELECT min(x), max(x) FROM (SELECT nullif(n, 1) AS x FROM events) t

SELECT array_agg(DISTINCT kind ORDER BY kind DESC), json_agg(kind ORDER BY id) FILTER (WHERE id < 4), bool_and(n > 0) FROM events

SELECT kind, string_agg(id::text, ',' ORDER BY n DESC NULLS LAST, id) FROM events GROUP BY kind ORDER BY kind DESC LIMIT 2

SELECT (SELECT string_agg(k, ',' ORDER BY k) FROM (SELECT DISTINCT kind AS k FROM events) t), (SELECT array_agg(code ORDER BY code) FROM countries)

SELECT n % 2 AS odd, kind, count(*) FROM events GROUP BY GROUPING SETS ((n % 2, kind), (kind), ()) ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY n), count(*) FROM events GROUP BY kind ORDER BY 1, 2

SELECT e.kind, (SELECT count(*) FROM event_parts p WHERE p.event_id = e.id) AS parts, count(*) FROM events e GROUP BY e.kind, e.id ORDER BY e.id

SELECT x.kind FROM events x WHERE x.n = (SELECT max(y.n) FROM events y WHERE y.kind = x.kind) ORDER BY x.id

SELECT EXISTS (SELECT 1 FROM users WHERE last_name = 'Hill' AND age > 100) OR EXISTS (SELECT 1 FROM events WHERE n = 3) AS found

SELECT count(*) FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) > (SELECT avg(c) FROM (SELECT count(*) AS c FROM orders GROUP BY user_id) t)

SELECT * FROM generate_series(1, 3) g LEFT JOIN users u ON u.id = g ORDER BY g

SELECT * FROM (VALUES (1), (2)) v (id) LEFT JOIN events e USING (id) ORDER BY id

SELECT age, count(*) FROM users GROUP BY age ORDER BY count(*) DESC, age NULLS LAST LIMIT 3 OFFSET 1

SELECT DISTINCT age % 10 AS digit FROM users ORDER BY digit NULLS FIRST LIMIT 4

SELECT id FROM users ORDER BY random() * 0, id LIMIT 3

SELECT last_name || id AS label FROM users ORDER BY label DESC LIMIT 4

SELECT upper(last_name) AS last_name, id FROM users ORDER BY last_name, id DESC LIMIT 6

SELECT id AS age, age AS id FROM users ORDER BY age LIMIT 4

SELECT id, -id AS id FROM users ORDER BY users.id LIMIT 3

SELECT max(id) AS id FROM users GROUP BY country ORDER BY id

SELECT length(last_name), count(*) FROM users GROUP BY length(last_name) HAVING length(last_name) > 4 ORDER BY length(last_name)

SELECT country FROM users GROUP BY country ORDER BY country COLLATE "C" DESC NULLS LAST

SELECT at::date, count(*) FROM events WHERE at >= '2024-05-02' AND at < '2024-05-05' GROUP BY at::date ORDER BY at::date

SELECT id FROM readings r, users u WHERE r.sensor = u.id AND r.region = 'north' ORDER BY r.at, 1

SELECT region, at, sensor FROM readings WHERE (region, at) >= ('north', '2024-01-06 00:00+00') AND region < 'south' ORDER BY 1, 2, 3

SELECT owner FROM shop.carts WHERE owner >= 'f' AND owner < 'h' ORDER BY owner, id

SELECT id FROM docs WHERE id > '00000000-0000-4000-8000-000000000010' ORDER BY id DESC LIMIT 3

SELECT word FROM words WHERE word = ANY (ARRAY['w1', 'w3', NULL]) ORDER BY word

SELECT word FROM words WHERE word <> ALL (ARRAY['w1', 'w3']) ORDER BY word LIMIT 3

SELECT id FROM events WHERE id BETWEEN SYMMETRIC 9 AND 7 ORDER BY id

SELECT id FROM events WHERE id = 3 AND id = 4

SELECT id FROM events WHERE id IN (3) AND kind IS NOT DISTINCT FROM 'login'

SELECT id FROM events WHERE (id = 3 OR id = 4) AND id IN (4, 5)

SELECT id FROM events WHERE id = (SELECT 3) OR id = 5 ORDER BY id

SELECT id FROM events WHERE id = 9223372036854775807

SELECT id FROM events WHERE id = 99999999999999999999

SELECT id FROM users WHERE last_name = E'Hi\x6cl' ORDER BY id

SELECT id FROM users WHERE last_name = 'Hill   '

SELECT id FROM users WHERE last_name = 'Hill'::char(8) ORDER BY id

SELECT id FROM users WHERE last_name = 'Hill'::name ORDER BY id
