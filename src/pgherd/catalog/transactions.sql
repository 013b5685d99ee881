-- What two-phase commit, snapshots and deadlock detection keep in each group. Idempotent; runs after schema.sql.

-- Decisions. `durability`: its default makes the deciding commit wait for the standby even where the role turned that off.
CREATE TABLE IF NOT EXISTS pgherd.decisions (
    id text PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    groups int4[] NOT NULL DEFAULT '{}',
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    durability text NOT NULL DEFAULT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
);
CREATE INDEX IF NOT EXISTS decisions_by_age ON pgherd.decisions USING brin (decided_at);

-- Whether the process `home_pid` still runs the transaction that it ran at `since`: then its coordinator lives, too.
CREATE OR REPLACE FUNCTION pgherd.branch_open(home_pid int, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE pid = home_pid AND datname = current_database() AND xact_start <= since)
$$;

-- The gates: always empty, only ever locked. Participants pass the first before they prepare, home the second before it
-- decides. Empty tables, since a window's lock on a table with rows would meet autovacuum's.
CREATE TABLE IF NOT EXISTS pgherd.gate (nothing int CHECK (false));
CREATE TABLE IF NOT EXISTS pgherd.home_gate (nothing int CHECK (false));

-- Shards that are about to be cut over: part of the map, so that routers are on their guard in transactions that have begun already.
CREATE TABLE IF NOT EXISTS pgherd.moving (shard integer PRIMARY KEY, workflow integer NOT NULL);
GRANT SELECT ON pgherd.moving TO PUBLIC;

GRANT USAGE ON SCHEMA pgherd TO PUBLIC;
GRANT SELECT, INSERT, UPDATE ON pgherd.decisions TO PUBLIC;
GRANT SELECT, UPDATE ON pgherd.gate, pgherd.home_gate TO PUBLIC;
