-- The pgherd schema: what every group knows about the whole cluster. {group} is replaced by the group's number.

CREATE SCHEMA pgherd;
GRANT USAGE ON SCHEMA pgherd TO PUBLIC;
CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA pgherd;

CREATE TABLE pgherd.cluster (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL,
    layout integer NOT NULL,
    epoch bigint NOT NULL,
    next_shard integer NOT NULL DEFAULT 1,
    next_keyspace integer NOT NULL DEFAULT 1,
    next_node integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE pgherd.cluster IS 'One row. epoch grows with every change of the cluster map; whoever changes it locks this row on group 0 first';

CREATE TABLE pgherd.this (one boolean PRIMARY KEY DEFAULT true CHECK (one), group_id integer NOT NULL);
COMMENT ON TABLE pgherd.this IS 'One row: the group that this database is';

CREATE TABLE pgherd.groups (
    id integer PRIMARY KEY CHECK (id BETWEEN 0 AND 511),
    managed boolean NOT NULL DEFAULT false
);
COMMENT ON COLUMN pgherd.groups.managed IS 'Patroni decides who is primary; otherwise the group has one node';

CREATE TABLE pgherd.nodes (
    id integer PRIMARY KEY,
    group_id integer NOT NULL REFERENCES pgherd.groups,
    host text NOT NULL,
    port integer NOT NULL,
    database text NOT NULL,
    region text NOT NULL DEFAULT '',
    zone text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX nodes_name ON pgherd.nodes (name) WHERE name <> '';
COMMENT ON COLUMN pgherd.nodes.id IS 'stays with the node, and is never given to another one';
COMMENT ON COLUMN pgherd.nodes.name IS 'the name of Patroni''s member; empty where there is no Patroni';

-- Announced pauses of this group: a row that is past means nothing.
CREATE TABLE pgherd.pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    timeline integer,
    CHECK (ends_at >= starts_at)
);
COMMENT ON COLUMN pgherd.pauses.timeline IS 'the pause ends when another node becomes primary: it counts on this timeline only; null: on any';

-- What all foreign servers of this cluster are told beside where they are: sslmode, sslrootcert and the like.
CREATE TABLE pgherd.server_options (name text PRIMARY KEY, value text NOT NULL);

CREATE TABLE pgherd.keyspaces (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    strategy text NOT NULL CHECK (strategy IN ('range', 'hash')),
    key_types text[] NOT NULL
);

CREATE TABLE pgherd.shards (
    id integer PRIMARY KEY,
    keyspace text NOT NULL REFERENCES pgherd.keyspaces (name),
    strategy text NOT NULL CHECK (strategy IN ('range', 'hash')),
    range_start text[],
    range_end text[],
    modulus integer,
    remainder integer,
    group_id integer NOT NULL REFERENCES pgherd.groups,
    CHECK ((strategy = 'hash') = (modulus IS NOT NULL) AND (strategy = 'hash') = (remainder IS NOT NULL))
);
CREATE INDEX ON pgherd.shards (keyspace);
COMMENT ON COLUMN pgherd.shards.range_start IS 'the least key of the shard; null: no bound; fewer values than the key has columns: the least of the rest';
COMMENT ON COLUMN pgherd.shards.range_end IS 'the least key after the shard; null: no bound';

CREATE TABLE pgherd.tables (
    schema text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('distributed', 'reference', 'single', 'view')),
    keyspace text REFERENCES pgherd.keyspaces (name),
    key text[],
    distributed_view boolean NOT NULL DEFAULT false,
    on_all boolean NOT NULL DEFAULT true,
    PRIMARY KEY (schema, name),
    CHECK ((kind = 'distributed') = (keyspace IS NOT NULL) AND (kind = 'distributed') = (key IS NOT NULL))
);

-- What a reader of several groups touches first, through pgherd.probe_<group>: one row.
CREATE TABLE pgherd.probe (one integer PRIMARY KEY);
INSERT INTO pgherd.probe VALUES (1);

-- Origins of generated ids: 0 to 511 are groups, the rest is leased by gateways and clients.
CREATE SEQUENCE pgherd.origins MINVALUE 512 MAXVALUE 2047 CYCLE;
-- The last id of this group, as milliseconds * 2048 + counter.
CREATE SEQUENCE pgherd.ids;

GRANT SELECT ON pgherd.cluster, pgherd.this, pgherd.groups, pgherd.nodes, pgherd.keyspaces, pgherd.shards, pgherd.tables, pgherd.probe,
    pgherd.pauses TO PUBLIC;
GRANT USAGE ON SEQUENCE pgherd.origins TO PUBLIC;
INSERT INTO pgherd.this (group_id) VALUES ({group});
