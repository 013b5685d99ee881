-- What belongs to a table and does not reach its shards by inheritance, as comparable texts: keys, indexes, foreign keys,
-- triggers, policies, statistics. In a text, {name} stands for the part's name and {table} for its table.

CREATE OR REPLACE FUNCTION pgherd.policy_text(p pg_policy) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('CREATE POLICY {name} ON {table} AS %s FOR %s TO %s%s%s',
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) AS r),
        ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
$$;

CREATE OR REPLACE FUNCTION pgherd.parts(rel regclass) RETURNS TABLE (rank integer, kind text, name name, def text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH me AS (SELECT c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) AS full_name
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel)
    SELECT CASE c.contype WHEN 'p' THEN 1 WHEN 'u' THEN 2 ELSE 5 END, CASE c.contype WHEN 'f' THEN 'foreign key' ELSE 'key' END, c.conname,
           pg_get_constraintdef(c.oid)
    FROM pg_constraint c WHERE c.conrelid = rel AND c.contype IN ('p', 'u', 'x', 'f') AND c.conparentid = 0
    UNION ALL
    SELECT 3, 'index', i.relname, format('CREATE %sINDEX {name} ON {table} %s', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
           substr(d.text, length(format('CREATE %sINDEX %I ON %s%s ', CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, i.relname,
                                        CASE WHEN me.relkind = 'p' THEN 'ONLY ' ELSE '' END, me.full_name)) + 1))
    FROM me JOIN pg_index x ON x.indrelid = me.oid JOIN pg_class i ON i.oid = x.indexrelid, LATERAL (SELECT pg_get_indexdef(i.oid) AS text) d
    WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 4, 'statistics', s.stxname, replace(replace(pg_get_statisticsobjdef(s.oid), format('%I.%I ', n.nspname, s.stxname), '{name} '),
           ' FROM ' || me.full_name, ' FROM {table}')
    FROM me JOIN pg_statistic_ext s ON s.stxrelid = me.oid JOIN pg_namespace n ON n.oid = s.stxnamespace
    UNION ALL
    SELECT 6, 'trigger', t.tgname, replace(replace(pg_get_triggerdef(t.oid), format(' TRIGGER %I ', t.tgname), ' TRIGGER {name} '),
           ' ON ' || me.full_name || ' ', ' ON {table} ') || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' /*' || t.tgenabled::text || '*/' END
    FROM me JOIN pg_trigger t ON t.tgrelid = me.oid WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname <> 'pgherd_guard'
    UNION ALL
    SELECT 7, 'policy', p.polname, pgherd.policy_text(p) FROM pg_policy p WHERE p.polrelid = rel
$$;

-- A template's foreign key as its shard has it: colocated tables are referenced in the same shard.
CREATE OR REPLACE FUNCTION pgherd.part_in_shard(kind text, def text, shard integer) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    IF kind = 'foreign key' AND shard IS NOT NULL THEN
        FOR t IN SELECT x.schema, x.name FROM pgherd.tables x WHERE x.kind = 'distributed' LOOP
            def := replace(def, format(' REFERENCES %I.%I(', t.schema, t.name),
                           format(' REFERENCES %I.%I(', pgherd.physical('shard_' || shard, t.schema), t.name));
        END LOOP;
    END IF;
    RETURN def;
END $$;

CREATE OR REPLACE FUNCTION pgherd.drop_part(rel regclass, kind text, name name) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    n name := (SELECT x.nspname FROM pg_class c JOIN pg_namespace x ON x.oid = c.relnamespace WHERE c.oid = rel);
BEGIN
    EXECUTE CASE
        WHEN kind IN ('key', 'foreign key') THEN format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', rel, name)
        WHEN kind = 'index' THEN format('DROP INDEX %I.%I', n, name)
        WHEN kind = 'statistics' THEN format('DROP STATISTICS %I.%I', n, name)
        ELSE format('DROP %s %I ON %s', kind, name, rel) END;
END $$;

CREATE OR REPLACE FUNCTION pgherd.rename_part(rel regclass, kind text, old name, new name) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n name := (SELECT x.nspname FROM pg_class c JOIN pg_namespace x ON x.oid = c.relnamespace WHERE c.oid = rel);
BEGIN
    EXECUTE CASE
        WHEN kind IN ('key', 'foreign key') THEN format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', rel, old, new)
        WHEN kind = 'index' THEN format('ALTER INDEX %I.%I RENAME TO %I', n, old, new)
        WHEN kind = 'statistics' THEN format('ALTER STATISTICS %I.%I RENAME TO %I', n, old, new)
        ELSE format('ALTER %s %I ON %s RENAME TO %I', kind, old, rel, new) END;
END $$;

CREATE OR REPLACE FUNCTION pgherd.add_part(rel regclass, kind text, name name, def text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n name := (SELECT x.nspname FROM pg_class c JOIN pg_namespace x ON x.oid = c.relnamespace WHERE c.oid = rel);
    state text := substring(def FROM '/\*([DRA])\*/$');
BEGIN
    IF kind IN ('key', 'foreign key') THEN
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', rel, name, def);
        RETURN;
    END IF;
    EXECUTE replace(replace(def, '{table}', rel::text), ' {name} ',
                    CASE WHEN kind = 'statistics' THEN format(' %I.%I ', n, name) ELSE format(' %I ', name) END);
    IF kind = 'trigger' AND state IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s %s TRIGGER %I', rel, CASE state WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, name);
    END IF;
END $$;

-- Bring the parts of `target` in line with the template's. `kinds` bounds what is looked at; null: everything.
CREATE OR REPLACE FUNCTION pgherd.sync_parts(template regclass, target regclass, shard integer, kinds text[] DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p record;
BEGIN
    FOR p IN
        WITH wanted AS MATERIALIZED (SELECT w.rank, w.kind, w.name, pgherd.part_in_shard(w.kind, w.def, shard) AS def
                        FROM pgherd.parts(template) w WHERE kinds IS NULL OR w.kind = ANY (kinds)),
             have AS MATERIALIZED (SELECT h.* FROM pgherd.parts(target) h WHERE kinds IS NULL OR h.kind = ANY (kinds)),
             added AS (SELECT * FROM wanted w WHERE NOT EXISTS (SELECT FROM have h WHERE (h.kind, h.name, h.def) = (w.kind, w.name, w.def))),
             extra AS (SELECT * FROM have h WHERE NOT EXISTS (SELECT FROM wanted w WHERE (h.kind, h.name, h.def) = (w.kind, w.name, w.def))),
             renamed AS (SELECT DISTINCT ON (a.kind, a.def) a.kind, a.name AS new, x.name AS old, a.def FROM added a JOIN extra x USING (kind, def)
                         WHERE NOT EXISTS (SELECT FROM wanted w WHERE (w.kind, w.name) = (x.kind, x.name))
                           AND NOT EXISTS (SELECT FROM have h WHERE (h.kind, h.name) = (a.kind, a.name))),
             validated AS (SELECT a.kind, a.name FROM added a JOIN extra x USING (kind, name) WHERE a.kind = 'foreign key' AND x.def = a.def || ' NOT VALID')
        SELECT 'validate' AS action, 0 AS step, 0 AS rank, kind, name AS name, NULL::name AS old, '' AS def FROM validated
        UNION ALL SELECT 'rename', 1, 0, kind, new, old, '' FROM renamed
        UNION ALL SELECT 'drop', 2, -rank, kind, name, NULL, '' FROM extra x
            WHERE NOT EXISTS (SELECT FROM renamed r WHERE (r.kind, r.old) = (x.kind, x.name))
              AND NOT EXISTS (SELECT FROM validated v WHERE (v.kind, v.name) = (x.kind, x.name))
        UNION ALL SELECT 'add', 3, rank, kind, name, NULL, def FROM added a
            WHERE NOT EXISTS (SELECT FROM renamed r WHERE (r.kind, r.new) = (a.kind, a.name))
              AND NOT EXISTS (SELECT FROM validated v WHERE (v.kind, v.name) = (a.kind, a.name))
        ORDER BY 2, 3, 5
    LOOP
        CASE p.action
            WHEN 'validate' THEN EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', target, p.name);
            WHEN 'rename' THEN PERFORM pgherd.rename_part(target, p.kind, p.old, p.name);
            WHEN 'drop' THEN PERFORM pgherd.drop_part(target, p.kind, p.name);
            ELSE PERFORM pgherd.add_part(target, p.kind, p.name, p.def);
        END CASE;
    END LOOP;
END $$;

-- Owner, privileges and row security of `target` as the template's.
CREATE OR REPLACE FUNCTION pgherd.sync_rights(template regclass, target regclass) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t pg_class;
    c pg_class;
    g record;
BEGIN
    SELECT * INTO t FROM pg_class WHERE oid = template;
    SELECT * INTO c FROM pg_class WHERE oid = target;
    IF c.relowner <> t.relowner THEN
        EXECUTE format('ALTER TABLE %s OWNER TO %I', target, pg_get_userbyid(t.relowner));
        SELECT * INTO c FROM pg_class WHERE oid = target;
    END IF;
    IF t.relacl IS DISTINCT FROM c.relacl THEN
        FOR g IN SELECT DISTINCT a.grantee FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', target, pgherd.grantee(g.grantee));
        END LOOP;
        FOR g IN SELECT a.* FROM aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a LOOP
            EXECUTE format('GRANT %s ON %s TO %s%s', g.privilege_type, target, pgherd.grantee(g.grantee), CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
    END IF;
    FOR g IN SELECT x.attname, x.attacl FROM pg_attribute x JOIN pg_attribute y ON y.attrelid = target AND y.attname = x.attname
             WHERE x.attrelid = template AND x.attnum > 0 AND x.attacl IS DISTINCT FROM y.attacl LOOP
        PERFORM pgherd.sync_column_rights(template, target, g.attname);
    END LOOP;
    IF c.relkind IN ('r', 'p') AND (t.relrowsecurity, t.relforcerowsecurity) IS DISTINCT FROM (c.relrowsecurity, c.relforcerowsecurity) THEN
        EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', target,
            CASE WHEN t.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END, CASE WHEN t.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pgherd.grantee(role oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN role = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(role)) END
$$;

CREATE OR REPLACE FUNCTION pgherd.sync_column_rights(template regclass, target regclass, col name) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT DISTINCT x.grantee FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = target AND a.attname = col LOOP
        EXECUTE format('REVOKE ALL (%I) ON %s FROM %s CASCADE', col, target, pgherd.grantee(g.grantee));
    END LOOP;
    FOR g IN SELECT x.* FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = template AND a.attname = col LOOP
        EXECUTE format('GRANT %s (%I) ON %s TO %s%s', g.privilege_type, col, target, pgherd.grantee(g.grantee), CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END $$;
