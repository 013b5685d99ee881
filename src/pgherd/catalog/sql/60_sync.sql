-- The physical tables: shard tables, foreign tables, global and here, in line with template and metadata.

CREATE OR REPLACE FUNCTION pgherd.ensure_schema(p_prefix text, p_schema text) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    full_name text := pgherd.physical(p_prefix, p_schema);
BEGIN
    IF to_regnamespace(quote_ident(full_name)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', full_name);
        PERFORM pgherd.sync_schema_rights(p_schema, full_name);
    END IF;
    RETURN full_name;
END $$;

-- USAGE on a physical schema goes to whoever has it on the user's schema.
CREATE OR REPLACE FUNCTION pgherd.sync_schema_rights(p_schema text, p_physical text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g record;
BEGIN
    FOR g IN
        WITH wanted AS (SELECT DISTINCT x.grantee FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
                        WHERE n.nspname = p_schema AND x.privilege_type = 'USAGE'),
             have AS (SELECT DISTINCT x.grantee FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
                      WHERE n.nspname = p_physical AND x.privilege_type = 'USAGE'),
             me AS (SELECT nspowner FROM pg_namespace WHERE nspname = p_physical)
        SELECT 'GRANT USAGE ON SCHEMA %I TO %s' AS text, grantee FROM wanted WHERE grantee NOT IN (SELECT grantee FROM have)
        UNION ALL SELECT 'REVOKE USAGE ON SCHEMA %I FROM %s', grantee FROM have
        WHERE grantee NOT IN (SELECT grantee FROM wanted) AND grantee NOT IN (SELECT nspowner FROM me) LOOP
        EXECUTE format(g.text, p_physical, pgherd.grantee(g.grantee));
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION pgherd.sync_schema(p_schema text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT nspname FROM pg_namespace, (SELECT DISTINCT 'shard_' || id AS prefix FROM pgherd.shards UNION ALL VALUES ('global'), ('here')) p
             WHERE nspname = pgherd.physical(p.prefix, p_schema) LOOP
        PERFORM pgherd.sync_schema_rights(p_schema, s.nspname);
    END LOOP;
END $$;

-- The bound of a shard as CREATE TABLE ... PARTITION OF wants it.
CREATE OR REPLACE FUNCTION pgherd.bound(s pgherd.shards, columns integer) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN s.strategy = 'hash' THEN format('FOR VALUES WITH (MODULUS %s, REMAINDER %s)', s.modulus, s.remainder)
        ELSE format('FOR VALUES FROM (%s) TO (%s)',
            (SELECT string_agg(coalesce(quote_literal(s.range_start[i]), 'MINVALUE'), ', ' ORDER BY i) FROM generate_series(1, columns) i),
            (SELECT string_agg(CASE WHEN s.range_end IS NULL THEN 'MAXVALUE' ELSE coalesce(quote_literal(s.range_end[i]), 'MINVALUE') END, ', ' ORDER BY i)
             FROM generate_series(1, columns) i)) END
$$;

CREATE OR REPLACE FUNCTION pgherd.create_global(p_template regclass, p_schema text, p_name text) RETURNS regclass LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    full_name text := format('%I.%I', pgherd.ensure_schema('global', p_schema), p_name);
    a record;
BEGIN
    IF to_regclass(full_name) IS NULL THEN
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION) PARTITION BY %s',
                       full_name, p_template, pg_get_partkeydef(p_template));
        FOR a IN SELECT attname FROM pg_attribute x WHERE x.attrelid = p_template AND attnum > 0 AND NOT attisdropped
                 AND pgherd.is_generated_id(p_template, attnum) LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT pgherd.next_id()', full_name, a.attname);
        END LOOP;
        PERFORM pgherd.sync_rights(p_template, full_name::regclass);
    END IF;
    RETURN full_name::regclass;
END $$;

-- The table of one shard: real on its owner, foreign elsewhere, attached to global. A real table is never dropped here.
CREATE OR REPLACE FUNCTION pgherd.create_in_shard(p_schema text, p_name text, s pgherd.shards, columns integer) RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema_name text := pgherd.ensure_schema('shard_' || s.id, p_schema);
    full_name text := format('%I.%I', schema_name, p_name);
    parent text := format('%I.%I', pgherd.physical('global', p_schema), p_name);
    here boolean := s.group_id = pgherd.group_id();
    found record;
BEGIN
    SELECT c.oid, c.relkind, (SELECT f.srvname FROM pg_foreign_table x JOIN pg_foreign_server f ON f.oid = x.ftserver WHERE x.ftrelid = c.oid) AS server
    INTO found FROM pg_class c WHERE c.oid = to_regclass(full_name);
    IF found.relkind = 'r' AND NOT here THEN
        RAISE EXCEPTION 'shard % of % is still a real table in this group', s.id, p_name USING ERRCODE = '55006';
    END IF;
    IF found.relkind = 'f' AND (here OR found.server <> 'group_' || s.group_id) THEN
        EXECUTE format('DROP FOREIGN TABLE %s', full_name);
        found.relkind := NULL;
    END IF;
    IF found.relkind IS NULL AND here THEN
        EXECUTE format('CREATE TABLE %s PARTITION OF %s %s', full_name, parent, pgherd.bound(s, columns));
    ELSIF found.relkind IS NULL THEN
        EXECUTE format('CREATE FOREIGN TABLE %s PARTITION OF %s %s SERVER %I OPTIONS (schema_name %L, table_name %L)', full_name, parent,
                       pgherd.bound(s, columns), 'group_' || s.group_id, schema_name, p_name);
    END IF;
    RETURN full_name::regclass;
END $$;

-- here.<table>: the shards of this group, side by side.
CREATE OR REPLACE FUNCTION pgherd.sync_here(p_template regclass, p_schema text, p_name text, p_keyspace text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    full_name text := format('%I.%I', pgherd.ensure_schema('here', p_schema), p_name);
    names text;
    nothing text;
    body text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
           string_agg(format('NULL::%s%s AS %I', format_type(atttypid, atttypmod),
                CASE WHEN attcollation <> 0 THEN format(' COLLATE %I.%I', n.nspname, c.collname) END, attname), ', ' ORDER BY attnum)
    INTO names, nothing FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation LEFT JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE attrelid = p_template AND attnum > 0 AND NOT attisdropped;
    SELECT string_agg(format('SELECT %s FROM %I.%I', coalesce(names, ''), pgherd.physical('shard_' || s.id, p_schema), p_name), ' UNION ALL ' ORDER BY s.id)
    INTO body FROM pgherd.shards s WHERE s.keyspace = p_keyspace AND s.group_id = pgherd.group_id();
    body := coalesce(body, format('SELECT %s WHERE false', coalesce(nothing, '')));
    IF to_regclass(full_name) IS NULL OR obj_description(to_regclass(full_name), 'pg_class') IS DISTINCT FROM body || ' : ' || nothing THEN
        EXECUTE format('DROP VIEW IF EXISTS %s CASCADE', full_name);
        EXECUTE format('CREATE VIEW %s WITH (security_invoker = true) AS %s', full_name, body);
        EXECUTE format('COMMENT ON VIEW %s IS %L', full_name, body || ' : ' || nothing);
    END IF;
    PERFORM pgherd.sync_rights(p_template, full_name::regclass);
END $$;

-- Everything of a distributed table in this group. `bare`: only the tables themselves, so that rows can be loaded before keys and triggers exist.
CREATE OR REPLACE FUNCTION pgherd.sync_table(p_schema text, p_name text, bare boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    t pgherd.tables;
    template regclass := to_regclass(format('%I.%I', p_schema, p_name));
    parent regclass;
    target regclass;
    s pgherd.shards;
BEGIN
    SELECT * INTO t FROM pgherd.tables x WHERE x.schema = p_schema AND x.name = p_name;
    IF t.kind IS DISTINCT FROM 'distributed' OR template IS NULL THEN
        RETURN;
    END IF;
    PERFORM pgherd.must_own(template);
    parent := pgherd.create_global(template, p_schema, p_name);
    IF NOT bare THEN
        PERFORM pgherd.sync_rights(template, parent);
        PERFORM pgherd.sync_parts(template, parent, NULL, ARRAY['policy']);
    END IF;
    FOR s IN SELECT * FROM pgherd.shards x WHERE x.keyspace = t.keyspace ORDER BY x.id LOOP
        target := pgherd.create_in_shard(p_schema, p_name, s, cardinality(t.key));
        PERFORM pgherd.sync_rights(template, target);
        IF s.group_id = pgherd.group_id() AND NOT bare THEN
            PERFORM pgherd.sync_parts(template, target, s.id);
            PERFORM pgherd.sync_replica_identity(template, target);
        END IF;
    END LOOP;
    PERFORM pgherd.sync_here(template, p_schema, p_name, t.keyspace);
END $$;

CREATE OR REPLACE FUNCTION pgherd.sync_replica_identity(template regclass, target regclass) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted "char" := (SELECT relreplident FROM pg_class WHERE oid = template);
    index_name name := (SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = template AND i.indisreplident);
BEGIN
    IF wanted <> (SELECT relreplident FROM pg_class WHERE oid = target) OR wanted = 'i' THEN
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', target, CASE wanted WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL'
            WHEN 'i' THEN format('USING INDEX %I', index_name) ELSE 'DEFAULT' END);
    END IF;
END $$;

-- Columns, defaults, NOT NULL and CHECK of global (and so of all its partitions) as the template's. Runs as the caller, who owns them: it may evaluate
-- the caller's expressions over rows. Changed types and names are the business of alter_global, beforehand.
CREATE OR REPLACE FUNCTION pgherd.sync_columns(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    template regclass := format('%I.%I', p_schema, p_name)::regclass;
    parent regclass := to_regclass(format('%I.%I', pgherd.physical('global', p_schema), p_name));
    c record;
    changes text[] := '{}';
BEGIN
    IF parent IS NULL THEN
        RETURN;
    END IF;
    FOR c IN
        WITH have AS (SELECT * FROM jsonb_to_recordset(pgherd.columns_of(parent)) AS (name text, full_type text, not_null boolean, "default" text, generated boolean)),
             wanted AS (SELECT name, full_type, not_null, CASE WHEN next_id THEN 'pgherd.next_id()' ELSE "default" END AS "default", generated, "collation", n
                        FROM ROWS FROM (jsonb_to_recordset(pgherd.columns_of(template)) AS (name text, full_type text, not_null boolean, "default" text, generated boolean, next_id boolean, "collation" text))
                             WITH ORDINALITY AS w (name, full_type, not_null, "default", generated, next_id, "collation", n))
        SELECT 1 AS step, n, name, CASE WHEN h.name IS NULL THEN pgherd.add_column_text(template, w.name, w."default") END AS text FROM wanted w LEFT JOIN have h USING (name)
        UNION ALL SELECT 2, n, name, CASE WHEN w.full_type <> h.full_type THEN format('ALTER COLUMN %I TYPE %s', name, w.full_type) END FROM wanted w JOIN have h USING (name)
        UNION ALL SELECT 3, n, name, CASE WHEN w."default" IS DISTINCT FROM h."default" THEN
            format('ALTER COLUMN %I %s', name, coalesce('SET DEFAULT ' || w."default", 'DROP DEFAULT')) END FROM wanted w JOIN have h USING (name)
        UNION ALL SELECT 4, n, name, CASE WHEN w.generated < h.generated THEN format('ALTER COLUMN %I DROP EXPRESSION', name) END FROM wanted w JOIN have h USING (name)
        UNION ALL SELECT 5, n, name, CASE WHEN w.not_null <> h.not_null THEN
            format('ALTER COLUMN %I %s NOT NULL', name, CASE WHEN w.not_null THEN 'SET' ELSE 'DROP' END) END FROM wanted w JOIN have h USING (name)
        UNION ALL SELECT 6, 0, name, format('DROP COLUMN %I CASCADE', name) FROM have WHERE name NOT IN (SELECT name FROM wanted)
        ORDER BY 1, 2
    LOOP
        IF c.text IS NOT NULL THEN
            changes := changes || c.text;
        END IF;
    END LOOP;
    IF changes <> '{}' THEN
        PERFORM pgherd.alter_global(p_schema, p_name, array_to_string(changes, ', '));
    END IF;
    PERFORM pgherd.sync_checks(template, parent);
END $$;

CREATE OR REPLACE FUNCTION pgherd.add_column_text(template regclass, col name, def text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('ADD COLUMN %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
        (SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation),
        CASE WHEN a.attgenerated <> '' THEN (SELECT format(' GENERATED ALWAYS AS (%s) %s', pg_get_expr(d.adbin, d.adrelid),
                 CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
             WHEN def IS NOT NULL THEN ' DEFAULT ' || def END,
        CASE WHEN a.attnotnull THEN ' NOT NULL' END)
    FROM pg_attribute a WHERE a.attrelid = template AND a.attname = col
$$;

-- CHECK constraints of global as the template's.
CREATE OR REPLACE FUNCTION pgherd.sync_checks(template regclass, parent regclass) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
BEGIN
    FOR c IN
        WITH wanted AS (SELECT conname, pg_get_constraintdef(oid) AS def FROM pg_constraint WHERE conrelid = template AND contype = 'c'),
             have AS (SELECT conname, pg_get_constraintdef(oid) AS def FROM pg_constraint WHERE conrelid = parent AND contype = 'c')
        SELECT 1 AS step, format('RENAME CONSTRAINT %I TO %I', min(h.conname), min(w.conname)) AS text FROM wanted w JOIN have h USING (def)
            WHERE w.conname NOT IN (SELECT conname FROM have) AND h.conname NOT IN (SELECT conname FROM wanted) GROUP BY def
        UNION ALL SELECT 2, format('VALIDATE CONSTRAINT %I', conname) FROM wanted w JOIN have h USING (conname) WHERE h.def = w.def || ' NOT VALID'
        UNION ALL SELECT 3, format('DROP CONSTRAINT %I', h.conname) FROM have h LEFT JOIN wanted w USING (conname)
            WHERE (w.def IS NULL AND h.def NOT IN (SELECT def FROM wanted x WHERE x.conname NOT IN (SELECT conname FROM have))) OR (w.def <> h.def AND h.def <> w.def || ' NOT VALID')
        UNION ALL SELECT 4, format('ADD CONSTRAINT %I %s', w.conname, w.def) FROM wanted w LEFT JOIN have h USING (conname)
            WHERE (h.def IS NULL AND w.def NOT IN (SELECT def FROM have x WHERE x.conname NOT IN (SELECT conname FROM wanted))) OR (w.def <> h.def AND h.def <> w.def || ' NOT VALID')
        ORDER BY 1, 2
    LOOP
        EXECUTE format('ALTER TABLE %s %s', parent, c.text);
    END LOOP;
END $$;

-- ALTER TABLE on global, with the views in front of it out of the way (sync_table makes them again).
CREATE OR REPLACE FUNCTION pgherd.alter_global(p_schema text, p_name text, command text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    PERFORM pgherd.drop_relation(pgherd.physical('here', p_schema), p_name);
    EXECUTE format('ALTER TABLE %I.%I %s', pgherd.physical('global', p_schema), p_name, command);
END $$;

-- The physical tables follow a renamed template; the map as well.
CREATE OR REPLACE FUNCTION pgherd.rename_table(p_schema text, old text, new text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    t pgherd.tables;
    s record;
    rel regclass := to_regclass(format('%I.%I', p_schema, new));
BEGIN
    SELECT * INTO t FROM pgherd.tables WHERE schema = p_schema AND name = old;
    PERFORM pgherd.must_own(coalesce(rel, to_regclass(format('%I.%I', pgherd.physical('global', p_schema), old))));
    PERFORM pgherd.drop_relation(pgherd.physical('here', p_schema), old);
    IF t.kind = 'distributed' THEN
        EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', pgherd.physical('global', p_schema), old, new);
        FOR s IN SELECT pgherd.physical('shard_' || x.id, p_schema) AS schema, x.group_id FROM pgherd.shards x WHERE x.keyspace = t.keyspace LOOP
            EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', s.schema, old, new);
            IF s.group_id <> pgherd.group_id() THEN
                EXECUTE format('ALTER FOREIGN TABLE %I.%I OPTIONS (SET table_name %L)', s.schema, new, new);
            END IF;
        END LOOP;
    ELSE
        PERFORM pgherd.drop_relation(pgherd.physical('global', p_schema), old);
    END IF;
    UPDATE pgherd.tables SET name = new WHERE schema = p_schema AND name = old;
END $$;

-- global.<name> of a single table: a view in group 0, a foreign table elsewhere, with the columns that group 0 tells.
CREATE OR REPLACE FUNCTION pgherd.sync_single(p_schema text, p_name text, p_columns jsonb) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    schema_name text := pgherd.ensure_schema('global', p_schema);
    full_name text := format('%I.%I', schema_name, p_name);
    columns text;
BEGIN
    PERFORM pgherd.drop_relation(schema_name, p_name);
    IF pgherd.group_id() = 0 THEN
        SELECT string_agg(quote_ident(name), ', ') INTO columns FROM jsonb_to_recordset(p_columns) AS (name text);
        EXECUTE format('CREATE VIEW %s WITH (security_invoker = true) AS SELECT %s FROM %I.%I', full_name, coalesce(columns, ''), p_schema, p_name);
    ELSE
        SELECT string_agg(format('%I %s%s%s', name, full_type, ' COLLATE ' || "collation", CASE WHEN not_null THEN ' NOT NULL' END), ', ')
        INTO columns FROM jsonb_to_recordset(p_columns) AS (name text, full_type text, "collation" text, not_null boolean);
        EXECUTE format('CREATE FOREIGN TABLE %s (%s) SERVER group_0 OPTIONS (schema_name %L, table_name %L)', full_name, coalesce(columns, ''), p_schema, p_name);
    END IF;
    EXECUTE format('ALTER TABLE %s OWNER TO %I', full_name, pgherd.invoker());
    -- whether the reader may see the rows is decided in group 0, where the reader's own role reads them
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', full_name);
END $$;
