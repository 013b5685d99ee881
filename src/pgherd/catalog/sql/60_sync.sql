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
    -- no shard here: a scan that finds nothing, but not a constant, or the planner would drop the reader's at_epoch() along with it
    body := coalesce(body, format('SELECT %s FROM pgherd.probe WHERE one < 0', coalesce(nothing, '')));
    IF to_regclass(full_name) IS NULL OR obj_description(to_regclass(full_name), 'pg_class') IS DISTINCT FROM body || ' : ' || nothing THEN
        EXECUTE format('DROP VIEW IF EXISTS %s CASCADE', full_name);
        EXECUTE format('CREATE VIEW %s WITH (security_invoker = true) AS %s', full_name, body);
        EXECUTE format('COMMENT ON VIEW %s IS %L', full_name, body || ' : ' || nothing);
    END IF;
    PERFORM pgherd.sync_rights(p_template, full_name::regclass);
END $$;

-- Outside group 0 a sequence gives nothing: two groups that count on their own would give the same numbers twice.
CREATE OR REPLACE FUNCTION pgherd.exhaust(sequence text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    s pg_catalog.pg_sequence;
BEGIN
    SELECT x.* INTO s FROM pg_catalog.pg_sequence x WHERE x.seqrelid = pg_catalog.to_regclass(sequence);
    IF s.seqrelid IS NOT NULL AND pgherd.group_id() <> 0 THEN
        PERFORM pgherd.must_own(s.seqrelid);
        EXECUTE pg_catalog.format('ALTER SEQUENCE %s NO CYCLE', s.seqrelid::pg_catalog.regclass);
        PERFORM pg_catalog.setval(s.seqrelid, CASE WHEN s.seqincrement > 0 THEN s.seqmax ELSE s.seqmin END);
    END IF;
END $$;

-- Everything of a distributed table in this group. `phase` 'bare': only the tables themselves, so that rows can be loaded before keys and triggers
-- exist; 'keys': those, with unique keys and indexes, so that foreign keys of other tables find them.
CREATE OR REPLACE FUNCTION pgherd.sync_table(p_schema text, p_name text, phase text DEFAULT 'all') RETURNS void
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
    IF phase = 'all' THEN
        PERFORM pgherd.sync_rights(template, parent);
        PERFORM pgherd.sync_parts(template, parent, NULL, ARRAY['policy']);
    END IF;
    FOR s IN SELECT * FROM pgherd.shards x WHERE x.keyspace = t.keyspace ORDER BY x.id LOOP
        target := pgherd.create_in_shard(p_schema, p_name, s, cardinality(t.key));
        PERFORM pgherd.sync_rights(template, target);
        IF s.group_id = pgherd.group_id() AND phase = 'keys' THEN
            PERFORM pgherd.sync_parts(template, target, s.id, ARRAY['key', 'index']);
        ELSIF s.group_id = pgherd.group_id() AND phase = 'all' THEN
            PERFORM pgherd.sync_parts(template, target, s.id);
            PERFORM pgherd.sync_replica_identity(template, target);
        END IF;
    END LOOP;
    PERFORM pgherd.sync_here(template, p_schema, p_name, t.keyspace);
    PERFORM pgherd.exhaust(d.objid::regclass::text) FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = template AND d.deptype = 'a'
          AND pgherd.group_id() <> 0;
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
        -- the casts let nothing but names of types and collations through: this text runs with the installer's rights
        SELECT string_agg(format('%I %s%s%s', name, format_type(type::regtype, typmod), ' COLLATE ' || "collation"::regcollation::text,
                                 CASE WHEN not_null THEN ' NOT NULL' END), ', ')
        INTO columns FROM jsonb_to_recordset(p_columns) AS (name text, type text, typmod integer, "collation" text, not_null boolean);
        EXECUTE format('CREATE FOREIGN TABLE %s (%s) SERVER group_0 OPTIONS (schema_name %L, table_name %L)', full_name, coalesce(columns, ''), p_schema, p_name);
    END IF;
    EXECUTE format('ALTER TABLE %s OWNER TO %I', full_name, pgherd.invoker());
    -- whether the reader may see the rows is decided in group 0, where the reader's own role reads them
    EXECUTE format('GRANT SELECT ON %s TO PUBLIC', full_name);
END $$;

-- A view that its owner made under a passing name becomes global.<name>: only the installer may create there, and only the owner's text may define it.
CREATE OR REPLACE FUNCTION pgherd.adopt_view(p_schema text, p_passing text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    rel regclass := format('%I.%I', p_schema, p_passing)::regclass;
    original regclass := to_regclass(format('%I.%I', p_schema, p_name));
    target text := pgherd.ensure_schema('global', p_schema);
BEGIN
    PERFORM pgherd.must_own(rel);
    PERFORM pgherd.drop_relation(target, p_name);
    EXECUTE format('ALTER VIEW %s SET SCHEMA %I', rel, target);
    EXECUTE format('ALTER VIEW %I.%I RENAME TO %I', target, p_passing, p_name);
    IF original IS NOT NULL THEN
        PERFORM pgherd.sync_rights(original, format('%I.%I', target, p_name)::regclass);
    END IF;
END $$;

-- What DDL must know about a relation after the user's statement ran.
CREATE OR REPLACE FUNCTION pgherd.inspect(rel regclass) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname, 'relkind', c.relkind, 'persistence', c.relpersistence,
        'columns', pgherd.columns_of(c.oid),
        'strategy', (SELECT CASE p.partstrat WHEN 'r' THEN 'range' WHEN 'h' THEN 'hash' ELSE 'list' END FROM pg_partitioned_table p WHERE p.partrelid = c.oid),
        'key', (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, NULL), 'typmod', a.atttypmod,
                    'plain', o.opcdefault AND coll.oid IN (0, 100, 950, 951) OR (coll.oid IS NULL AND o.opcdefault)) ORDER BY k.n)
                FROM pg_partitioned_table p CROSS JOIN LATERAL unnest(p.partattrs::int2[], p.partclass::oid[], p.partcollation::oid[]) WITH ORDINALITY AS k (attnum, class, coll, n)
                LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.attnum AND k.attnum > 0
                LEFT JOIN pg_opclass o ON o.oid = k.class LEFT JOIN pg_collation coll ON coll.oid = k.coll
                WHERE p.partrelid = c.oid),
        'foreign_keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', f.conname,
                    'from_schema', fn.nspname, 'from_name', fc.relname, 'to_schema', tn.nspname, 'to_name', tc.relname,
                    'from_columns', (SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, n)
                                     JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
                    'to_columns', (SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY AS k (attnum, n)
                                   JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum))), '[]')
                FROM pg_constraint f JOIN pg_class fc ON fc.oid = f.conrelid JOIN pg_namespace fn ON fn.oid = fc.relnamespace
                JOIN pg_class tc ON tc.oid = f.confrelid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
                WHERE f.contype = 'f' AND f.conparentid = 0 AND (f.conrelid = c.oid OR f.confrelid = c.oid)))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel
$$;

-- Views that the map knows, as group 0 has them; `global`: they have a form in global; `exists`: it is there.
CREATE OR REPLACE FUNCTION pgherd.views() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_agg(jsonb_build_object('schema', t.schema, 'name', t.name, 'global', t.distributed_view OR NOT t.on_all, 'body', pg_get_viewdef(c.oid),
        'options', (SELECT string_agg(o, ', ') FROM unnest(c.reloptions) AS o WHERE o !~ '^check_option='),
        'exists', to_regclass(format('%I.%I', pgherd.physical('global', t.schema), t.name)) IS NOT NULL) ORDER BY c.oid)
    FROM pgherd.tables t JOIN pg_namespace n ON n.nspname = t.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
    WHERE t.kind = 'view'
$$;

-- The tables that are read as global.<name> by queries over several groups.
CREATE OR REPLACE FUNCTION pgherd.swapped() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('schema', t.schema, 'name', t.name)) FROM pgherd.tables t WHERE t.kind IN ('distributed', 'single')
$$;

CREATE OR REPLACE FUNCTION pgherd.rename_key_column(p_schema text, p_name text, old text, new text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    UPDATE pgherd.tables SET key = array_replace(key, old, new) WHERE schema = p_schema AND name = p_name;
END $$;

CREATE OR REPLACE FUNCTION pgherd.reindex_table(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    FOR s IN SELECT x.id FROM pgherd.shards x JOIN pgherd.tables t ON t.keyspace = x.keyspace
             WHERE t.schema = p_schema AND t.name = p_name AND x.group_id = pgherd.group_id() LOOP
        EXECUTE format('REINDEX TABLE %I.%I', pgherd.physical('shard_' || s.id, p_schema), p_name);
    END LOOP;
END $$;

-- The statements that make the table in another group as it is here: columns, checks, keys, indexes, sequences, comments. Foreign keys,
-- triggers and policies come last. `p_partition`: the PARTITION BY to give it instead of its own; '': none.
CREATE OR REPLACE FUNCTION pgherd.table_text(p_schema text, p_name text, p_partition text DEFAULT NULL) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel regclass := format('%I.%I', p_schema, p_name)::regclass;
    full_name text := format('%I.%I', p_schema, p_name);
    result text;
    partition text := coalesce(p_partition, CASE WHEN (SELECT relkind FROM pg_class WHERE oid = rel) = 'p' THEN pg_get_partkeydef(rel) END);
BEGIN
    result := coalesce((SELECT string_agg(format('CREATE SEQUENCE %s AS %s', d.objid::regclass, format_type(q.seqtypid, NULL)), E';\n')
        FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND d.deptype = 'a') || E';\n', '');
    result := result || format('CREATE TABLE %s (%s)', full_name, concat_ws(', ',
        (SELECT string_agg(format('%I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
            (SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
             JOIN pg_type y ON y.oid = a.atttypid WHERE c.oid = a.attcollation AND c.oid <> y.typcollation),
            CASE WHEN a.attidentity <> '' THEN format(' GENERATED %s AS IDENTITY', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END)
                 WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) %s', pg_get_expr(d.adbin, d.adrelid), CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)
                 WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END,
            CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', ' ORDER BY a.attnum)
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped),
        (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ', ') FROM pg_constraint WHERE conrelid = rel AND contype = 'c')))
        || coalesce(' PARTITION BY ' || nullif(partition, ''), '');
    result := result || coalesce((SELECT string_agg(format(E';\nALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, full_name, a.attname), '')
        FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND d.deptype = 'a'), '');
    result := result || coalesce((SELECT string_agg(E';\n' || CASE
            WHEN p.kind IN ('key', 'foreign key') THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', full_name, p.name, p.def)
            ELSE replace(replace(p.def, '{table}', full_name), ' {name} ', format(' %I ', p.name)) END, '' ORDER BY p.rank, p.name)
        FROM pgherd.parts(rel) p), '');
    result := result || (SELECT format(E';\nALTER TABLE %s OWNER TO %I', full_name, pg_get_userbyid(c.relowner)) FROM pg_class c WHERE c.oid = rel);
    RETURN result || coalesce((SELECT string_agg(format(E';\nGRANT %s ON %s TO %s%s', g.privilege_type, full_name, pgherd.grantee(g.grantee),
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '')
        FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid = rel AND g.grantee <> c.relowner), '')
      || coalesce((SELECT string_agg(format(E';\nGRANT %s (%I) ON %s TO %s%s', g.privilege_type, a.attname, full_name, pgherd.grantee(g.grantee),
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '')
        FROM pg_attribute a, aclexplode(a.attacl) g WHERE a.attrelid = rel AND NOT a.attisdropped), '');
END $$;

CREATE OR REPLACE FUNCTION pgherd.sync_view_rights(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    original regclass := to_regclass(format('%I.%I', p_schema, p_name));
    target regclass := to_regclass(format('%I.%I', pgherd.physical('global', p_schema), p_name));
BEGIN
    IF original IS NOT NULL AND target IS NOT NULL THEN
        PERFORM pgherd.must_own(original);
        PERFORM pgherd.sync_rights(original, target);
    END IF;
END $$;

-- Drop a table's foreign tables (sync_table makes them again): a change of type with USING does not pass them.
CREATE OR REPLACE FUNCTION pgherd.drop_foreign(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT x.id FROM pgherd.shards x JOIN pgherd.tables t ON t.keyspace = x.keyspace
             WHERE t.schema = p_schema AND t.name = p_name AND x.group_id <> pgherd.group_id() LOOP
        EXECUTE format('DROP FOREIGN TABLE IF EXISTS %I.%I', pgherd.physical('shard_' || s.id, p_schema), p_name);
    END LOOP;
END $$;

-- A distributed table without rows leaves its keyspace for another one (a foreign key, added later, ties it there).
CREATE OR REPLACE FUNCTION pgherd.rekey(p_schema text, p_name text, p_keyspace text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    old text := (SELECT keyspace FROM pgherd.tables WHERE schema = p_schema AND name = p_name);
    prefix text;
BEGIN
    PERFORM pgherd.must_own(format('%I.%I', p_schema, p_name)::regclass);
    FOREACH prefix IN ARRAY ARRAY['here', 'global'] LOOP
        PERFORM pgherd.drop_relation(pgherd.physical(prefix, p_schema), p_name);
    END LOOP;
    UPDATE pgherd.tables SET keyspace = p_keyspace WHERE schema = p_schema AND name = p_name;
    IF NOT EXISTS (SELECT FROM pgherd.tables WHERE keyspace = old) THEN
        PERFORM pgherd.drop_shard_schemas(s.id) FROM pgherd.shards s WHERE s.keyspace = old;
        DELETE FROM pgherd.shards WHERE keyspace = old;
        DELETE FROM pgherd.keyspaces WHERE name = old;
    END IF;
END $$;
