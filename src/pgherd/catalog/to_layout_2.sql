-- From layout 1 to 2: groups that are managed, nodes with names, announced pauses, options of foreign servers.

ALTER TABLE pgherd.cluster ADD COLUMN next_node integer NOT NULL DEFAULT 0;
UPDATE pgherd.cluster SET next_node = (SELECT coalesce(max(id) + 1, 0) FROM pgherd.nodes), layout = 2;

ALTER TABLE pgherd.groups ADD COLUMN managed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN pgherd.groups.managed IS 'Patroni decides who is primary; otherwise the group has one node';

ALTER TABLE pgherd.nodes ADD COLUMN name text NOT NULL DEFAULT '';
CREATE UNIQUE INDEX nodes_name ON pgherd.nodes (name) WHERE name <> '';
COMMENT ON COLUMN pgherd.nodes.id IS 'stays with the node, and is never given to another one';
COMMENT ON COLUMN pgherd.nodes.name IS 'the name of Patroni''s member; empty where there is no Patroni';

CREATE TABLE pgherd.pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    timeline integer,
    CHECK (ends_at >= starts_at)
);
COMMENT ON COLUMN pgherd.pauses.timeline IS 'the pause ends when another node becomes primary: it counts on this timeline only; null: on any';
GRANT SELECT ON pgherd.pauses TO PUBLIC;

CREATE TABLE pgherd.server_options (name text PRIMARY KEY, value text NOT NULL);
