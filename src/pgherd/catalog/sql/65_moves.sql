-- Shards and tables that change their place while they are locked.

-- Take a shard out of global everywhere: its real tables stay as they are, its foreign ones go.
CREATE OR REPLACE FUNCTION pgherd.detach_shard(p_shard integer) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    t record;
BEGIN
    PERFORM pgherd.must_own_keyspace((SELECT keyspace FROM pgherd.shards WHERE id = p_shard));
    FOR t IN SELECT x.schema, x.name, s.group_id, pgherd.physical('shard_' || p_shard, x.schema) AS shard, pgherd.physical('global', x.schema) AS parent
             FROM pgherd.shards s JOIN pgherd.tables x USING (keyspace) WHERE s.id = p_shard ORDER BY x.schema, x.name LOOP
        IF t.group_id = pgherd.group_id() THEN
            PERFORM pgherd.drop_relation(pgherd.physical('here', t.schema), t.name);
            EXECUTE format('ALTER TABLE %I.%I DETACH PARTITION %I.%I', t.parent, t.name, t.shard, t.name);
        ELSE
            EXECUTE format('DROP FOREIGN TABLE %I.%I', t.shard, t.name);
        END IF;
    END LOOP;
END $$;

-- Drop a shard's real tables here: their rows live elsewhere now (sync_table puts foreign tables in their place).
CREATE OR REPLACE FUNCTION pgherd.drop_real(p_shard integer) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    t record;
BEGIN
    PERFORM pgherd.must_own_keyspace((SELECT keyspace FROM pgherd.shards WHERE id = p_shard));
    FOR t IN SELECT x.schema, x.name FROM pgherd.shards s JOIN pgherd.tables x USING (keyspace) WHERE s.id = p_shard LOOP
        PERFORM pgherd.drop_relation(pgherd.physical('here', t.schema), t.name);
        EXECUTE format('DROP TABLE %I.%I CASCADE', pgherd.physical('shard_' || p_shard, t.schema), t.name);
    END LOOP;
END $$;

-- Move a table, with its indexes and sequences, out of the way, to pgherd_aside.
CREATE OR REPLACE FUNCTION pgherd.set_aside(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    IF to_regnamespace('pgherd_aside') IS NULL THEN
        CREATE SCHEMA pgherd_aside;
        GRANT USAGE ON SCHEMA pgherd_aside TO PUBLIC;
    END IF;
    EXECUTE format('ALTER TABLE %I.%I SET SCHEMA pgherd_aside', p_schema, p_name);
END $$;

-- The user's views that read a relation.
CREATE OR REPLACE FUNCTION pgherd.dependent_views(rel regclass) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(DISTINCT format('%I.%I', n.nspname, v.relname), ', ')
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND v.oid <> rel
      AND n.nspname <> 'global' AND n.nspname <> 'here' AND n.nspname !~ '^(global|here)_'
$$;

-- The condition that the rows of a shard meet, over the columns of the table; null: every row.
CREATE OR REPLACE FUNCTION pgherd.shard_condition(p_schema text, p_name text, p_shard integer) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_get_partition_constraintdef(format('%I.%I', pgherd.physical('shard_' || p_shard, p_schema), p_name)::regclass)
$$;

-- Forget a distributed table, but leave whatever now has its name in the user's schema.
CREATE OR REPLACE FUNCTION pgherd.forget_physical(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    passing text := 'pgherd_kept';
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', p_schema, p_name, passing);
    PERFORM pgherd.forget(p_schema, p_name);
    EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', p_schema, passing, p_name);
END $$;
