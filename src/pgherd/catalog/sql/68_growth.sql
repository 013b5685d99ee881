-- Groups that come and go: what a new one takes over from another, what the others forget of one that leaves.

-- Owner and privileges of what stands in global for views and single tables: they are whoever's who defined them.
CREATE OR REPLACE FUNCTION pgherd.global_rights() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_agg(jsonb_build_object('name', format('%I.%I', n.nspname, c.relname), 'owner', pg_get_userbyid(c.relowner),
        'grants', (SELECT jsonb_agg(jsonb_build_object('to', pgherd.grantee(a.grantee), 'privilege', a.privilege_type, 'grantable', a.is_grantable))
                   FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a)))
    FROM pgherd.tables t JOIN pg_namespace n ON n.nspname = pgherd.physical('global', t.schema) JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
    WHERE t.kind IN ('single', 'view')
$$;

-- What only group 0 has: single tables, the sequences that belong to them, and views that name one. As quoted names.
CREATE OR REPLACE FUNCTION pgherd.only_home() RETURNS text[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH own AS (SELECT to_regclass(format('%I.%I', t.schema, t.name))::oid AS rel FROM pgherd.tables t WHERE t.kind = 'single' OR (t.kind = 'view' AND NOT t.on_all)),
         counting AS (SELECT d.objid AS rel FROM own JOIN pg_depend d ON d.refobjid = own.rel AND d.deptype IN ('a', 'i') JOIN pg_sequence s ON s.seqrelid = d.objid
                      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass)
    SELECT array_agg(format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')))
    FROM (SELECT rel FROM own UNION SELECT rel FROM counting) x JOIN pg_class c ON c.oid = x.rel JOIN pg_namespace n ON n.oid = c.relnamespace
$$;

CREATE OR REPLACE FUNCTION pgherd.set_global_rights(p_rights jsonb) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r record;
    g record;
BEGIN
    FOR r IN SELECT x.* FROM jsonb_to_recordset(p_rights) AS x (name text, owner text, grants jsonb) WHERE to_regclass(x.name) IS NOT NULL LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', r.name, r.owner);
        FOR g IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = r.name::regclass LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', r.name, pgherd.grantee(g.grantee));
        END LOOP;
        FOR g IN SELECT x.* FROM jsonb_to_recordset(r.grants) AS x ("to" text, privilege text, grantable boolean) LOOP
            EXECUTE format('GRANT %s ON %s TO %s%s', g.privilege, r.name, g."to", CASE WHEN g.grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
    END LOOP;
END $$;

-- The number of a group that left is not given again: its row in pgherd.groups stays.
CREATE OR REPLACE FUNCTION pgherd.forget_group(p_group integer) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    EXECUTE format('DROP SERVER IF EXISTS %I CASCADE', 'group_' || p_group);
END $$;

-- Whether exactly these groups belong to the cluster at this moment (`p_next` is the number that the next new one gets), whatever the
-- transaction's snapshot says, and whether that stays so until it ends: a group comes or goes only while nobody writes to a
-- reference table. Who writes to one asks this first, on group 0.
CREATE OR REPLACE FUNCTION pgherd.enter_reference(p_schema text, p_name text, p_groups integer[], p_next integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel regclass := to_regclass(format('%I.%I', p_schema, p_name));
    asker name := pgherd.invoker();
    g integer;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        RETURN true; -- the statement itself will be refused
    END IF;
    IF has_table_privilege(asker, rel, 'INSERT, UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(asker, rel, 'INSERT, UPDATE') THEN
        EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', rel);
    END IF;
    PERFORM set_config('pgherd.entered', coalesce(nullif(current_setting('pgherd.entered', true), ''), ',') || rel::oid || ',', true);
    -- names are looked up as they are now, not as of the snapshot
    FOREACH g IN ARRAY p_groups LOOP
        IF g <> 0 AND to_regclass('pgherd.probe_' || g) IS NULL THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN to_regclass('pgherd.probe_' || p_next) IS NULL;
END $$;
