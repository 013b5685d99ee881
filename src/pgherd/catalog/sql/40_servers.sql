-- Foreign servers: one for each other group, as group_<id>, with all of its nodes; and what a reader probes through it.

CREATE OR REPLACE FUNCTION pgherd.sync_servers() RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    g record;
    o record;
    have text[];
    server name;
BEGIN
    FOR g IN SELECT n.group_id, string_agg(n.host, ',' ORDER BY n.id) AS host, string_agg(n.port::text, ',' ORDER BY n.id) AS port,
                    min(n.database) AS dbname, count(*) AS members
             FROM pgherd.nodes n WHERE n.group_id <> pgherd.group_id() GROUP BY n.group_id ORDER BY n.group_id LOOP
        server := 'group_' || g.group_id;
        IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = server) THEN
            EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw', server);
            EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO PUBLIC', server);
            EXECUTE format('CREATE FOREIGN TABLE pgherd.%I (one integer) SERVER %I OPTIONS (schema_name ''pgherd'', table_name ''probe'')',
                           'probe_' || g.group_id, server);
            EXECUTE format('GRANT SELECT ON pgherd.%I TO PUBLIC', 'probe_' || g.group_id);
        END IF;
        have := ARRAY(SELECT split_part(x, '=', 1) FROM pg_foreign_server, unnest(srvoptions) AS x WHERE srvname = server);
        FOR o IN SELECT * FROM (VALUES ('host', g.host), ('port', g.port), ('dbname', g.dbname), ('fetch_size', '10000'), ('async_capable', 'true'),
                ('extensions', (SELECT string_agg(extname, ',') FROM pg_extension WHERE extname NOT IN ('plpgsql', 'postgres_fdw'))),
                ('keep_connections', 'on'),
                -- where sessions logged in by SCRAM, their keys log in on the other side as well (PostgreSQL 18)
                ('use_scram_passthrough', CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'true' END), ('connect_timeout', '5'), ('updatable', 'false'), ('truncatable', 'false'),
                ('target_session_attrs', CASE WHEN g.members > 1 THEN 'read-write' END)) AS wanted (name, value) LOOP
            IF o.value IS NULL THEN
                IF o.name = ANY (have) THEN
                    EXECUTE format('ALTER SERVER %I OPTIONS (DROP %I)', server, o.name);
                END IF;
            ELSE
                EXECUTE format('ALTER SERVER %I OPTIONS (%s %I %L)', server, CASE WHEN o.name = ANY (have) THEN 'SET' ELSE 'ADD' END, o.name, o.value);
            END IF;
        END LOOP;
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
