-- Foreign servers: one for each other group, as group_<id>, with all of its nodes; and what a reader probes through it.

-- The options of the server of one group. A vanished host shall not hang a scan, and a group with several nodes is its primary.
CREATE OR REPLACE FUNCTION pgherd.wanted_options(p_group integer) RETURNS TABLE (name text, value text) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH n AS (SELECT string_agg(host, ',' ORDER BY id) AS host, string_agg(port::text, ',' ORDER BY id) AS port,
                      min(database) AS dbname, count(*) > 1 AS several FROM pgherd.nodes WHERE group_id = p_group),
         base AS (SELECT o.* FROM n, LATERAL (VALUES ('host', n.host), ('port', n.port), ('dbname', n.dbname),
            ('fetch_size', '10000'), ('async_capable', 'true'), ('keep_connections', 'on'), ('updatable', 'false'), ('truncatable', 'false'),
            ('extensions', (SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension WHERE extname NOT IN ('plpgsql', 'postgres_fdw'))),
            -- where sessions logged in by SCRAM, their keys log in on the other side as well (PostgreSQL 18)
            ('use_scram_passthrough', CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'true' END),
            ('connect_timeout', CASE WHEN n.several THEN '2' ELSE '5' END), ('target_session_attrs', CASE WHEN n.several THEN 'read-write' END),
            ('tcp_user_timeout', '10000'), ('keepalives_idle', '5'), ('keepalives_interval', '2'), ('keepalives_count', '3')) AS o (name, value))
    SELECT name, value FROM base WHERE value IS NOT NULL AND name NOT IN (SELECT s.name FROM pgherd.server_options s)
    UNION ALL SELECT s.name, s.value FROM pgherd.server_options s
$$;

-- Bring the foreign servers in line with the nodes. What is right already is not touched: an ALTER SERVER ends cached connections.
CREATE OR REPLACE FUNCTION pgherd.sync_servers() RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    g record;
    changes text;
    server name;
BEGIN
    FOR g IN SELECT DISTINCT n.group_id FROM pgherd.nodes n WHERE n.group_id <> pgherd.group_id() ORDER BY 1 LOOP
        server := 'group_' || g.group_id;
        IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = server) THEN
            EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw', server);
            EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO PUBLIC', server);
            EXECUTE format('CREATE FOREIGN TABLE pgherd.%I (one integer) SERVER %I OPTIONS (schema_name ''pgherd'', table_name ''leading'')',
                           'probe_' || g.group_id, server);
            EXECUTE format('GRANT SELECT ON pgherd.%I TO PUBLIC', 'probe_' || g.group_id);
        END IF;
        SELECT string_agg(CASE WHEN w.value IS NULL THEN format('DROP %I', name) ELSE format('%s %I %L', CASE WHEN h.value IS NULL THEN 'ADD' ELSE 'SET' END, name, w.value) END, ', ')
        INTO changes FROM pgherd.wanted_options(g.group_id) w FULL JOIN (
            SELECT split_part(x, '=', 1) AS name, substr(x, strpos(x, '=') + 1) AS value FROM pg_foreign_server, unnest(srvoptions) AS x WHERE srvname = server) h USING (name)
        WHERE w.value IS DISTINCT FROM h.value;
        IF 'table_name=probe' = ANY ((SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = format('pgherd.%I', 'probe_' || g.group_id)::regclass)::text[]) THEN
            EXECUTE format('ALTER FOREIGN TABLE pgherd.%I OPTIONS (SET table_name ''leading'')', 'probe_' || g.group_id);
        END IF;
        IF changes IS NOT NULL THEN
            EXECUTE format('ALTER SERVER %I OPTIONS (%s)', server, changes);
        END IF;
    END LOOP;
    PERFORM pgherd.map_role(rolname) FROM pg_roles WHERE rolcanlogin;
END $$;

-- User mappings of one role, to every other group. The dependency of the mapping on the role is removed: groups that share a
-- server share its roles, and DROP ROLE in one database must not fail for a mapping in another.
CREATE OR REPLACE FUNCTION pgherd.map_role(role name) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
    made boolean := false;
BEGIN
    FOR s IN SELECT srvname FROM pg_foreign_server f WHERE srvname ~ '^group_[0-9]+$' AND NOT EXISTS (
            SELECT FROM pg_user_mapping m JOIN pg_authid a ON a.oid = m.umuser WHERE m.umserver = f.oid AND a.rolname = role) LOOP
        EXECUTE format('CREATE USER MAPPING IF NOT EXISTS FOR %I SERVER %I OPTIONS (user %L, password_required ''false'')', role, s.srvname, role);
        made := true;
    END LOOP;
    IF NOT made THEN
        RETURN;
    END IF;
    DELETE FROM pg_shdepend d USING pg_authid a
    WHERE a.rolname = role AND d.classid = 'pg_user_mapping'::regclass AND d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid
      AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database());
EXCEPTION WHEN unique_violation THEN
    NULL; -- another session of the role made them just now
END $$;

-- Whoever connects as a role other than the installer calls this first: the role may be younger than the last installation, and where groups
-- share a server, CREATE ROLE in one of them cannot yet see the role in the others.
CREATE OR REPLACE FUNCTION pgherd.ensure_mappings() RETURNS void LANGUAGE sql VOLATILE AS $$ SELECT pgherd.map_role(current_user) $$;

CREATE OR REPLACE FUNCTION pgherd.unmap_role(role name) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT f.srvname FROM pg_user_mapping m JOIN pg_authid a ON a.oid = m.umuser JOIN pg_foreign_server f ON f.oid = m.umserver
             WHERE a.rolname = role AND f.srvname ~ '^group_[0-9]+$' LOOP
        EXECUTE format('DROP USER MAPPING IF EXISTS FOR %I SERVER %I', role, s.srvname);
    END LOOP;
END $$;
