-- mode: script
-- tables: users
-- Transactions, savepoints, errors inside them, prepared statements, cursors, settings.

BEGIN

UPDATE words SET hits = 100

SELECT count(*), sum(hits) FROM words

INSERT INTO words VALUES ('tx1', 5, NULL), ('tx2', 6, NULL)

SAVEPOINT a

DELETE FROM words WHERE word LIKE 'w%'

SELECT word FROM words ORDER BY word

ROLLBACK TO a

SELECT count(*) FROM words

SAVEPOINT b

INSERT INTO words VALUES ('tx1', 5, NULL)

SELECT 1

ROLLBACK TO SAVEPOINT b

RELEASE SAVEPOINT a

SELECT count(*) FROM words

ROLLBACK

SELECT count(*), sum(hits) FROM words

BEGIN ISOLATION LEVEL REPEATABLE READ

SELECT count(*) FROM users

UPDATE users SET age = age + 1 WHERE id IN (SELECT user_id FROM banned)

UPDATE users SET age = (SELECT max(n) FROM events) WHERE id < 10

SELECT id, age FROM users WHERE id < 12 ORDER BY id

SAVEPOINT r

-- refused
SELECT u.id, e.n FROM users u JOIN events e ON e.id = u.id ORDER BY 1

ROLLBACK TO r

COMMIT

BEGIN

UPDATE settings SET priority = 9 WHERE key = 'a'

UPDATE events SET n = 7 WHERE id < 6

UPDATE users SET age = (SELECT max(priority) FROM settings) WHERE id IN (SELECT id FROM events WHERE n = 7)

SELECT id, age FROM users WHERE id < 8 ORDER BY id

SAVEPOINT r

-- refused
SELECT e.id, s.key FROM events e JOIN settings s ON s.priority = e.n ORDER BY 1, 2

ROLLBACK TO r

-- refused
SELECT e.id, u.age FROM events e JOIN users u ON u.id = e.id WHERE e.n = 7 ORDER BY 1

ROLLBACK TO r

COMMIT

COMMIT

ROLLBACK

BEGIN

BEGIN

SELECT * FROM nowhere

SELECT 1

COMMIT

SAVEPOINT x

START TRANSACTION READ ONLY

UPDATE words SET hits = 1

ROLLBACK

BEGIN; UPDATE words SET hits = hits + 1; COMMIT

-- only: simple
UPDATE words SET hits = 0; SELECT 1 / 0; SELECT 2

SELECT sum(hits) FROM words

-- only: simple
SELECT 1; SELECT 2; SELECT count(*) FROM users

-- only: simple
INSERT INTO words (word) VALUES ('multi1'); INSERT INTO words (word) VALUES ('multi2'); DELETE FROM words WHERE word LIKE 'multi%'

PREPARE by_name (text) AS SELECT id FROM users WHERE last_name = $1 ORDER BY id

EXECUTE by_name('Hill')

EXECUTE by_name('Zo' || 'rn')

PREPARE total AS SELECT count(*), max(id) FROM users WHERE age > $1

EXECUTE total(20)

EXECUTE total

PREPARE total AS SELECT 1

PREPARE put (text, int) AS INSERT INTO words (word, hits) VALUES ($1, $2) ON CONFLICT (word) DO UPDATE SET hits = excluded.hits RETURNING *

EXECUTE put('prepared', 3)

EXECUTE put('prepared', 4)

PREPARE sweep AS DELETE FROM words WHERE hits = $1 AND word LIKE 'prep%'

EXECUTE sweep(4)

DEALLOCATE by_name

EXECUTE by_name('Hill')

DEALLOCATE ALL

BEGIN

DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id

FETCH 3 FROM c

FETCH NEXT c

MOVE 5 IN c

FETCH c

FETCH ALL FROM c

FETCH c

CLOSE c

FETCH c

ROLLBACK

BEGIN

DECLARE s SCROLL CURSOR FOR SELECT last_name, count(*) FROM users GROUP BY last_name ORDER BY last_name

FETCH LAST s

FETCH PRIOR s

FETCH FIRST s

FETCH ABSOLUTE 3 FROM s

FETCH RELATIVE -1 FROM s

FETCH BACKWARD 2 FROM s

DECLARE t CURSOR FOR SELECT e.id, u.id FROM events e JOIN users u ON u.id = e.id ORDER BY 1

FETCH 2 t

CLOSE ALL

COMMIT

DECLARE c CURSOR FOR SELECT 1

DECLARE held CURSOR WITH HOLD FOR SELECT id FROM users ORDER BY id DESC

FETCH 2 FROM held

CLOSE held

SET application_name = 'corpus'

SHOW application_name

SET search_path TO shop, public

SELECT count(*) FROM carts

SELECT sku FROM prices ORDER BY sku

INSERT INTO carts (owner, id) VALUES ('path', 1) RETURNING total

DELETE FROM carts WHERE owner = 'path'

SHOW search_path

RESET search_path

SELECT * FROM carts

SET timezone = 'Asia/Tokyo'

SELECT seen FROM users WHERE id < 3 ORDER BY id

SELECT max(seen), date_trunc('day', min(seen)) FROM users

SELECT region, at FROM readings WHERE at >= '2024-01-05 00:00' ORDER BY at, region, sensor

SELECT count(*) FROM readings WHERE region = 'north' AND at = '2024-01-02 09:00'

RESET timezone

SET DateStyle = 'German, DMY'

SELECT born FROM users WHERE last_name = 'Hill' ORDER BY id

SELECT min(born), max(seen) FROM users

SELECT id FROM users WHERE born > '02.03.1983' ORDER BY id

RESET DateStyle

SET intervalstyle = 'iso_8601'

SELECT max(wait), wait FROM users GROUP BY wait ORDER BY wait LIMIT 3

RESET intervalstyle

SET extra_float_digits = 0

SELECT sum(ratio), avg(ratio) FROM events

RESET extra_float_digits

SET bytea_output = 'escape'

SELECT body FROM docs ORDER BY id

SELECT max(body) FROM docs

RESET bytea_output

SET standard_conforming_strings = off

SELECT id FROM users WHERE first_name = 'A\nn' OR email = 'u3@example.org'

RESET standard_conforming_strings

BEGIN

SET LOCAL timezone = 'Asia/Tokyo'

SELECT seen FROM users WHERE id < 3 ORDER BY id

COMMIT

SELECT seen FROM users WHERE id < 3 ORDER BY id

SET nothing = 1

SHOW nothing

SELECT set_config('app.user', 'me', false)

SELECT current_setting('app.user')

SELECT id FROM users WHERE first_name = current_setting('app.user') OR id = 3

CREATE TEMP TABLE scratch AS SELECT id, age FROM users WHERE age > 40

SELECT count(*) FROM scratch

SELECT u.id FROM users u JOIN scratch s USING (id) ORDER BY 1

INSERT INTO scratch SELECT id, 1 FROM events WHERE id < 3

UPDATE users SET age = 41 WHERE id IN (SELECT id FROM scratch WHERE age = 1)

DROP TABLE scratch

SELECT nextval('tickets'), currval('tickets')

SELECT nextval('tickets') > 1

SELECT lastval() > 1

SELECT setval('tickets', 50)

SELECT pg_advisory_lock(7)

SELECT pg_advisory_unlock(7), pg_advisory_unlock(8)

BEGIN

LOCK TABLE users, settings IN SHARE MODE

SELECT id FROM users WHERE last_name = 'Hill' ORDER BY id FOR UPDATE

SELECT id FROM users WHERE last_name = 'Hill' AND id = 2 FOR NO KEY UPDATE NOWAIT

SELECT id FROM users WHERE age > 40 FOR UPDATE SKIP LOCKED

SELECT key FROM settings ORDER BY key FOR SHARE

COMMIT

VACUUM words

ANALYZE

VACUUM (ANALYZE) users, settings

CHECKPOINT

DISCARD ALL

DO $$ BEGIN PERFORM 1; END $$

DO $$ BEGIN RAISE EXCEPTION 'oops' USING ERRCODE = 'P0009'; END $$

COPY settings TO STDOUT

COPY (SELECT id, last_name FROM users ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)

COPY words (word, hits) TO STDOUT

COPY nowhere TO STDOUT

LISTEN news

NOTIFY news, 'x'

UNLISTEN *

BEGIN

SELECT id, age FROM users WHERE age > 20 ORDER BY age DESC, id LIMIT 5 FOR UPDATE

SELECT id FROM users ORDER BY score DESC, id OFFSET 3 FOR UPDATE

SELECT * FROM events WHERE kind = 'buy' ORDER BY id DESC LIMIT 2 OFFSET 1 FOR UPDATE SKIP LOCKED

SELECT u.id, o.no FROM users u JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id ORDER BY o.amount DESC, 2 LIMIT 3 FOR UPDATE OF o

SELECT u.id FROM users u WHERE id = 17 LIMIT 21 FOR NO KEY UPDATE OF u

DELETE FROM event_parts WHERE (event_id, part) IN (SELECT event_id, part FROM event_parts ORDER BY event_id LIMIT 2 FOR UPDATE SKIP LOCKED) RETURNING event_id

UPDATE words SET hits = -1 WHERE word IN (SELECT word FROM words WHERE hits > 0 ORDER BY word LIMIT 3 FOR UPDATE SKIP LOCKED)

SELECT word FROM words WHERE hits = -1 ORDER BY word

ROLLBACK
