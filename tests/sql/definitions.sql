-- mode: script
-- Definitions of all sorts.

CREATE TABLE plain (id serial PRIMARY KEY, name text UNIQUE, at timestamptz DEFAULT now())

INSERT INTO plain (name) VALUES ('a'), ('b') RETURNING id, name

ALTER TABLE plain ADD COLUMN extra int DEFAULT 5, ADD CONSTRAINT positive CHECK (extra > 0)

INSERT INTO plain (name, extra) VALUES ('c', -1)

SELECT id, name, extra FROM plain ORDER BY id

ALTER TABLE plain RENAME COLUMN extra TO more

ALTER TABLE plain RENAME TO plainer

SELECT more FROM plainer ORDER BY id

DROP TABLE plainer

CREATE TABLE wide (a int, b text, c numeric(8, 2), PRIMARY KEY (a)) PARTITION BY HASH (a)

INSERT INTO wide SELECT n, 'b' || n, n FROM generate_series(1, 20) n

ALTER TABLE wide ADD COLUMN d text DEFAULT 'dee' NOT NULL

SELECT a, d FROM wide ORDER BY a LIMIT 3

ALTER TABLE wide ALTER COLUMN b TYPE varchar(20), ALTER COLUMN c SET DEFAULT 1.5

INSERT INTO wide (a) VALUES (100), (101) RETURNING *

ALTER TABLE wide RENAME COLUMN b TO bee

SELECT bee FROM wide WHERE a = 3

SELECT bee, sum(c) FROM wide GROUP BY bee ORDER BY bee LIMIT 3

ALTER TABLE wide DROP COLUMN d

SELECT * FROM wide ORDER BY a DESC LIMIT 2

ALTER TABLE wide ADD CONSTRAINT small CHECK (a < 1000)

INSERT INTO wide (a) VALUES (2000)

ALTER TABLE wide DROP CONSTRAINT small

INSERT INTO wide (a) VALUES (2000)

ALTER TABLE wide ALTER COLUMN bee SET NOT NULL

DELETE FROM wide WHERE bee IS NULL

ALTER TABLE wide ALTER COLUMN bee SET NOT NULL

CREATE INDEX wide_c ON wide (c DESC) WHERE c > 0

CREATE INDEX IF NOT EXISTS wide_c ON wide (c)

CREATE UNIQUE INDEX wide_u ON wide (a, bee)

DROP INDEX wide_c

DROP INDEX wide_c

ALTER TABLE wide RENAME TO wider

SELECT count(*) FROM wider

SELECT count(*) FROM wide

COMMENT ON TABLE wider IS 'wide indeed'

SELECT obj_description('wider'::regclass)

CREATE VIEW some AS SELECT a, bee FROM wider WHERE a < 5

SELECT * FROM some ORDER BY a

CREATE OR REPLACE VIEW some AS SELECT a, bee, c FROM wider WHERE a < 6

SELECT * FROM some ORDER BY a

DROP TABLE wider

DROP VIEW some

DROP TABLE wider

DROP TABLE wider

DROP TABLE IF EXISTS wider

CREATE TYPE color AS ENUM ('red', 'blue')

ALTER TYPE color ADD VALUE 'green' BEFORE 'blue'

CREATE TABLE painted (id int PRIMARY KEY, c color, cs color[]) PARTITION BY HASH (id)

INSERT INTO painted VALUES (1, 'green', '{red}'), (2, 'red', NULL), (3, 'blue', '{blue,green}')

SELECT c, count(*) FROM painted GROUP BY c ORDER BY c

SELECT max(c), array_agg(c ORDER BY c), array_agg(cs ORDER BY id) FILTER (WHERE cs = '{red}') FROM painted

SELECT * FROM painted ORDER BY c

DROP TYPE color

DROP TABLE painted

DROP TYPE color

CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql IMMUTABLE RETURN n * 2

SELECT double(4), double(n) FROM events ORDER BY id LIMIT 3

SELECT id FROM events WHERE id = double(2)

UPDATE events SET n = double(n) WHERE id < 5 RETURNING id, n

CREATE FUNCTION total_of(name text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN length(name); END $$

SELECT total_of(last_name), count(*) FROM users GROUP BY 1 ORDER BY 1

DROP FUNCTION total_of(text)

CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1'

CALL nothing()

DROP PROCEDURE nothing

DROP FUNCTION double

CREATE SCHEMA other

CREATE TABLE other.things (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, n int) PARTITION BY HASH (id)

INSERT INTO other.things (n) SELECT * FROM generate_series(1, 10)

SELECT count(*), sum(n) FROM other.things

BEGIN

-- refused
ALTER TABLE other.things SET SCHEMA public

ROLLBACK

DROP TABLE IF EXISTS things, other.things

DROP SCHEMA other CASCADE

CREATE SEQUENCE counter START 10 INCREMENT 5

SELECT nextval('counter'), nextval('counter')

ALTER SEQUENCE counter RESTART

SELECT nextval('counter')

DROP SEQUENCE counter

CREATE MATERIALIZED VIEW report AS SELECT kind, count(*) AS n FROM events GROUP BY kind

SELECT * FROM report ORDER BY kind

REFRESH MATERIALIZED VIEW report

DROP MATERIALIZED VIEW report

CREATE TABLE copied AS SELECT last_name, count(*) AS n FROM users GROUP BY last_name

SELECT * FROM copied ORDER BY 1

SELECT id, kind INTO picked FROM events WHERE n = 1

SELECT count(*) FROM picked

DROP TABLE copied, picked

CREATE TABLE base (id int PRIMARY KEY, body text)

CREATE TABLE child (LIKE base INCLUDING ALL)

INSERT INTO child VALUES (1, 'x')

DROP TABLE base, child

CREATE ROLE visitor

GRANT SELECT ON users, settings TO visitor

GRANT USAGE ON SCHEMA shop TO visitor

SET ROLE visitor

SELECT count(*) FROM users

-- differs: pgherd reads a view
SELECT count(*) FROM events

UPDATE users SET age = 1

RESET ROLE

REVOKE ALL ON users, settings FROM visitor

REVOKE USAGE ON SCHEMA shop FROM visitor

DROP ROLE visitor

BEGIN

CREATE TABLE intx (id int PRIMARY KEY, n int) PARTITION BY HASH (id)

INSERT INTO intx SELECT n, n FROM generate_series(1, 10) n

SELECT sum(n) FROM intx

ALTER TABLE intx ADD COLUMN m int DEFAULT 3

SELECT sum(m) FROM intx

ROLLBACK

SELECT * FROM intx

CREATE TABLE intx (id int PRIMARY KEY, n int) PARTITION BY HASH (id)

CREATE TABLE intx (id int)

CREATE TABLE IF NOT EXISTS intx (id int)

DROP TABLE intx

CREATE TABLE bad (id int, id text)

CREATE TABLE bad (id nothing)

CREATE TABLE orphan (id int PRIMARY KEY, u bigint REFERENCES nowhere)

CREATE TABLE trig (id int PRIMARY KEY, n int)

CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := coalesce(NEW.n, 0) + 1; RETURN NEW; END $$

CREATE TRIGGER bumping BEFORE INSERT ON trig FOR EACH ROW EXECUTE FUNCTION bump()

INSERT INTO trig VALUES (1, 1), (2, NULL) RETURNING n

DROP TABLE trig

DROP FUNCTION bump
