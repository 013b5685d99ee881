-- mode: writes
-- tables: users orders events event_parts words posts readings shop.carts countries settings banned
-- UPDATE, DELETE, MERGE, TRUNCATE: with and without the key, with FROM, USING and subqueries.

UPDATE users SET age = 50 WHERE last_name = 'Hill' AND id = 2

UPDATE users SET age = age + 1 WHERE last_name = 'Hill' RETURNING id, age

UPDATE users SET age = age + 1

UPDATE users SET age = age + 1 WHERE age > 30 RETURNING id, last_name, age

UPDATE users u SET age = u.age * 2, email = NULL WHERE u.id % 5 = 0 RETURNING u.*

UPDATE users SET (age, email) = (1, 'x') WHERE id < 5

UPDATE users SET (age, email) = (SELECT 1, 'y') WHERE id < 5

UPDATE users SET age = DEFAULT, feeling = DEFAULT WHERE id < 5 RETURNING age, feeling

UPDATE users SET tags[1] = 'first' WHERE id < 5 RETURNING tags

UPDATE users SET doc = jsonb_set(doc, '{n}', '0'), active = NOT active WHERE id < 9 RETURNING doc, active

UPDATE users SET country = 'xx' WHERE id < 5

UPDATE users SET level = -1 WHERE id < 5

UPDATE users SET nothing = 1

UPDATE users SET age = 'x' WHERE id = 1

UPDATE users SET full_name = 'x'

UPDATE users SET age = 1 WHERE false RETURNING id

UPDATE users SET last_name = last_name WHERE id < 4 RETURNING id

UPDATE users SET age = (SELECT count(*) FROM orders o WHERE o.last_name = users.last_name AND o.user_id = users.id)

UPDATE users SET age = s.n FROM (SELECT last_name, user_id, count(*) AS n FROM orders GROUP BY 1, 2) s WHERE s.last_name = users.last_name AND s.user_id = users.id RETURNING users.id, users.age

UPDATE users u SET score = o.amount FROM orders o WHERE o.last_name = u.last_name AND o.user_id = u.id AND o.no = 1 RETURNING u.id, o.amount

UPDATE users SET age = 1 WHERE id IN (SELECT user_id FROM banned)

UPDATE users SET age = 1 WHERE id NOT IN (SELECT user_id FROM banned)

UPDATE users SET age = 1 WHERE id NOT IN (SELECT user_id FROM banned WHERE user_id IS NOT NULL)

UPDATE users SET age = (SELECT max(priority) FROM settings)

UPDATE users SET age = (SELECT max(priority) FROM settings), email = (SELECT value FROM settings WHERE key = 'a') WHERE age > (SELECT avg(n) FROM events)

UPDATE users SET age = (SELECT priority FROM settings WHERE key = 'nothing') WHERE id < 9

UPDATE users SET age = (SELECT priority FROM settings)

UPDATE users SET age = (SELECT max(age) FROM users) WHERE age < 20

UPDATE users SET age = 1 WHERE last_name IN (SELECT last_name FROM adults WHERE age > 40)

UPDATE users SET age = 1 WHERE (last_name, id) IN (SELECT last_name, user_id FROM orders WHERE amount > 20)

UPDATE users SET age = 1 WHERE EXISTS (SELECT 1 FROM settings WHERE key = 'a')

UPDATE users SET age = 1 WHERE NOT EXISTS (SELECT 1 FROM settings WHERE key = 'zzz') AND id < 7

UPDATE users SET age = 1 WHERE EXISTS (SELECT 1 FROM banned b WHERE b.user_id = users.id)

UPDATE users SET age = 1 WHERE NOT EXISTS (SELECT 1 FROM banned b WHERE b.user_id = users.id)

UPDATE users SET email = b.why FROM banned b WHERE b.user_id = users.id

UPDATE users SET email = b.why FROM banned b WHERE b.user_id = users.id RETURNING users.id, b.why

UPDATE users u SET email = s.value FROM settings s WHERE s.priority = u.level AND s.key <> 'c'

UPDATE users SET age = e.n FROM events e WHERE e.id = users.id AND e.n IS NOT NULL

UPDATE users SET email = c.name FROM countries c WHERE c.code = users.country RETURNING id, email

UPDATE users SET age = 3 WHERE age > ALL (SELECT priority FROM settings WHERE priority IS NOT NULL)

UPDATE users SET age = 3 WHERE age < ANY (SELECT user_id FROM banned)

UPDATE users SET age = 3 WHERE age = ANY (ARRAY(SELECT user_id FROM banned WHERE user_id IS NOT NULL))

UPDATE events SET n = 13 WHERE id > 10

UPDATE events SET n = n + 1, kind = upper(kind) WHERE kind = 'buy' RETURNING id, n, kind

UPDATE events SET n = 5 WHERE id = 7 RETURNING *

UPDATE events SET n = 5 WHERE id IN (7, 8, 9) RETURNING id

UPDATE words SET hits = hits + 1 WHERE word LIKE 'w1%'

UPDATE words SET word = word || 'x' WHERE hits = 3

UPDATE words SET word = 'w1' WHERE word = 'w2'

UPDATE words SET word = 'ww' WHERE word = 'w3' RETURNING word, hits

UPDATE words SET word = NULL WHERE word = 'w5'

UPDATE orders SET no = no + 100 WHERE amount > 50

UPDATE readings SET region = 'west', value = value + 1 WHERE sensor = 1 AND region = 'north' RETURNING region, at, value

UPDATE readings SET at = at + interval '10 years' WHERE region = 'south' AND sensor = 0

UPDATE shop.carts SET owner = upper(owner) WHERE total > 20 RETURNING owner, id

UPDATE shop.carts SET total = total + (SELECT max(price) FROM shop.prices)

UPDATE shop.prices SET price = (SELECT sum(total) FROM shop.carts) WHERE sku = 'z' RETURNING price

UPDATE settings SET value = 'x' WHERE priority = 2 RETURNING key

UPDATE settings SET priority = (SELECT count(*) FROM users) WHERE key = 'a' RETURNING *

UPDATE settings s SET value = u.last_name FROM users u WHERE u.id = s.priority

UPDATE countries SET members = members + 1 RETURNING *

UPDATE countries SET members = (SELECT count(*) FROM users u WHERE u.country = code)

UPDATE countries SET code = 'd2' WHERE code = 'jp' RETURNING code

UPDATE countries SET code = 'd2' WHERE code = 'de'

-- refused
UPDATE adults SET age = age + 1 WHERE last_name = 'Hill'

UPDATE notes SET value = 'via view' WHERE key = 'b' RETURNING *

-- params: ["5", "Hill", "2"]
UPDATE users SET age = $1 WHERE last_name = $2 AND id = $3 RETURNING age

-- params: ["5"]
UPDATE users SET age = $1 WHERE id < 5 RETURNING id, age

-- params: ["1", "2"]
UPDATE users SET age = $1 WHERE id IN (SELECT user_id FROM banned WHERE user_id > $2)

-- params: ["ww2", "w4"]
UPDATE words SET word = $1 WHERE word = $2 RETURNING word

DELETE FROM users WHERE last_name = 'Young' AND id = 5 RETURNING id

DELETE FROM users WHERE id = 12

DELETE FROM users WHERE age > 45 RETURNING last_name, id

DELETE FROM orders WHERE amount < 10

DELETE FROM orders o USING users u WHERE o.last_name = u.last_name AND o.user_id = u.id AND u.age < 20 RETURNING o.no, u.id

DELETE FROM orders WHERE user_id IN (SELECT user_id FROM banned)

DELETE FROM users WHERE id NOT IN (SELECT user_id FROM banned WHERE user_id > 3) AND age = 24

DELETE FROM orders USING banned WHERE banned.user_id = orders.user_id RETURNING orders.user_id, why

DELETE FROM events WHERE id = 5

DELETE FROM event_parts WHERE event_id IN (SELECT id FROM events WHERE kind = 'login')

DELETE FROM event_parts p WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = p.event_id)

DELETE FROM events WHERE id IN (SELECT id FROM events WHERE n = 2) AND id NOT IN (SELECT event_id FROM event_parts)

DELETE FROM words WHERE word IN (SELECT word FROM words ORDER BY word LIMIT 3)

DELETE FROM words WHERE word = (SELECT max(word) FROM words) RETURNING word

DELETE FROM countries WHERE code = 'de'

DELETE FROM countries WHERE code = 'jp' RETURNING *

DELETE FROM banned WHERE user_id IN (SELECT id FROM users WHERE age > 20)

DELETE FROM banned USING users WHERE users.id = banned.user_id RETURNING why, last_name

DELETE FROM nowhere

DELETE FROM users WHERE nothing = 1

DELETE FROM users WHERE 1 / (id - id) = 1

-- params: ["3"]
DELETE FROM orders WHERE no = $1 RETURNING user_id

MERGE INTO words w USING (VALUES ('w7', 70)) v (word, hits) ON w.word = v.word AND w.word = 'w7' WHEN MATCHED THEN UPDATE SET hits = v.hits

MERGE INTO users u USING orders o ON o.last_name = u.last_name AND o.user_id = u.id AND o.no = 1 WHEN MATCHED AND o.amount > 10 THEN UPDATE SET score = o.amount WHEN MATCHED THEN DELETE

MERGE INTO settings s USING (SELECT last_name, count(*) AS n FROM users GROUP BY last_name) u ON s.key = u.last_name WHEN NOT MATCHED THEN INSERT VALUES (u.last_name, 'merged', u.n)

MERGE INTO users u USING banned b ON b.user_id = u.id WHEN MATCHED THEN UPDATE SET email = b.why

MERGE INTO settings s USING (VALUES ('a', 'A'), ('q', 'Q')) v (k, v) ON s.key = v.k WHEN MATCHED THEN UPDATE SET value = v.v WHEN NOT MATCHED THEN INSERT (key, value) VALUES (v.k, v.v) RETURNING merge_action(), s.key, s.value

-- refused
WITH x AS (DELETE FROM words WHERE hits = 4 RETURNING *) SELECT count(*) FROM x

WITH x AS (DELETE FROM words WHERE word = 'w4' RETURNING *) SELECT count(*) FROM x

WITH x AS (UPDATE settings SET value = 'cte' WHERE key = 'b' RETURNING *) SELECT x.key, count(u.*) FROM x, users u GROUP BY x.key

WITH n AS (SELECT id FROM users WHERE age > 30) UPDATE events SET kind = 'cte' FROM n WHERE n.id = events.id

WITH n AS (SELECT user_id FROM banned) DELETE FROM orders USING n WHERE n.user_id = orders.user_id

WITH n AS (SELECT last_name, id FROM users WHERE age > 30) DELETE FROM orders USING n WHERE n.last_name = orders.last_name AND n.id = orders.user_id
