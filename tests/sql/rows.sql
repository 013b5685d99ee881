-- The rows of the corpus, the same in the cluster and in the twin.

INSERT INTO countries VALUES ('de', 'Germany', 3), ('fr', 'France', 5), ('it', 'Italy', 0), ('jp', 'Japan', 7)

INSERT INTO settings VALUES ('a', 'one', 1), ('b', 'two', 2), ('c', NULL, 2), ('d', 'four', NULL)

INSERT INTO banned VALUES (3, 'spam'), (8, 'fraud'), (21, 'noise'), (NULL, 'unknown')

INSERT INTO logs (at, line) SELECT timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', 'line ' || n FROM generate_series(1, 6) n

INSERT INTO users (last_name, id, first_name, age, email, country, feeling, born, score, active, tags, doc, seen, wait, level)
SELECT (ARRAY['Adams', 'Baker', 'Hill', 'Moore', 'Park', 'Young', 'Zorn'])[1 + n % 7], n,
    (ARRAY['Ann', 'Bob', NULL, 'Cyd', 'Dan'])[1 + n % 5], nullif(10 + n * 7 % 40, 17), 'u' || n || '@example.org',
    (ARRAY['de', 'fr', 'it', NULL])[1 + n % 4], (ARRAY['sad', 'calm', 'glad'])[1 + n % 3]::mood,
    date '1980-01-01' + n * 100, n * 1.125, n % 3 <> 0, ARRAY['t' || n % 3, 't' || n % 5],
    jsonb_build_object('n', n, 'even', n % 2 = 0, 'list', jsonb_build_array(n, n + 1)),
    timestamptz '2024-03-01 12:00+00' + n * interval '1 day', n * interval '1 hour', 1 + n % 4
FROM generate_series(1, 42) n

INSERT INTO orders (last_name, user_id, no, amount, placed, note, items)
SELECT u.last_name, u.id, k, u.id * k + 0.25, timestamptz '2024-06-01 00:00+00' + (u.id * 10 + k) * interval '1 hour',
    CASE WHEN k = 2 THEN NULL ELSE 'note ' || u.id % 4 END, ARRAY[k, u.id::int]
FROM users u, generate_series(1, 3) k WHERE u.id % 4 >= k

INSERT INTO events SELECT n, (ARRAY['login', 'click', 'buy'])[1 + n % 3], nullif(n % 9, 4), timestamp '2024-05-01' + n * interval '6 hour',
    jsonb_build_object('k', n % 4), n / 8.0, (n * 3)::text::money, (n % 16)::bit(4)
FROM generate_series(1, 30) n

INSERT INTO event_parts SELECT id, p, 'part ' || id * p FROM events, generate_series(1, 2) p WHERE id % 3 = p

INSERT INTO docs SELECT ('00000000-0000-4000-8000-0000000000' || lpad(n::text, 2, '0'))::uuid, 'title ' || n % 5, decode(lpad(to_hex(n), 4, '0'), 'hex'),
    ROW(n, n * 2)::point2, int4range(n, n + 5), ('10.0.0.' || n)::inet
FROM generate_series(1, 20) n

INSERT INTO words SELECT 'w' || n, n % 5, date '2024-01-01' + n FROM generate_series(1, 25) n

INSERT INTO posts (id, title, views, author) SELECT n, 'post ' || n, n * n % 17, 'a' || n % 4 FROM generate_series(1, 18) n

INSERT INTO readings SELECT (ARRAY['east', 'north', 'south'])[1 + n % 3], timestamptz '2024-01-01 00:00+00' + n / 3 * interval '1 day', n % 2, n / 4.0
FROM generate_series(1, 40) n

INSERT INTO shop.carts SELECT chr(97 + n % 20), n, n * 1.5 FROM generate_series(1, 30) n

INSERT INTO shop.prices VALUES ('x', 1.50), ('y', 2.25), ('z', NULL)
