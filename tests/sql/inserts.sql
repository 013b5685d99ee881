-- mode: writes
-- tables: users orders events words posts docs readings shop.carts countries settings banned
-- INSERT of every kind.

INSERT INTO users (last_name, id, age) VALUES ('Hill', 101, 5)

INSERT INTO users (last_name, id, age) VALUES ('Zorn', 105, 1), ('Adams', 103, 2), ('Moore', 104, 3), ('Baker', 102, 4) RETURNING id, last_name, age, full_name, feeling

INSERT INTO events (id, kind) VALUES (109, 'a'), (101, 'b'), (105, 'c'), (103, 'd') RETURNING *

INSERT INTO words VALUES ('x3', 1, NULL), ('x1', DEFAULT, '2024-01-01'), ('x2') RETURNING word, hits

INSERT INTO words (word, hits) VALUES ('y3', 1), ('y1', DEFAULT), ('y2', 2 + 3) RETURNING word, hits

INSERT INTO words (word) VALUES (NULL)

INSERT INTO words (word) VALUES ('z1'), (NULL)

INSERT INTO words (word, hits) VALUES ('z2', NULL), ('z3', 3)

INSERT INTO words (word) VALUES ('w1')

INSERT INTO words (word) VALUES ('z4'), ('w1'), ('w2')

INSERT INTO words (word) VALUES ('z4'), ('w1'), ('w2') ON CONFLICT DO NOTHING

INSERT INTO words (word) VALUES ('z5'), ('w1'), ('w2') ON CONFLICT (word) DO NOTHING RETURNING word

INSERT INTO words (word, hits) VALUES ('z6', 10), ('w1', 20), ('w2', 30) ON CONFLICT (word) DO UPDATE SET hits = words.hits + excluded.hits RETURNING word, hits

INSERT INTO words AS w (word, hits) VALUES ('w1', 7) ON CONFLICT (word) DO UPDATE SET hits = w.hits + excluded.hits WHERE w.hits < 100 RETURNING *

INSERT INTO words AS w (word, hits) VALUES ('w1', 7), ('w9', 8) ON CONFLICT ON CONSTRAINT words_pkey DO UPDATE SET hits = excluded.hits RETURNING w.word, w.hits

INSERT INTO words (word, hits) VALUES ('z7', 1), ('z7', 2) ON CONFLICT (word) DO UPDATE SET hits = excluded.hits

INSERT INTO words (word, hits) VALUES ('w1', 1) ON CONFLICT (hits) DO NOTHING

INSERT INTO words (word, nothing) VALUES ('w1', 1)

INSERT INTO words VALUES ('a', 1, '2024-01-01', 5)

INSERT INTO words (word, hits) VALUES ('a')

INSERT INTO words (word, hits) VALUES ('a', 1), ('b')

INSERT INTO words (word, hits) VALUES ('a', 'many')

INSERT INTO words (word, hits) VALUES ('aa', 1), ('ab', 'many')

INSERT INTO events (id, kind) VALUES ('abc', 'x')

INSERT INTO events (id, kind, n) VALUES (201, 'x', 13)

INSERT INTO events (id, kind, n) VALUES (201, 'x', 1), (202, 'y', 13)

INSERT INTO events (id, kind) VALUES (203, NULL)

INSERT INTO users (last_name, id, level) VALUES ('Hill', 110, 0)

INSERT INTO users (last_name, id, email) VALUES ('Hill', 110, repeat('x', 41))

INSERT INTO users (last_name, id, email) SELECT 'Hill', 110, repeat('x', 41)

INSERT INTO users (last_name, id, email) SELECT 'Hill', n, repeat('x', 39 + n) FROM generate_series(1, 3) n

INSERT INTO users (last_name, id, country) VALUES ('Hill', 110, 'xx')

INSERT INTO users (last_name, id, country) VALUES ('Hill', 110, 'de'), ('Zorn', 111, 'xx')

INSERT INTO users (last_name, id, feeling) VALUES ('Hill', 112, 'glad'), ('Zorn', 113, 'sad') RETURNING feeling

INSERT INTO users (last_name, id, full_name) VALUES ('Hill', 112, 'me')

INSERT INTO users (last_name, id, tags, doc, wait, born) VALUES ('Hill', 114, '{a,b}', '{"a": [1]}', '1 day', 'epoch'), ('Baker', 115, ARRAY['x'], jsonb_build_object('k', 1), interval '2 h', date '2020-01-01' + 1) RETURNING tags, doc, wait, born

INSERT INTO orders (last_name, user_id, no, amount) VALUES ('Hill', 2, 9, 1.005)

INSERT INTO orders (last_name, user_id, no, amount) VALUES ('Hill', 99999, 9, 1)

INSERT INTO orders (last_name, user_id, no, amount) SELECT last_name, id, 50, age FROM users WHERE age > 30

INSERT INTO orders (last_name, user_id, no, amount) SELECT last_name, id, 51, age FROM users WHERE age > 30 RETURNING last_name, user_id, amount

INSERT INTO orders SELECT last_name, user_id, no + 60, amount * 2 FROM orders WHERE no = 1

INSERT INTO events (id, kind, n) SELECT id + 300, kind, n FROM events WHERE n IS NOT NULL

INSERT INTO events (id, kind, n) SELECT id + 400, 'copy', count(*) FROM events GROUP BY id RETURNING id, kind

INSERT INTO events (id, kind) SELECT n, 'series' FROM generate_series(501, 505) n ORDER BY n RETURNING id

INSERT INTO events (id, kind) SELECT 600, 'none' WHERE false RETURNING id, kind

INSERT INTO words (word, hits) SELECT last_name, count(*) FROM users GROUP BY last_name

INSERT INTO words (word, hits) SELECT last_name, count(*) FROM users GROUP BY last_name ON CONFLICT (word) DO UPDATE SET hits = excluded.hits + 1

INSERT INTO words (word) SELECT 'q' || key FROM settings

INSERT INTO words (word) SELECT name FROM countries ON CONFLICT DO NOTHING

INSERT INTO words (word, hits) TABLE (VALUES ('k', 1))

INSERT INTO words (word, hits) (SELECT 'k1', 1)

INSERT INTO words (word, hits) SELECT 'k2', 1 UNION ALL SELECT 'k3', 2

WITH x AS (SELECT 'k4' AS w) INSERT INTO words (word) SELECT w FROM x RETURNING word

WITH x AS (SELECT 'k4' || n AS w FROM generate_series(5, 8) n) INSERT INTO words (word) SELECT w FROM x

INSERT INTO words (word) WITH x AS (SELECT 'k5' || n AS w FROM generate_series(5, 8) n) SELECT w FROM x

INSERT INTO words (word, hits) VALUES ('m1', (SELECT count(*) FROM users))

INSERT INTO words (word, hits) VALUES ('m2', (SELECT count(*) FROM users)), ('m3', (SELECT max(priority) FROM settings))

INSERT INTO words (word, hits) VALUES ((SELECT 'm' || max(key) FROM settings), 1), ('m5', 2) RETURNING word

INSERT INTO words (word) VALUES (lower('ABC')), (upper('abc'))

INSERT INTO words (word) VALUES (current_user) RETURNING word

INSERT INTO words VALUES (DEFAULT)

INSERT INTO words DEFAULT VALUES

INSERT INTO posts (id, title) VALUES (1001, 'own id') RETURNING *

-- values
INSERT INTO posts (id, title) VALUES (DEFAULT, 'made'), (DEFAULT, 'made too') RETURNING title

-- values
INSERT INTO docs (title) VALUES ('made'), ('made too') RETURNING id, title

INSERT INTO docs (id, title, corner, body) VALUES ('00000000-0000-4000-8000-00000000aaaa', 't', ROW(1, 2), '\x00ff'), ('00000000-0000-4000-8000-00000000aaab', 't', '(3,4)', 'abc') RETURNING *

INSERT INTO docs (id) VALUES ('not a uuid')

INSERT INTO readings VALUES ('north', '2025-01-01 00:00+00', 1, 1.5), ('east', '2025-01-01 00:00+02', 2, 'NaN') RETURNING *

INSERT INTO readings VALUES ('west', 'yesterday and then', 1, 1)

INSERT INTO shop.carts VALUES ('zz', 77, 1.239), ('aa', 78), ('hh', 79, DEFAULT) RETURNING owner, total

INSERT INTO shop.carts (owner, id) SELECT owner, id + 100 FROM shop.carts WHERE total > 20

INSERT INTO shop.carts (owner, id, total) SELECT sku, 1, price FROM shop.prices

INSERT INTO settings VALUES ('e', 'five', 5), ('f', 'six', 6) RETURNING *

INSERT INTO settings (key, value) VALUES ('a', 'new') ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING *

INSERT INTO settings (key, priority) SELECT last_name, count(*) FROM users GROUP BY last_name

INSERT INTO settings (key, priority) VALUES ('n', (SELECT count(*) FROM users))

INSERT INTO banned SELECT id, 'young' FROM users WHERE age < 15

INSERT INTO countries VALUES ('es', 'Spain', 1), ('pt', 'Portugal', 2) RETURNING code, members

INSERT INTO countries VALUES ('de', 'Germania') ON CONFLICT (code) DO UPDATE SET name = excluded.name RETURNING *

INSERT INTO countries VALUES ('xx', 'France')

INSERT INTO countries SELECT 'c' || key, 'name ' || key, 1 FROM settings

INSERT INTO countries SELECT 'u' || level, min(last_name), count(*) FROM users GROUP BY level

INSERT INTO countries (code, name, members) VALUES ('zz', 'Zed', (SELECT count(*) FROM users)) RETURNING members

INSERT INTO nowhere VALUES (1)

-- params: ["Hill", "120", "7"]
INSERT INTO users (last_name, id, age) VALUES ($1, $2, $3) RETURNING id, age

-- params: ["Zorn", "121", "7", "Adams", "122", null]
INSERT INTO users (last_name, id, age) VALUES ($1, $2, $3), ($4, $5, $6) RETURNING id, age

-- params: ["701", "702", "k"]
INSERT INTO events (id, kind) VALUES ($2, $3), ($1, $3) RETURNING id, kind

-- params: ["pa", "pb", "3"]
INSERT INTO words (word, hits) VALUES ($1, $3), ($2, $3) ON CONFLICT (word) DO UPDATE SET hits = excluded.hits + $3

-- params: [null]
-- differs: the message does not name the column
INSERT INTO words (word) VALUES ($1)

-- params: ["800", "k"]
INSERT INTO events (id, kind) SELECT id + $1, $2 FROM events WHERE id < 4

-- params: ["k6", "4"]
INSERT INTO words (word, hits) SELECT $1, $2

-- params: ["k7", "4"]
INSERT INTO words (word, hits) VALUES ($1 || 'x', $2::int + 1), ('k8', $2) RETURNING *

-- params: ["x7", "9"]
INSERT INTO words (word, hits) SELECT 'x7', 1 ON CONFLICT (word) DO UPDATE SET hits = $2::int, last = NULL RETURNING hits, $1::text

INSERT INTO events (id, kind) SELECT n, 'x' FROM generate_series(1, 0) n RETURNING id, kind

INSERT INTO events (id, kind) SELECT n, kind FROM (VALUES (1010, 'x', 1), (1005, 'y', 2), (1007, 'z', 3)) v (n, kind, at) ORDER BY at RETURNING id, kind

INSERT INTO events (id, n) SELECT 2000.6, 1.5 FROM users LIMIT 1

INSERT INTO events (id, kind, ratio) SELECT id + 3000, 'avg', (SELECT avg(n) FROM events) FROM events WHERE n = 1
