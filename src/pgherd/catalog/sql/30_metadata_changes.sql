-- Changes to the metadata. Any role may define tables, so these run with the installer's rights and check ownership themselves.

-- The role on whose behalf a SECURITY DEFINER function runs.
CREATE OR REPLACE FUNCTION pgherd.invoker() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_catalog.current_setting('role') IN ('none', '') THEN session_user::text ELSE pg_catalog.current_setting('role') END
$$;

CREATE OR REPLACE FUNCTION pgherd.must_be(owner oid, what text) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT pg_catalog.pg_has_role(pgherd.invoker()::name, owner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of %', what USING ERRCODE = '42501';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pgherd.must_own(rel regclass) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM pgherd.must_be((SELECT relowner FROM pg_catalog.pg_class WHERE oid = rel), 'table ' || rel::text);
END $$;

-- Lock the map against other changes until the transaction ends; answers its row. Call it on group 0 before anything else.
CREATE OR REPLACE FUNCTION pgherd.lock_cluster() RETURNS SETOF pgherd.cluster LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
    SELECT c.* FROM pgherd.cluster c FOR UPDATE
$$;

CREATE OR REPLACE FUNCTION pgherd.set_epoch(value bigint) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
    UPDATE pgherd.cluster SET epoch = value WHERE epoch < value
$$;

CREATE OR REPLACE FUNCTION pgherd.register_table(p_schema text, p_name text, p_kind text, p_keyspace text, p_key text[],
    p_distributed_view boolean DEFAULT false, p_on_all boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel regclass := to_regclass(format('%I.%I', p_schema, p_name));
BEGIN
    IF rel IS NOT NULL THEN
        PERFORM pgherd.must_own(rel);
    END IF;
    INSERT INTO pgherd.tables AS t VALUES (p_schema, p_name, p_kind, p_keyspace, p_key, p_distributed_view, p_on_all)
    ON CONFLICT (schema, name) DO UPDATE SET kind = p_kind, keyspace = p_keyspace, key = p_key,
        distributed_view = p_distributed_view, on_all = p_on_all;
    IF p_kind <> 'view' THEN
        PERFORM pgherd.sync_guard(p_schema, p_name, p_kind);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pgherd.register_keyspace(p_id integer, p_name text, p_strategy text, p_types text[], p_shards jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO pgherd.keyspaces VALUES (p_id, p_name, p_strategy, p_types);
    UPDATE pgherd.cluster SET next_keyspace = greatest(next_keyspace, p_id + 1);
    PERFORM pgherd.add_shards(p_name, p_shards);
END $$;

CREATE OR REPLACE FUNCTION pgherd.must_own_keyspace(p_keyspace text) RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT to_regclass(format('%I.%I', schema, name)) AS rel FROM pgherd.tables WHERE keyspace = p_keyspace LOOP
        IF t.rel IS NOT NULL THEN
            PERFORM pgherd.must_own(t.rel);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION pgherd.add_shards(p_keyspace text, p_shards jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_keyspace(p_keyspace);
    INSERT INTO pgherd.shards
    SELECT s.id, p_keyspace, k.strategy, s.range_start, s.range_end, s.modulus, s.remainder, s.group_id
    FROM jsonb_to_recordset(p_shards) AS s (id integer, range_start text[], range_end text[], modulus integer, remainder integer, group_id integer),
         pgherd.keyspaces k WHERE k.name = p_keyspace;
    UPDATE pgherd.cluster SET next_shard = greatest(next_shard, (SELECT max(id) + 1 FROM pgherd.shards));
END $$;

CREATE OR REPLACE FUNCTION pgherd.remove_shard(p_shard integer)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_keyspace((SELECT keyspace FROM pgherd.shards WHERE id = p_shard));
    DELETE FROM pgherd.shards WHERE id = p_shard;
END $$;

CREATE OR REPLACE FUNCTION pgherd.set_shard_group(p_shard integer, p_group integer)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own_keyspace((SELECT keyspace FROM pgherd.shards WHERE id = p_shard));
    UPDATE pgherd.shards SET group_id = p_group WHERE id = p_shard;
END $$;

-- Tables of the map that no longer exist in this group (ask group 0): a DROP took them.
CREATE OR REPLACE FUNCTION pgherd.gone() RETURNS TABLE (schema text, name text) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.schema, t.name FROM pgherd.tables t WHERE NOT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = t.schema AND c.relname = t.name)
$$;

-- The map forgets a table: its physical tables and, where it is still there, the template go as well.
CREATE OR REPLACE FUNCTION pgherd.forget(p_schema text, p_name text)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    t pgherd.tables;
    prefix text;
BEGIN
    SELECT * INTO t FROM pgherd.tables WHERE schema = p_schema AND name = p_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pgherd.drop_relation(p_schema, p_name);
    FOREACH prefix IN ARRAY ARRAY['here', 'global'] LOOP
        PERFORM pgherd.drop_relation(pgherd.physical(prefix, p_schema), p_name);
    END LOOP;
    DELETE FROM pgherd.tables WHERE schema = p_schema AND name = p_name;
    IF t.keyspace IS NOT NULL AND NOT EXISTS (SELECT FROM pgherd.tables WHERE keyspace = t.keyspace) THEN
        PERFORM pgherd.drop_shard_schemas(s.id) FROM pgherd.shards s WHERE s.keyspace = t.keyspace;
        DELETE FROM pgherd.shards WHERE keyspace = t.keyspace;
        DELETE FROM pgherd.keyspaces k WHERE k.name = t.keyspace;
    END IF;
    IF p_schema <> 'public' AND NOT EXISTS (SELECT FROM pgherd.tables x WHERE x.schema = p_schema) THEN
        EXECUTE format('DROP SCHEMA IF EXISTS %I, %I CASCADE', pgherd.physical('here', p_schema), pgherd.physical('global', p_schema));
    END IF;
END $$;

-- Drop the schemas of a shard, and what is left in them.
CREATE OR REPLACE FUNCTION pgherd.drop_shard_schemas(p_shard integer)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    s record;
BEGIN
    PERFORM pgherd.must_own_keyspace((SELECT keyspace FROM pgherd.shards WHERE id = p_shard));
    FOR s IN SELECT nspname FROM pg_namespace WHERE nspname = 'shard_' || p_shard OR starts_with(nspname, 'shard_' || p_shard || '_') LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', s.nspname);
    END LOOP;
END $$;

-- Drop a relation of any kind, if it exists.
CREATE OR REPLACE FUNCTION pgherd.drop_relation(p_schema text, p_name text)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    rel regclass := to_regclass(format('%I.%I', p_schema, p_name));
BEGIN
    IF rel IS NULL THEN
        RETURN;
    END IF;
    PERFORM pgherd.must_own(rel);
    EXECUTE format('DROP %s %I.%I CASCADE', CASE (SELECT relkind FROM pg_class WHERE oid = rel)
        WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
        p_schema, p_name);
END $$;
