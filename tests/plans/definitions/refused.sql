# Definitions of tables

CREATE TABLE t (a int) PARTITION BY LIST (a)
-- Refused 0A000: PARTITION BY LIST is not supported for distributed tables
--   hint: Use PARTITION BY RANGE or PARTITION BY HASH.

CREATE TABLE t (a int, b int UNIQUE) PARTITION BY HASH (a)
-- Refused 0A000: unique constraint on partitioned table must include all partitioning columns
--   hint: A unique constraint of a distributed table must include its shard key, as each shard can only check its own rows.

CREATE TABLE t (a int, b int, EXCLUDE (b WITH =)) PARTITION BY HASH (a)
-- Refused 0A000: unique constraint on partitioned table must include all partitioning columns
--   hint: A unique constraint of a distributed table must include its shard key, as each shard can only check its own rows.

CREATE UNIQUE INDEX ON hashed (b)
-- Refused 0A000: unique constraint on partitioned table must include all partitioning columns
--   hint: A unique constraint of a distributed table must include its shard key, as each shard can only check its own rows.

CREATE TABLE t (a serial) PARTITION BY HASH (a)
-- Refused 0A000: column "a" of a distributed table cannot be serial or identity of type integer
--   hint: Generated ids are 64-bit, so that they are unique in the whole cluster: use bigserial, or bigint with GENERATED ... AS IDENTITY.

CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY) PARTITION BY HASH (a)
-- Refused 0A000: column "a" of a distributed table cannot be serial or identity of type integer
--   hint: Generated ids are 64-bit, so that they are unique in the whole cluster: use bigserial, or bigint with GENERATED ... AS IDENTITY.

CREATE TABLE t (a int DEFAULT nextval('counter'), b int) PARTITION BY HASH (b)
-- Refused 0A000: column "a" of a distributed table cannot take its default from a sequence of its own
--   hint: A sequence counts in one group only. Use bigserial or GENERATED ... AS IDENTITY: their ids are unique in the whole cluster.

CREATE TABLE t (a int) PARTITION BY RANGE ((a + 1))
-- Refused 0A000: a shard key cannot be an expression
--   hint: Use plain columns; a generated column (GENERATED ALWAYS AS (...) STORED) cannot be one either.

CREATE TABLE t (a boolean) PARTITION BY RANGE (a)
-- Refused 0A000: column "a" of type boolean cannot be a shard key
--   hint: Types of shard keys: bigint, character varying, date, integer, numeric, smallint, text, timestamp with time zone, timestamp without time zone, uuid.

CREATE TABLE t (a numeric(10, 2)) PARTITION BY RANGE (a)
-- Refused 0A000: column "a" cannot be a shard key: its type rounds values to a precision
--   hint: Use numeric without a precision.

CREATE TABLE t (a text COLLATE "unicode") PARTITION BY RANGE (a)
-- Refused 0A000: column "a" cannot be a shard key with an operator class or collation of its own
--   hint: Leave out COLLATE and the operator class: keys order by code point.

CREATE TABLE t PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0)
-- Refused 0A000: PARTITION OF is not supported
--   hint: pgherd makes the shards of a distributed table itself; CALL pgherd.split(...) cuts them.

CREATE TABLE t () INHERITS (single)
-- Refused 0A000: table inheritance is not supported
--   hint: Use CREATE TABLE ... (LIKE parent INCLUDING ALL).

ALTER TABLE hashed ADD COLUMN s serial
-- Refused 0A000: column "s" of a distributed table cannot be serial or identity of type integer
--   hint: Generated ids are 64-bit, so that they are unique in the whole cluster: use bigserial, or bigint with GENERATED ... AS IDENTITY.

ALTER TABLE hashed DETACH PARTITION single
-- Refused 0A000: ALTER TABLE ... DETACH PARTITION is not supported for distributed tables
--   hint: pgherd places the shards of a distributed table itself.

ALTER TABLE hashed SET SCHEMA other
-- Refused 0A000: SET SCHEMA is not supported for tables and views
--   hint: Create it in the other schema and copy the rows.

# Foreign keys

CREATE TABLE t (a bigint REFERENCES single) PARTITION BY HASH (a)
-- Refused 0A000: foreign key "t_a_fkey": a distributed table cannot refer to the single table "single"
--   hint: Make it a reference table first: CALL pgherd.reference('single').

CREATE TABLE t (a bigint, b bigint REFERENCES hashed) PARTITION BY HASH (a)
-- Refused 0A000: foreign key "t_b_fkey" does not cover the shard key of "hashed"
--   hint: Include the shard key: FOREIGN KEY (a, ...) REFERENCES hashed (a, ...).

CREATE TABLE t (a text, b bigint REFERENCES hashed) PARTITION BY RANGE (a)
-- Refused 0A000: foreign key "t_b_fkey": "t" and "hashed" lie in different keyspaces
--   hint: Distribute both by the same key, so that a row and the row it refers to share a shard.

CREATE TABLE t (a bigint REFERENCES hashed)
-- Refused 0A000: foreign key "t_a_fkey": a single table cannot refer to the distributed table "hashed"
--   hint: Distribute "t" by the same key.

ALTER TABLE hashed ADD COLUMN s bigint REFERENCES single
-- Refused 0A000: foreign key "hashed_s_fkey": a distributed table cannot refer to the single table "single"
--   hint: Make it a reference table first: CALL pgherd.reference('single').

# Triggers, rules, policies, code

CREATE TRIGGER x AFTER INSERT ON hashed FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()
-- Refused 0A000: a distributed table cannot have statement-level triggers
--   hint: Use FOR EACH ROW: such triggers fire in the row's own shard.

CREATE TRIGGER x BEFORE UPDATE ON codes FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
-- Refused 0A000: a reference table cannot have triggers
--   hint: They would fire once in every group. Do the trigger's work in the statement.

CREATE RULE r AS ON INSERT TO hashed DO INSTEAD NOTHING
-- Refused 0A000: a distributed table cannot have rules
--   hint: Use a row trigger, or change the statement itself.

CREATE POLICY p ON hashed USING (current_setting('app.x') = '1')
-- Refused 0A000: a policy of a distributed table can use neither current_setting() nor subqueries
--   hint: Use the row's columns and current_user.

CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM hashed'
-- Refused 0A000: a function or procedure cannot use the distributed table "hashed"
--   hint: Its body runs inside one server, which holds only a part of the table. Use a view, or run the statements from the application.

DO $$ BEGIN PERFORM 1 FROM hashed; END $$
-- Refused 0A000: a DO block cannot use the distributed table "hashed"
--   hint: It runs inside group 0, which holds only a part of the table. Run its statements one by one.

# Schemas, databases, servers

CREATE SCHEMA s CREATE TABLE t (a int)
-- Refused 0A000: CREATE SCHEMA cannot create tables along with it
--   hint: Create them after the schema, one by one.

ALTER SCHEMA public RENAME TO private
-- Refused 0A000: a schema that holds tables cannot be renamed
--   hint: Create the new schema and its tables, then copy the rows.

GRANT CONNECT ON DATABASE pgherd TO PUBLIC
-- Refused 0A000: GRANT ON DATABASE is not supported
--   hint: Each group's database has a name of its own. Grant on schemas and tables.

ALTER DATABASE pgherd SET work_mem = '1MB'
-- Refused 0A000: ALTER DATABASE is not supported
--   hint: Use ALTER ROLE ... SET, or SET in the session.

ALTER ROLE postgres IN DATABASE pgherd SET work_mem = '1MB'
-- Refused 0A000: ALTER ROLE ... IN DATABASE is not supported
--   hint: Leave out IN DATABASE: the cluster is one database.

CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw
-- Refused 0A000: foreign servers are not supported
--   hint: pgherd's own foreign servers join the groups.

CREATE FOREIGN TABLE t (a int) SERVER s
-- Refused 0A000: foreign tables are not supported
--   hint: Copy the rows in: COPY, or INSERT.

CREATE PUBLICATION p FOR TABLE hashed
-- Refused 0A000: publications are not supported
--   hint: Replicate from the groups' servers themselves.

CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()
-- Refused 0A000: event triggers are not supported
--   hint: pgherd's own definitions would set them off in every group.

DROP OWNED BY postgres
-- Refused 0A000: DROP OWNED is not supported
--   hint: Drop the objects by name.

REASSIGN OWNED BY postgres TO postgres
-- Refused 0A000: REASSIGN OWNED is not supported
--   hint: Use ALTER ... OWNER TO for each object.
