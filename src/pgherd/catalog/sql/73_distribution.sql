-- Tables that become distributed, or single again, while they are in use (pgherd.reshard.distribution). A single table becomes the only shard of a
-- keyspace of its own where it is, without a copy; from there on it is a matter of workflows like any other. Single again: the other way round.

-- Record such a workflow, on behalf of whoever owns the table; answers its number.
CREATE OR REPLACE FUNCTION pgherd.request_distribution(p_kind text, p_schema text, p_name text, p_memory jsonb, p_settings jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    me jsonb := jsonb_build_array(p_schema, p_name);
    found record;
    made integer;
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    PERFORM pgherd.lock_cluster();
    FOR found IN SELECT w.id, w.kind FROM pgherd.workflows w WHERE w.kind IN ('distribute', 'undistribute') AND w.memory -> 'table' = me
                 AND w.state IN ('waiting', 'running', 'paused') LOOP
        RAISE EXCEPTION '% of this table is under way: workflow %', found.kind, found.id USING ERRCODE = '55006',
            HINT = format('SELECT * FROM pgherd.workflows shows it; CALL pgherd.cancel(%s) ends it.', found.id);
    END LOOP;
    INSERT INTO pgherd.workflows (kind, keyspace, old, new, settings, memory)
    VALUES (p_kind, '', '[]', '[]', p_settings, p_memory || jsonb_build_object('table', me)) RETURNING id INTO made;
    UPDATE pgherd.workflows w SET wanted = 'confirm' WHERE w.state = 'kept' AND w.kind IN ('distribute', 'undistribute') AND w.memory -> 'table' = me AND w.id <> made;
    RETURN made;
END $$;

-- Everything that stands in the way of distributing a table by these columns, one text each.
CREATE OR REPLACE FUNCTION pgherd.not_distributable(rel regclass, p_key text[]) RETURNS SETOF text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('column "%s" does not exist', k) FROM unnest(p_key) k
        WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = k AND a.attnum > 0 AND NOT a.attisdropped)
    UNION ALL SELECT format('unique index "%s" does not include the whole key, so no shard could check it', x.indexrelid::regclass)
        FROM pg_index x WHERE x.indrelid = rel AND x.indisunique AND NOT p_key <@ (
            SELECT coalesce(array_agg(a.attname::text), '{}') FROM pg_attribute a WHERE a.attrelid = rel AND a.attnum = ANY (x.indkey::int2[]))
    UNION ALL SELECT format('exclusion constraint "%s" reaches over shards', c.conname) FROM pg_constraint c WHERE c.conrelid = rel AND c.contype = 'x'
    UNION ALL SELECT format('foreign key "%s" of %s refers to it', c.conname, c.conrelid::regclass) FROM pg_constraint c
        WHERE c.confrelid = rel AND c.conrelid <> rel AND c.contype = 'f' AND c.conparentid = 0
    UNION ALL SELECT format('views read it: %s', v) FROM pgherd.dependent_views(rel) v WHERE v IS NOT NULL
    UNION ALL SELECT format('tables inherit from it, or it from others') WHERE EXISTS (SELECT FROM pg_inherits WHERE inhrelid = rel OR inhparent = rel)
    UNION ALL SELECT format('publication "%s" has it as a table by itself', p.pubname) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = rel
    UNION ALL SELECT format('rule "%s" would not follow it', r.rulename) FROM pg_rewrite r WHERE r.ev_class = rel
$$;

-- On group 0: the whole table, empty, under the name of a side, and on the single table a condition that every row meets: that of the only shard.
-- Once it is validated, the table can become that shard at once.
CREATE OR REPLACE FUNCTION pgherd.prepare_distribution(p_side text, p_schema text, p_name text, p_partition text, p_bound text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    rel regclass := format('%I.%I', p_schema, p_name)::regclass;
    root text := format('%I.%I', pgherd.plain_schema(pgherd.physical(p_side, p_schema)), p_name);
    a record;
    condition text;
BEGIN
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS pgherd_bound', rel);
    EXECUTE format('DROP TABLE IF EXISTS %s CASCADE', root);
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION) PARTITION BY %s',
                   root, rel, p_partition);
    FOR a IN SELECT attname FROM pg_attribute x WHERE x.attrelid = rel AND attnum > 0 AND NOT attisdropped AND pgherd.is_generated_id(rel, attnum) LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT pgherd.next_id()', root, a.attname);
    END LOOP;
    EXECUTE format('CREATE TABLE %I.pgherd_probe PARTITION OF %s %s', pgherd.physical(p_side, p_schema), root, p_bound);
    condition := pg_get_partition_constraintdef(format('%I.pgherd_probe', pgherd.physical(p_side, p_schema))::regclass);
    EXECUTE format('DROP TABLE %I.pgherd_probe', pgherd.physical(p_side, p_schema));
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT pgherd_bound CHECK (%s) NOT VALID', rel, coalesce(condition, 'true'));
END $$;

CREATE OR REPLACE FUNCTION pgherd.unprepare_distribution(p_side text, p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    rel regclass := to_regclass(format('%I.%I', p_schema, p_name));
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = rel AND conname = 'pgherd_bound') THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT pgherd_bound', rel);
    END IF;
    PERFORM pgherd.unstage(p_side);
END $$;

-- The single table, locked, takes the place of a shard; its name is free for the template.
CREATE OR REPLACE FUNCTION pgherd.become_shard(p_schema text, p_name text, p_shard integer) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    rel regclass := format('%I.%I', p_schema, p_name)::regclass;
    a record;
BEGIN
    FOR a IN SELECT x.attname, x.attidentity, pg_get_serial_sequence(rel::text, x.attname) AS sequence FROM pg_attribute x
             WHERE x.attrelid = rel AND x.attnum > 0 AND NOT x.attisdropped AND pgherd.is_generated_id(rel, x.attnum) LOOP
        IF a.attidentity <> '' THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', rel, a.attname);
        END IF;
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT pgherd.next_id()', rel, a.attname);
        IF a.attidentity = '' THEN
            EXECUTE format('DROP SEQUENCE %s', a.sequence);
        END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE %s SET SCHEMA %I', rel, pgherd.ensure_schema('shard_' || p_shard, p_schema));
END $$;

-- The whole table gets its place in global, and the shard its place in it.
CREATE OR REPLACE FUNCTION pgherd.join_global(p_side text, p_schema text, p_name text, p_shard integer) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    parent text := format('%I.%I', pgherd.ensure_schema('global', p_schema), p_name);
    shard text := format('%I.%I', pgherd.physical('shard_' || p_shard, p_schema), p_name);
    columns integer := (SELECT cardinality(key) FROM pgherd.tables WHERE (schema, name) = (p_schema, p_name));
BEGIN
    EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', pgherd.physical(p_side, p_schema), p_name, pgherd.physical('global', p_schema));
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s %s', parent, shard, (SELECT pgherd.bound(s, columns) FROM pgherd.shards s WHERE s.id = p_shard));
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT pgherd_bound', shard);
    PERFORM pgherd.unstage(p_side);
END $$;

-- The only shard of a table, locked, becomes the table itself. `p_highest`: the highest value, or about that, of columns that number themselves.
CREATE OR REPLACE FUNCTION pgherd.become_single(p_schema text, p_name text, p_shard integer, p_highest jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    template regclass := format('%I.%I', p_schema, p_name)::regclass;
    shard text := format('%I.%I', pgherd.physical('shard_' || p_shard, p_schema), p_name);
    full_name text := format('%I.%I', p_schema, p_name);
    numbered jsonb := (SELECT jsonb_agg(jsonb_build_object('name', x.attname, 'identity', x.attidentity, 'sequence', pg_get_serial_sequence(template::text, x.attname)))
        FROM pg_attribute x WHERE x.attrelid = template AND x.attnum > 0 AND NOT x.attisdropped AND pgherd.is_generated_id(template, x.attnum));
    a record;
BEGIN
    EXECUTE format('ALTER TABLE %I.%I DETACH PARTITION %s', pgherd.physical('global', p_schema), p_name, shard);
    FOR a IN SELECT * FROM jsonb_to_recordset(numbered) AS (name text, identity text, sequence text) WHERE identity = '' LOOP
        EXECUTE format('ALTER SEQUENCE %s OWNED BY NONE', a.sequence);
    END LOOP;
    PERFORM pgherd.set_aside(p_schema, p_name);
    EXECUTE format('ALTER TABLE %s SET SCHEMA %I', shard, p_schema);
    PERFORM pgherd.forget_physical(p_schema, p_name);
    EXECUTE format('DROP TABLE pgherd_aside.%I CASCADE', p_name);
    FOR a IN SELECT * FROM jsonb_to_recordset(numbered) AS (name text, identity text, sequence text) LOOP
        IF a.identity <> '' THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT, ALTER COLUMN %I ADD GENERATED %s AS IDENTITY', full_name, a.name, a.name,
                           CASE a.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END);
        ELSE
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT nextval(%L::regclass)', full_name, a.name, a.sequence);
            EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.%I', a.sequence, full_name, a.name);
        END IF;
        -- a new cluster-wide number is above all that were given
        PERFORM setval(pg_get_serial_sequence(full_name, a.name), greatest(pgherd.next_id(), (p_highest ->> a.name)::bigint));
    END LOOP;
END $$;

-- A table leaves its keyspace for another one with the same bounds in the same groups: its parts only change their schemas. `p_pairs`: shards, from and to.
CREATE OR REPLACE FUNCTION pgherd.rehome(p_schema text, p_name text, p_keyspace text, p_pairs jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    old text := (SELECT keyspace FROM pgherd.tables WHERE (schema, name) = (p_schema, p_name));
    p record;
    part text;
    home text;
BEGIN
    PERFORM pgherd.drop_relation(pgherd.physical('here', p_schema), p_name);
    FOR p IN SELECT (x ->> 0)::integer AS source, (x ->> 1)::integer AS target FROM jsonb_array_elements(p_pairs) x LOOP
        part := format('%I.%I', pgherd.physical('shard_' || p.source, p_schema), p_name);
        home := pgherd.ensure_schema('shard_' || p.target, p_schema);
        IF (SELECT relkind FROM pg_class WHERE oid = part::regclass) = 'f' THEN
            EXECUTE format('ALTER FOREIGN TABLE %s OPTIONS (SET schema_name %L)', part, home);
        END IF;
        EXECUTE format('ALTER TABLE %s SET SCHEMA %I', part, home);
    END LOOP;
    UPDATE pgherd.tables SET keyspace = p_keyspace WHERE (schema, name) = (p_schema, p_name);
    IF NOT EXISTS (SELECT FROM pgherd.tables WHERE keyspace = old) THEN
        PERFORM pgherd.drop_shard_schemas(s.id) FROM pgherd.shards s WHERE s.keyspace = old;
        DELETE FROM pgherd.shards WHERE keyspace = old;
        DELETE FROM pgherd.keyspaces WHERE name = old;
    END IF;
    PERFORM pgherd.sync_table(p_schema, p_name);
END $$;

-- These run on behalf of workflows only.
REVOKE EXECUTE ON FUNCTION pgherd.prepare_distribution, pgherd.unprepare_distribution, pgherd.become_shard, pgherd.join_global, pgherd.become_single, pgherd.rehome FROM PUBLIC;
