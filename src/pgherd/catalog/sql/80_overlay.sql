-- The catalogs as users shall see them: without pgherd's own schemas, the physical tables, and what serves them. The views have
-- the catalogs' names and all their columns, system columns too, in the schemas pgherd_catalog and pgherd_information; the planner
-- puts them in the catalogs' place. Which they are: catalog/overlay.py says the same.

CREATE OR REPLACE FUNCTION pgherd.is_physical(schema name) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN schema::text OPERATOR(pg_catalog.~) '^(pgherd|pgherd_.*|global|here|global_.*|here_.*|shard_[0-9]+|shard_[0-9]+_.*)$';

-- pg_dump takes a partitioned table's rows from its partitions, and templates have none. To an application of this name distributed
-- tables are plain ones: PGAPPNAME=pg_dump_rows pg_dump ... has their rows (and not their PARTITION BY).
CREATE OR REPLACE FUNCTION pgherd.kind_shown(kind "char") RETURNS "char" LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN kind OPERATOR(pg_catalog.=) 'p'::"char" AND pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.=) 'pg_dump_rows' THEN 'r'::"char" ELSE kind END;

-- Only a dump with rows asks which tables are partitioned: it would lack the distributed tables' rows, and nobody would notice.
CREATE OR REPLACE FUNCTION pgherd.dump_has_rows() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('application_name') = 'pg_dump' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'this dump would have no rows of distributed tables',
            HINT = 'Set PGAPPNAME=pg_dump_rows for pg_dump: then they are dumped as plain tables, with their rows. --schema-only needs no setting.';
    END IF;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION pgherd.overlay_view(target text, source text, name text, condition text, system_columns text DEFAULT '') RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE VIEW %I.%I WITH (security_invoker = true) AS SELECT %s %s FROM %I.%I x WHERE %s', target, name, system_columns,
        CASE WHEN name = 'pg_class' THEN (SELECT string_agg(CASE attname WHEN 'relkind' THEN 'pgherd.kind_shown(x.relkind) AS relkind' ELSE format('x.%I', attname) END, ', ' ORDER BY attnum)
                                          FROM pg_attribute WHERE attrelid = 'pg_catalog.pg_class'::regclass AND attnum > 0)
             ELSE 'x.*' END, source, name, condition);
    EXECUTE format('GRANT SELECT ON %I.%I TO PUBLIC', target, name);
END $$;

CREATE OR REPLACE FUNCTION pgherd.create_overlay(wanted text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    spaces constant text := '(SELECT n.oid FROM pg_catalog.pg_namespace n WHERE pgherd.is_physical(n.nspname))';
    relations constant text := '(SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace IN ' || spaces || ')';
    v record;
BEGIN
    DROP SCHEMA IF EXISTS pgherd_catalog CASCADE;
    DROP SCHEMA IF EXISTS pgherd_information CASCADE;
    CREATE SCHEMA pgherd_catalog;
    CREATE SCHEMA pgherd_information;
    GRANT USAGE ON SCHEMA pgherd_catalog, pgherd_information TO PUBLIC;
    FOR v IN SELECT * FROM (VALUES
            ('pg_namespace', 'NOT pgherd.is_physical(x.nspname)'), ('pg_class', 'x.relnamespace NOT IN ' || spaces), ('pg_type', 'x.typnamespace NOT IN ' || spaces),
            ('pg_proc', 'x.pronamespace NOT IN ' || spaces), ('pg_constraint', 'x.connamespace NOT IN ' || spaces), ('pg_statistic_ext', 'x.stxnamespace NOT IN ' || spaces),
            ('pg_inherits', 'x.inhparent NOT IN ' || relations), ('pg_rewrite', 'x.ev_class NOT IN ' || relations),
            ('pg_trigger', 'x.tgrelid NOT IN ' || relations || ' AND x.tgconstrrelid NOT IN ' || relations || ' AND x.tgname <> ''pgherd_guard'''),
            ('pg_depend', $x$x.deptype <> 'e' OR x.refobjid NOT IN (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = 'postgres_fdw')$x$),
            ('pg_extension', $x$x.extname <> 'postgres_fdw'$x$), ('pg_foreign_data_wrapper', $x$x.fdwname <> 'postgres_fdw'$x$),
            ('pg_partitioned_table', 'pgherd.dump_has_rows()'), ('pg_foreign_server', $x$x.srvname !~ '^group_[0-9]+$'$x$), ('pg_foreign_table', 'x.ftrelid NOT IN ' || relations)) AS t (name, condition) LOOP
        PERFORM pgherd.overlay_view('pgherd_catalog', 'pg_catalog', v.name, v.condition, 'x.tableoid, x.xmin,');
    END LOOP;
    FOR v IN SELECT name FROM unnest(ARRAY['pg_tables', 'pg_views', 'pg_matviews', 'pg_indexes', 'pg_sequences', 'pg_policies', 'pg_rules']) AS name LOOP
        PERFORM pgherd.overlay_view('pgherd_catalog', 'pg_catalog', v.name, 'NOT pgherd.is_physical(x.schemaname)');
    END LOOP;
    PERFORM pgherd.overlay_view('pgherd_catalog', 'pg_catalog', 'pg_user_mappings', $x$x.srvname !~ '^group_[0-9]+$'$x$);
    FOR v IN SELECT a.relname AS name, string_agg(format('NOT pgherd.is_physical(coalesce(x.%I::name, %L))', a.attname, ''), ' AND ' ORDER BY a.attname) AS condition
             FROM (SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                   WHERE c.relnamespace = 'information_schema'::regnamespace AND c.relkind = 'v' AND c.relname !~ '^_' AND a.attname ~ '_schema$|^schema_name$'
                     AND a.attname !~ '^(character_set|collation|domain_collation|interval)_') a
             GROUP BY a.relname LOOP
        PERFORM pgherd.overlay_view('pgherd_information', 'information_schema', v.name,
            v.condition || CASE WHEN v.name = 'triggers' THEN $x$ AND x.trigger_name <> 'pgherd_guard'$x$ ELSE '' END);
    END LOOP;
    EXECUTE format('COMMENT ON SCHEMA pgherd_catalog IS %L', wanted);
END $$;

-- Only where it is missing or of another version: its text names what it depends on.
DO $$
DECLARE
    wanted text := 'catalogs as users see them, version 4 for ' || pg_catalog.current_setting('server_version_num');
BEGIN
    IF pg_catalog.obj_description(pg_catalog.to_regnamespace('pgherd_catalog'), 'pg_namespace') IS DISTINCT FROM wanted THEN
        PERFORM pgherd.create_overlay(wanted);
    END IF;
END $$;
