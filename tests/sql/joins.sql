-- mode: reads
-- Joins, subqueries, WITH, set operations, LATERAL.

SELECT u.id, o.no, o.amount FROM users u JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id ORDER BY u.id, o.no

SELECT u.id, o.no FROM users u, orders o WHERE o.last_name = u.last_name AND o.user_id = u.id AND u.last_name = 'Hill' ORDER BY 1, 2

SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id ORDER BY u.id, o.no

SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id AND o.no = 2 WHERE u.id < 10 ORDER BY u.id, o.no

SELECT u.id, o.no FROM orders o RIGHT JOIN users u ON o.last_name = u.last_name AND o.user_id = u.id WHERE o.no IS NULL ORDER BY u.id

SELECT u.id, e.id FROM users u FULL JOIN events e ON e.id = u.id + 20 ORDER BY u.id, e.id

SELECT a.id, b.id FROM users a JOIN users b ON b.last_name = a.last_name AND b.id > a.id ORDER BY 1, 2

SELECT a.id, b.id FROM users a JOIN users b ON b.age = a.age AND b.id > a.id ORDER BY 1, 2

SELECT last_name, user_id, no, first_name FROM orders JOIN users USING (last_name) WHERE users.id = user_id ORDER BY 1, 2, 3

SELECT * FROM countries NATURAL JOIN (SELECT code, 1 AS one FROM countries) t ORDER BY code

SELECT u.id, c.name FROM users u JOIN countries c ON c.code = u.country ORDER BY u.id

SELECT u.id, s.value FROM users u JOIN settings s ON s.priority = u.level ORDER BY u.id, s.key

SELECT u.id, b.why FROM users u LEFT JOIN banned b ON b.user_id = u.id ORDER BY u.id

SELECT e.id, p.part, u.last_name FROM events e JOIN event_parts p ON p.event_id = e.id JOIN users u ON u.id = e.id ORDER BY 1, 2

SELECT count(*) FROM users CROSS JOIN events

SELECT w.word, e.id FROM words w JOIN events e ON w.word = 'w' || e.id ORDER BY e.id

SELECT p.id, e.kind FROM posts p JOIN events e USING (id) ORDER BY id

SELECT c.owner, p.price * c.total FROM shop.carts c, shop.prices p WHERE p.sku = 'x' ORDER BY c.id

SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE amount > 20) ORDER BY id

SELECT id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.last_name = u.last_name AND o.user_id = u.id) ORDER BY id

SELECT id FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id) ORDER BY id

SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM banned) ORDER BY id

SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM banned WHERE user_id IS NOT NULL) ORDER BY id

SELECT id FROM users WHERE age > (SELECT avg(age) FROM users) ORDER BY id

SELECT id FROM users WHERE age > ALL (SELECT n FROM events WHERE n IS NOT NULL) ORDER BY id

SELECT id FROM users WHERE (last_name, id) IN (SELECT last_name, user_id FROM orders WHERE no = 2) ORDER BY id

SELECT id, (SELECT count(*) FROM orders o WHERE o.last_name = u.last_name AND o.user_id = u.id) AS n FROM users u ORDER BY id

SELECT id, (SELECT name FROM countries c WHERE c.code = u.country) FROM users u ORDER BY id

SELECT id, (SELECT max(amount) FROM orders) FROM users WHERE last_name = 'Hill' ORDER BY id

SELECT id, ARRAY(SELECT no FROM orders o WHERE o.last_name = u.last_name AND o.user_id = u.id ORDER BY no) FROM users u ORDER BY id

SELECT t.id FROM (SELECT * FROM users ORDER BY id LIMIT 5) t ORDER BY t.id DESC

SELECT * FROM (SELECT last_name, max(id) AS m FROM users GROUP BY last_name) t WHERE m > 38 ORDER BY m

SELECT u.id, l.amount FROM users u, LATERAL (SELECT amount FROM orders o WHERE o.last_name = u.last_name AND o.user_id = u.id ORDER BY amount DESC LIMIT 1) l ORDER BY u.id

SELECT u.id, l.* FROM users u LEFT JOIN LATERAL (SELECT sum(n) AS s FROM events e WHERE e.id = u.id) l ON true ORDER BY u.id

SELECT u.id, t FROM users u, unnest(u.tags) WITH ORDINALITY AS t (tag, at) WHERE u.id < 4 ORDER BY u.id, t.at

SELECT u.id, j.value FROM users u CROSS JOIN jsonb_array_elements(u.doc -> 'list') j ORDER BY u.id, j.value

SELECT u.id, g FROM users u JOIN generate_series(1, 3) g ON g = u.level ORDER BY 1

SELECT * FROM (VALUES ('Hill', 2), ('Zorn', 6)) v (name, id) JOIN users u ON u.last_name = v.name AND u.id = v.id ORDER BY u.id

WITH big AS (SELECT * FROM orders WHERE amount > 50) SELECT count(*), sum(amount) FROM big

WITH big AS MATERIALIZED (SELECT * FROM orders WHERE amount > 50) SELECT b.last_name, u.age FROM big b JOIN users u ON u.last_name = b.last_name AND u.id = b.user_id ORDER BY u.id, b.no

WITH a AS (SELECT id FROM users WHERE age > 40), b AS (SELECT id FROM a WHERE id % 2 = 0) SELECT a.id, b.id FROM a LEFT JOIN b USING (id) ORDER BY 1

WITH x (n) AS (SELECT 1) SELECT u.id FROM users u, x WHERE u.id = x.n

WITH users AS (SELECT 1 AS id) SELECT * FROM users

WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT t.n, u.last_name FROM t JOIN users u ON u.id = t.n ORDER BY 1

WITH RECURSIVE chain AS (SELECT id, 1 AS depth FROM users WHERE id = 1 UNION ALL SELECT u.id, c.depth + 1 FROM chain c JOIN users u ON u.id = c.id * 2) SELECT * FROM chain ORDER BY depth

WITH RECURSIVE t AS (SELECT last_name, id FROM users WHERE last_name = 'Hill' AND id = 2 UNION SELECT u.last_name, u.id FROM t JOIN users u ON u.last_name = t.last_name) SELECT * FROM t ORDER BY id

WITH o AS (SELECT last_name, user_id, sum(amount) AS s FROM orders GROUP BY 1, 2) SELECT u.id, o.s FROM users u JOIN o ON o.last_name = u.last_name AND o.user_id = u.id ORDER BY o.s DESC, u.id LIMIT 5

SELECT id FROM users WHERE age > 45 UNION SELECT id FROM events WHERE n = 3 ORDER BY id

SELECT id FROM users UNION ALL SELECT id FROM events ORDER BY id LIMIT 10

SELECT last_name FROM users INTERSECT SELECT last_name FROM orders ORDER BY 1

SELECT id FROM users EXCEPT SELECT user_id FROM orders ORDER BY 1

SELECT id FROM users EXCEPT ALL SELECT id FROM events ORDER BY 1

SELECT last_name, id FROM users WHERE last_name = 'Hill' UNION ALL SELECT last_name, user_id FROM orders WHERE last_name = 'Hill' ORDER BY 1, 2

SELECT last_name FROM users WHERE last_name = 'Hill' UNION SELECT last_name FROM users WHERE last_name = 'Zorn' ORDER BY 1

(SELECT id FROM users ORDER BY id LIMIT 2) UNION ALL (SELECT id FROM events ORDER BY id DESC LIMIT 2) ORDER BY 1

SELECT count(*) FROM (SELECT last_name FROM users UNION SELECT word FROM words) t

SELECT 'u' AS what, count(*) FROM users UNION ALL SELECT 'o', count(*) FROM orders ORDER BY 1

SELECT kind, sum(n) FROM events GROUP BY kind UNION ALL SELECT 'all', sum(n) FROM events ORDER BY 1

SELECT a.last_name, a.total FROM totals a JOIN adults b ON b.last_name = a.last_name AND b.id = a.user_id ORDER BY a.user_id

SELECT a.id FROM adults a JOIN orders o ON o.last_name = a.last_name AND o.user_id = a.id WHERE a.last_name = 'Park' ORDER BY 1, o.no

SELECT count(*) FROM users u JOIN orders o ON o.last_name = u.last_name JOIN countries c ON c.code = u.country

SELECT u.id FROM users u WHERE u.last_name = 'Hill' AND EXISTS (SELECT 1 FROM events e WHERE e.id = u.id) ORDER BY 1

SELECT u.id FROM users u JOIN (SELECT DISTINCT last_name FROM orders) o ON o.last_name = u.last_name ORDER BY 1

SELECT u.id, x.c FROM users u JOIN (SELECT last_name, count(*) c FROM orders GROUP BY last_name) x USING (last_name) ORDER BY 1

SELECT u.id, x.c FROM users u LEFT JOIN (SELECT user_id, count(*) c FROM orders GROUP BY user_id) x ON x.user_id = u.id ORDER BY 1

SELECT id FROM users WHERE last_name = (SELECT min(last_name) FROM users) ORDER BY id

SELECT id FROM users WHERE last_name = (SELECT 'Hill') ORDER BY id

SELECT id FROM users WHERE (SELECT count(*) FROM banned) = 4 AND id < 3 ORDER BY id

SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM events)

SELECT (SELECT count(*) FROM users u WHERE u.country = c.code), code FROM countries c ORDER BY code

SELECT s.key, (SELECT count(*) FROM users u WHERE u.level = s.priority) FROM settings s ORDER BY 1

SELECT EXISTS (SELECT 1 FROM users WHERE age > 100), EXISTS (SELECT FROM events)

SELECT id FROM users WHERE id = ANY (ARRAY(SELECT user_id FROM banned)) ORDER BY id

SELECT id FROM events WHERE (id, n) IN ((1, 1), (2, 2), (5, 5)) ORDER BY 1

SELECT u.id, v.key FROM users u JOIN notes v ON v.key = 'a' WHERE u.id < 3 ORDER BY 1

SELECT r1.region, count(*) FROM readings r1 JOIN readings r2 ON r1.region = r2.region AND r1.at = r2.at GROUP BY 1 ORDER BY 1

SELECT r1.region, count(*) FROM readings r1 JOIN readings r2 ON r1.region = r2.region GROUP BY 1 ORDER BY 1

SELECT u1.last_name, count(*) FROM users u1 LEFT JOIN users u2 ON u2.last_name = u1.last_name AND u2.age > u1.age GROUP BY 1 ORDER BY 1

SELECT a.id FROM events a WHERE NOT EXISTS (SELECT FROM event_parts p WHERE p.event_id = a.id) ORDER BY 1

SELECT a.id, count(p.*) FROM events a LEFT JOIN event_parts p ON p.event_id = a.id GROUP BY a.id ORDER BY a.id

SELECT e.id FROM events e JOIN event_parts p ON p.event_id = e.id AND p.part = 1 WHERE e.id = 4

SELECT last_name, id FROM users u1 WHERE age = (SELECT max(age) FROM users u2 WHERE u2.last_name = u1.last_name) ORDER BY 1, 2

SELECT last_name, id FROM users u1 WHERE age = (SELECT max(age) FROM users u2 WHERE u2.country = u1.country) ORDER BY 1, 2

SELECT no.such FROM users

SELECT id FROM users JOIN orders USING (last_name) WHERE id = id AND nothing = 1

SELECT last_name FROM users u JOIN orders o ON o.user_id = u.id

SELECT * FROM nowhere

SELECT * FROM shop.nowhere

SELECT * FROM nowhere.users

SELECT nofunction(id) FROM users

SELECT id FROM users WHERE last_name = 3

SELECT id FROM users WHERE 1 / (id - id) = 1

SELECT id, (SELECT id FROM events) FROM users WHERE last_name = 'Hill'

SELECT id FROM users WHERE id = (SELECT id FROM events WHERE id < 5)

SELECT id FROM users UNION SELECT last_name FROM users

SELECT id FROM users ORDER BY 5

SELECT * FROM users WHERE

SELEC 1

SELECT 'x'::int

-- differs: which row is read first
SELECT last_name::int FROM users

SELECT feeling = 'angry' FROM users

-- params: ["Hill"]
SELECT u.id, o.no FROM users u JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id WHERE u.last_name = $1 ORDER BY 1, 2

-- params: ["20"]
WITH big AS (SELECT * FROM orders WHERE amount > $1) SELECT u.id FROM users u JOIN big b ON b.last_name = u.last_name AND b.user_id = u.id ORDER BY u.id, b.no

-- params: ["Hill", "Zorn"]
SELECT id FROM users WHERE last_name = $1 UNION SELECT id FROM users WHERE last_name = $2 ORDER BY 1
