-- mode: reads
-- Aggregates, grouping, grouping sets, windows.

SELECT count(*) FROM users

SELECT count(*), count(age), count(DISTINCT age), sum(age), avg(age), min(age), max(age) FROM users

SELECT count(*), sum(n) FROM events WHERE id < 0

SELECT sum(amount), avg(amount), min(placed), max(note) FROM orders

SELECT last_name, count(*) FROM users GROUP BY last_name ORDER BY last_name

SELECT country, count(*), avg(age), sum(score) FROM users GROUP BY country ORDER BY country

SELECT country, feeling, count(*) FROM users GROUP BY 1, 2 ORDER BY 1, 2

SELECT country AS c, count(*) AS n FROM users GROUP BY c HAVING count(*) > 5 ORDER BY n DESC, c

SELECT age / 10 AS decade, count(*) FROM users GROUP BY age / 10 ORDER BY decade

SELECT age / 10 * 10 + 1, max(id) - min(id), sum(id) * 2 FROM users GROUP BY age / 10 ORDER BY 1 NULLS FIRST

SELECT kind, count(*) FILTER (WHERE n > 3), sum(n) FILTER (WHERE n < 3) FROM events GROUP BY kind ORDER BY kind

SELECT count(*) FILTER (WHERE active), count(*) FILTER (WHERE NOT active) FROM users

SELECT kind, array_agg(id ORDER BY id DESC), string_agg(n::text, ',' ORDER BY id) FROM events GROUP BY kind ORDER BY kind

SELECT array_agg(last_name ORDER BY id), jsonb_agg(id ORDER BY id DESC) FROM users

SELECT string_agg(DISTINCT kind, '/' ORDER BY kind) FROM events

SELECT count(DISTINCT country), count(DISTINCT (country, feeling)) FROM users

SELECT sum(DISTINCT age), avg(DISTINCT age) FROM users

SELECT kind, count(DISTINCT n) FROM events GROUP BY kind ORDER BY kind

SELECT bool_and(active), bool_or(active), every(age > 5) FROM users

SELECT bit_and(n), bit_or(n), bit_xor(n) FROM events

SELECT stddev(n), variance(n), stddev_pop(id), var_samp(id), round(corr(id, n)::numeric, 6) FROM events

SELECT regr_count(id, n), round(regr_slope(id, n)::numeric, 6), round(covar_pop(id, n)::numeric, 6) FROM events

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age), percentile_disc(0.9) WITHIN GROUP (ORDER BY id), mode() WITHIN GROUP (ORDER BY country) FROM users

SELECT country, percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY age) FROM users GROUP BY country ORDER BY country

SELECT rank(25) WITHIN GROUP (ORDER BY age) FROM users

SELECT sum(ratio), avg(ratio), sum(cost), max(at), min(cost) FROM events

SELECT sum(wait), avg(wait), min(seen), max(feeling), min(born) FROM users

SELECT sum(age::smallint), avg(age::smallint), sum(score::real), sum(age::bigint), avg(id) FROM users

SELECT min(tags), max(host) FROM users, docs

SELECT any_value(last_name) FROM users WHERE last_name = 'Hill'

SELECT json_object_agg(id, last_name ORDER BY id) FROM users WHERE id < 5

SELECT range_agg(span) FROM docs

SELECT max(last_name), min(last_name) FROM users

SELECT max(id) FROM users WHERE last_name = 'none'

SELECT country, feeling, count(*) FROM users GROUP BY ROLLUP (country, feeling) ORDER BY 1, 2, 3

SELECT country, feeling, count(*), grouping(country, feeling) FROM users GROUP BY CUBE (country, feeling) ORDER BY 4, 1, 2

SELECT country, active, sum(age) FROM users GROUP BY GROUPING SETS ((country), (active), ()) ORDER BY 1, 2, 3

SELECT last_name, count(*) FROM users GROUP BY last_name HAVING max(age) > 45 ORDER BY 1

SELECT last_name FROM users GROUP BY last_name HAVING bool_or(id = 3)

SELECT count(*) FROM users HAVING count(*) > 1000

SELECT 1 FROM users HAVING count(*) > 1

SELECT last_name, id, first_name, count(*) FROM users GROUP BY last_name, id ORDER BY id LIMIT 5

SELECT u.last_name, u.id, u.age, sum(o.amount) FROM users u JOIN orders o ON o.last_name = u.last_name AND o.user_id = u.id GROUP BY u.last_name, u.id ORDER BY 4 DESC, 2 LIMIT 5

SELECT u.country, sum(o.amount), count(DISTINCT u.id) FROM users u JOIN orders o ON (o.last_name, o.user_id) = (u.last_name, u.id) GROUP BY 1 ORDER BY 1

SELECT avg(total), max(n) FROM totals

SELECT sum(total), count(*) FROM (SELECT last_name, sum(amount) AS total FROM orders GROUP BY last_name) t

SELECT kind, avg(c) FROM (SELECT kind, n, count(*) AS c FROM events GROUP BY kind, n) t GROUP BY kind ORDER BY kind

SELECT date_trunc('day', at) AS day, count(*), sum(n) FROM events GROUP BY day ORDER BY day

SELECT to_char(at, 'YYYY-MM') m, round(avg(ratio)::numeric, 3) FROM events GROUP BY to_char(at, 'YYYY-MM') ORDER BY m

SELECT extract(day FROM at)::int, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC, 1

SELECT count(*) AS n, kind FROM events GROUP BY kind ORDER BY count(*), kind

SELECT kind FROM events GROUP BY kind ORDER BY sum(n) DESC, kind

SELECT kind, sum(n) FROM events GROUP BY kind ORDER BY sum(n) / count(*), kind LIMIT 2

SELECT DISTINCT count(*) FROM events GROUP BY n ORDER BY 1

SELECT sum(n), sum(n) + 1, sum(n + 1), -sum(n), abs(sum(-n)) FROM events

SELECT CASE WHEN count(*) > 10 THEN 'many' ELSE 'few' END FROM events

SELECT coalesce(sum(n), 0) FROM events WHERE kind = 'none'

SELECT region, sensor, avg(value) FROM readings GROUP BY region, sensor ORDER BY 1, 2

SELECT sum(total) FROM shop.carts WHERE owner < 'k'

SELECT owner, sum(total) FROM shop.carts GROUP BY owner HAVING sum(total) > 20 ORDER BY owner

SELECT id, age, row_number() OVER (ORDER BY age NULLS LAST, id), rank() OVER (ORDER BY age) FROM users ORDER BY id

SELECT last_name, id, sum(age) OVER (PARTITION BY last_name ORDER BY id), lag(age) OVER (PARTITION BY last_name ORDER BY id) FROM users ORDER BY last_name, id

SELECT country, id, count(*) OVER (PARTITION BY country), avg(age) OVER w FROM users WINDOW w AS (PARTITION BY country ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) ORDER BY country, id

SELECT kind, sum(sum(n)) OVER (ORDER BY kind), rank() OVER (ORDER BY sum(n) DESC) FROM events GROUP BY kind ORDER BY kind

SELECT * FROM (SELECT id, ntile(4) OVER (ORDER BY id) AS q, dense_rank() OVER (PARTITION BY feeling ORDER BY age) AS d FROM users) t WHERE q = 2 ORDER BY id

SELECT last_name, id FROM (SELECT *, row_number() OVER (PARTITION BY last_name ORDER BY score DESC) AS r FROM users) t WHERE r = 1 ORDER BY last_name

SELECT id, first_value(id) OVER (PARTITION BY kind ORDER BY id), nth_value(id, 2) OVER (PARTITION BY kind ORDER BY id RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM events ORDER BY id

SELECT count(*) FROM users, countries

SELECT count(*) FROM users u LEFT JOIN countries c ON c.code = u.country WHERE c.code IS NULL

SELECT c.name, count(u.id) FROM countries c LEFT JOIN users u ON u.country = c.code GROUP BY c.name ORDER BY c.name

SELECT grouping(kind), kind, sum(n) FROM events GROUP BY ROLLUP (kind) HAVING grouping(kind) = 0 OR sum(n) > 0 ORDER BY kind

SELECT string_agg(word, ',') FROM (SELECT word FROM words ORDER BY word LIMIT 3) t

SELECT array_agg(x) FROM (SELECT id AS x FROM users ORDER BY id LIMIT 4) t

SELECT sum(hits) FROM words WHERE word IN ('w1', 'w2')

SELECT count(*) FROM words WHERE word = 'w1'

SELECT count(*), max(word) FROM words WHERE word = 'none'

SELECT count(*) FROM ONLY settings

-- params: ["20", "a"]
SELECT country, count(*) FILTER (WHERE age > $1), $2 || country FROM users GROUP BY country ORDER BY 1

-- params: ["10"]
SELECT age / $1::int, count(*) FROM users GROUP BY age / $1::int ORDER BY 1

-- params: ["3"]
SELECT kind, count(*) FROM events GROUP BY kind HAVING count(*) > $1 ORDER BY kind LIMIT $1

SELECT kind, n FROM events GROUP BY kind

SELECT sum(kind) FROM events

SELECT count(*) FROM events ORDER BY id

SELECT max(count(*)) FROM events

SELECT sum(n) FROM events LIMIT 0

SELECT count(*) FROM events OFFSET 1

SELECT 1 / count(*) FILTER (WHERE n = 77) FROM events
