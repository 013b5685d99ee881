-- What decisions about shards rest on, and what was decided: settings, load as gateways and clients see it, the log. On group 0
-- (the tables are everywhere, and empty elsewhere). Runs at every start.

CREATE TABLE IF NOT EXISTS pgherd.keyspace_settings (
    keyspace text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (keyspace, name)
);
COMMENT ON TABLE pgherd.keyspace_settings IS 'What CALL pgherd.set_keyspace changed; all else has its default. docs/balancing.md lists the names';

CREATE TABLE IF NOT EXISTS pgherd.group_settings (
    group_id integer PRIMARY KEY,
    weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0),
    draining boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE pgherd.group_settings IS 'A group''s capacity against others, and whether it shall become empty; a group without a row has weight 1';

CREATE TABLE IF NOT EXISTS pgherd.balance_settings (
    name text PRIMARY KEY,
    value text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE pgherd.balance_settings IS 'What CALL pgherd.set_balancing changed, for the whole cluster; docs/balancing.md lists the names';

-- Who began a workflow: a user, the controller, or CALL pgherd.rebalance.
ALTER TABLE pgherd.workflows ADD COLUMN IF NOT EXISTS origin text GENERATED ALWAYS AS (coalesce(settings->>'origin', 'user')) STORED;

CREATE UNLOGGED TABLE IF NOT EXISTS pgherd.shard_load (
    shard integer NOT NULL,
    source text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    load jsonb NOT NULL,
    PRIMARY KEY (shard, source)
);
COMMENT ON TABLE pgherd.shard_load IS 'How each gateway and client uses each shard now: totals that fade, and a sample of keys. Written every few seconds';

CREATE TABLE IF NOT EXISTS pgherd.decisions_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind IN ('split', 'move', 'merge', 'nothing')),
    keyspace text,
    shard integer,
    from_group integer,
    to_group integer,
    code text NOT NULL,
    reason text NOT NULL,
    figures jsonb NOT NULL DEFAULT '{}',
    workflow bigint
);
CREATE INDEX IF NOT EXISTS decisions_log_by_shard ON pgherd.decisions_log (shard, id);
CREATE INDEX IF NOT EXISTS decisions_log_by_age ON pgherd.decisions_log (at);
COMMENT ON TABLE pgherd.decisions_log IS 'What was decided about shards, and why; also why not (kind nothing). Kept for 30 days and 100,000 rows';

-- Samples and reasons name keys, which are users' data.
GRANT SELECT ON pgherd.keyspace_settings, pgherd.group_settings, pgherd.balance_settings TO PUBLIC;
GRANT SELECT ON pgherd.decisions_log, pgherd.shard_load TO pg_monitor;

-- Whether a role may do anything with a table of a keyspace: then what it says about the use of its shards is believed.
CREATE OR REPLACE FUNCTION pgherd.uses_keyspace(p_role name, p_keyspace text) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pgherd.tables t JOIN pg_namespace n ON n.nspname = t.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
                   WHERE t.keyspace = p_keyspace AND has_table_privilege(p_role, c.oid, 'SELECT, INSERT, UPDATE, DELETE'))
$$;

-- Write down how one source uses the shards: [{"shard": 7, "load": {...}}, ...]. What it does not name any more is gone.
-- Sources of different roles cannot meet.
CREATE OR REPLACE FUNCTION pgherd.report_load(p_source text, p_loads jsonb) RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET synchronous_commit = off AS $$
DECLARE
    me text := session_user || ' ' || left(p_source, 100);
    written integer;
BEGIN
    DELETE FROM pgherd.shard_load l WHERE l.source = me
        AND NOT EXISTS (SELECT FROM jsonb_to_recordset(p_loads) AS r (shard integer) WHERE r.shard = l.shard);
    INSERT INTO pgherd.shard_load AS l (shard, source, load)
    SELECT r.shard, me, r.load FROM jsonb_to_recordset(p_loads) AS r (shard integer, load jsonb)
    WHERE r.shard IN (SELECT s.id FROM pgherd.shards s WHERE s.keyspace IN
                      (SELECT k.name FROM pgherd.keyspaces k WHERE pgherd.uses_keyspace(session_user, k.name)))
      AND jsonb_typeof(r.load) = 'object' AND octet_length(r.load::text) < 100000
    ON CONFLICT (shard, source) DO UPDATE SET at = clock_timestamp(), load = excluded.load;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

-- How often sources report, and how fast what they tell fades, in seconds.
CREATE OR REPLACE FUNCTION pgherd.load_rhythm() RETURNS TABLE (report_s double precision, half_life_s double precision) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'report'), 10)::float8,
           coalesce(max(extract(epoch FROM value::interval)) FILTER (WHERE name = 'half_life'), 300)::float8
    FROM pgherd.balance_settings WHERE name IN ('report', 'half_life')
$$;

-- Write decisions down: [{"kind": ..., "code": ..., "reason": ..., ...}, ...] as balance.writing.row makes them. Answers their ids, in order.
CREATE OR REPLACE FUNCTION pgherd.log_decisions(p_rows jsonb) RETURNS SETOF bigint LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO pgherd.decisions_log (kind, keyspace, shard, from_group, to_group, code, reason, figures, workflow)
    SELECT r.kind, r.keyspace, r.shard, r.from_group, r.to_group, r.code, r.reason, coalesce(r.figures, '{}'), r.workflow
    FROM jsonb_to_recordset(p_rows) AS r (kind text, keyspace text, shard integer, from_group integer, to_group integer,
                                          code text, reason text, figures jsonb, workflow bigint)
    RETURNING id
$$;

-- Begin what was decided, and write it down, in one transaction. `p_row`: as pgherd.log_decisions takes it. Answers the workflow's number.
CREATE OR REPLACE FUNCTION pgherd.begin_decision(p_row jsonb, p_old jsonb, p_new jsonb, p_settings jsonb, p_number boolean) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made integer := pgherd.request_workflow(p_row->>'kind', p_row->>'keyspace', p_old, p_new, p_settings, p_number);
BEGIN
    PERFORM pgherd.log_decisions(jsonb_build_array(p_row || jsonb_build_object('workflow', made)));
    RETURN made;
END $$;

-- What became of the controller's workflows that did not succeed, each once.
CREATE OR REPLACE FUNCTION pgherd.log_failures() RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO pgherd.decisions_log (kind, keyspace, shard, from_group, code, reason, workflow)
    SELECT 'nothing', w.keyspace, (w.old->0->>'id')::integer, (w.old->0->>'group_id')::integer, 'failed',
           format('the %s of workflow %s was %s%s; it is left alone for a while', w.kind, w.id,
                  CASE w.state WHEN 'failed' THEN 'given up' WHEN 'undone' THEN 'undone by somebody' ELSE 'cancelled by somebody' END, ': ' || w.error), w.id
    FROM pgherd.workflows w
    WHERE w.origin = 'controller' AND w.state IN ('failed', 'cancelled', 'undone') AND w.updated_at > clock_timestamp() - interval '1 day'
      AND NOT EXISTS (SELECT FROM pgherd.decisions_log l WHERE l.workflow = w.id AND l.code = 'failed')
$$;

-- Keep the log and the loads within bounds: called by the controller's cleaning.
CREATE OR REPLACE FUNCTION pgherd.clean_decisions(p_days integer DEFAULT 30, p_rows integer DEFAULT 100000) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM pgherd.decisions_log WHERE at < clock_timestamp() - make_interval(days => p_days);
    DELETE FROM pgherd.decisions_log WHERE id <= (SELECT id FROM pgherd.decisions_log ORDER BY id DESC OFFSET p_rows LIMIT 1);
    DELETE FROM pgherd.shard_load WHERE at < clock_timestamp() - interval '1 hour' OR shard NOT IN (SELECT id FROM pgherd.shards);
    DELETE FROM pgherd.keyspace_settings WHERE keyspace NOT IN (SELECT name FROM pgherd.keyspaces);
$$;
REVOKE EXECUTE ON FUNCTION pgherd.log_decisions, pgherd.begin_decision, pgherd.log_failures, pgherd.clean_decisions FROM PUBLIC;

-- Change (or with null: forget) one setting of a keyspace, here. pgherd.set_keyspace checks name and value and calls it.
CREATE OR REPLACE FUNCTION pgherd.put_keyspace_setting(p_keyspace text, p_name text, p_value text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_keyspace(p_keyspace);
    IF p_value IS NULL THEN
        DELETE FROM pgherd.keyspace_settings WHERE keyspace = p_keyspace AND name = p_name;
    ELSE
        INSERT INTO pgherd.keyspace_settings AS s (keyspace, name, value) VALUES (p_keyspace, p_name, p_value)
        ON CONFLICT (keyspace, name) DO UPDATE SET value = excluded.value, set_at = clock_timestamp(), set_by = excluded.set_by;
    END IF;
END $$;

-- Who may change what concerns the whole cluster: whoever owns its database.
CREATE OR REPLACE FUNCTION pgherd.must_own_cluster() RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_be((SELECT datdba FROM pg_database WHERE datname = current_database()), 'the cluster''s database');
END $$;

-- Change (or with null: forget) one setting of balancing, here. pgherd.set_balancing checks name and value and calls it.
CREATE OR REPLACE FUNCTION pgherd.put_balance_setting(p_name text, p_value text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_cluster();
    IF p_value IS NULL THEN
        DELETE FROM pgherd.balance_settings WHERE name = p_name;
    ELSE
        INSERT INTO pgherd.balance_settings AS s (name, value) VALUES (p_name, p_value)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, set_at = clock_timestamp(), set_by = excluded.set_by;
    END IF;
END $$;

-- Let a group become empty, or no longer.
CREATE OR REPLACE FUNCTION pgherd.put_draining(p_group integer, p_draining boolean) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_cluster();
    INSERT INTO pgherd.group_settings AS g (group_id, draining) VALUES (p_group, p_draining)
    ON CONFLICT (group_id) DO UPDATE SET draining = excluded.draining;
END $$;

-- What a round of decisions reads on group 0, in one answer. Times are seconds since 1970; a change counts from its cutover.
CREATE OR REPLACE FUNCTION pgherd.balance_facts() RETURNS jsonb LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH done AS (
        SELECT w.kind, w.old, w.new, extract(epoch FROM coalesce(
                   w.kept_until - make_interval(secs => coalesce((w.settings->>'keep_for_s')::float8, 3600)), w.updated_at)) AS at
        FROM pgherd.workflows w WHERE w.state IN ('kept', 'done') AND w.updated_at > clock_timestamp() - interval '7 days')
    SELECT jsonb_build_object(
        'now', extract(epoch FROM clock_timestamp()),
        'settings', (SELECT coalesce(jsonb_agg(jsonb_build_array(keyspace, name, value)), '[]') FROM pgherd.keyspace_settings),
        'groups', (SELECT coalesce(jsonb_agg(to_jsonb(g)), '[]') FROM pgherd.group_settings g),
        'rules', (SELECT coalesce(jsonb_object_agg(name, value), '{}') FROM pgherd.balance_settings),
        'failed', (SELECT coalesce(jsonb_agg(f), '[]') FROM (
                       SELECT max(w.id) AS id, max(w.kind) AS kind, s.shard, count(*) AS times, max(extract(epoch FROM w.updated_at)) AS at
                       FROM pgherd.workflows w CROSS JOIN LATERAL (SELECT (x->>'id')::integer AS shard FROM jsonb_array_elements(w.old) x) s
                       WHERE w.origin = 'controller' AND w.state IN ('failed', 'cancelled', 'undone')
                         AND w.updated_at > clock_timestamp() - interval '1 day' GROUP BY s.shard) f),
        'loads', (SELECT coalesce(jsonb_agg(jsonb_build_array(shard, extract(epoch FROM clock_timestamp() - at), load)), '[]') FROM pgherd.shard_load),
        'running', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'kind', w.kind,
                        'shards', jsonb_path_query_array(w.old || w.new, '$[*].id'),
                        'groups', jsonb_path_query_array(w.old || w.new, '$[*].group_id'))), '[]')
                    FROM pgherd.workflows w WHERE w.state IN ('waiting', 'running', 'paused')),
        'born', (SELECT coalesce(jsonb_object_agg(x.id, x.at), '{}') FROM (
                     SELECT n.id, max(d.at) AS at FROM done d CROSS JOIN jsonb_to_recordset(d.new) AS n (id integer)
                     WHERE d.kind IN ('split', 'merge') GROUP BY n.id) x),
        'moved', (SELECT coalesce(jsonb_object_agg(x.id, x.at), '{}') FROM (
                      SELECT n.id, max(d.at) AS at FROM done d CROSS JOIN jsonb_to_recordset(d.new) AS n (id integer, group_id integer)
                      WHERE d.kind = 'move' OR NOT EXISTS (SELECT FROM jsonb_to_recordset(d.old) AS o (group_id integer) WHERE o.group_id = n.group_id)
                      GROUP BY n.id) x))
$$;

-- The shards of this group: what all their tables take, and rows by estimate.
CREATE OR REPLACE FUNCTION pgherd.shard_sizes() RETURNS TABLE (shard integer, bytes bigint, row_count bigint) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT substring(n.nspname FROM '^shard_([0-9]+)')::integer, sum(pg_total_relation_size(c.oid))::bigint, sum(greatest(c.reltuples, 0))::bigint
    FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
    WHERE n.nspname ~ '^shard_[0-9]+(_|$)' GROUP BY 1
$$;

-- Values of the shard key's first column at about even distances of rows, with weights, as statistics know them:
-- [[value, weight], ...] of the keyspace's largest table in this shard; empty before the first ANALYZE.
CREATE OR REPLACE FUNCTION pgherd.shard_sample(p_shard integer) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH largest AS (
             SELECT n.nspname, c.relname, t.key[1] AS first
             FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace)
             JOIN pg_namespace n ON n.nspname = pgherd.physical('shard_' || s.id, t.schema)
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name AND c.relkind = 'r'
             WHERE s.id = p_shard ORDER BY pg_total_relation_size(c.oid) DESC, c.relname LIMIT 1),
         known AS (
             SELECT p.most_common_vals::text::text[] AS common, p.most_common_freqs AS often, p.histogram_bounds::text::text[] AS bounds
             FROM largest l JOIN pg_stats p ON p.schemaname = l.nspname AND p.tablename = l.relname AND p.attname = l.first),
         found AS (
             SELECT v.value, v.weight FROM known k CROSS JOIN LATERAL unnest(k.common, k.often) AS v (value, weight)
             UNION ALL
             SELECT v.value, greatest(0.0, 1 - coalesce((SELECT sum(o) FROM unnest(k.often) o), 0)) / cardinality(k.bounds)
             FROM known k CROSS JOIN LATERAL unnest(k.bounds) AS v (value))
    SELECT coalesce(jsonb_agg(jsonb_build_array(value, weight)), '[]') FROM found
$$;
REVOKE EXECUTE ON FUNCTION pgherd.balance_facts, pgherd.shard_sizes, pgherd.shard_sample FROM PUBLIC;
