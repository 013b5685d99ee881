-- Veils, on group 0: whoever takes a table for a single one, since its map is old, reads its name there. Guards (69) refuse writes; a template that
-- has just taken the place of a single table refuses reads as well, as long as its veil is there: a part, empty, that takes every key, with an index
-- whose condition cannot be worked out. PostgreSQL meets that condition whenever it plans a statement on the table, whoever's statement it is.

CREATE OR REPLACE FUNCTION pgherd.behind_veil() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF coalesce(pg_catalog.current_setting('pgherd.defining', true), '') = 'on' THEN
        RETURN true; -- a definition, which means the template itself
    END IF;
    RAISE EXCEPTION 'this table has become a distributed one: its rows are not here any more'
        USING ERRCODE = 'PH001', HINT = 'The cluster map has changed: read it again. Or a function reads here: let the application send the statement itself.';
END $$;

-- Put a veil before a template.
CREATE OR REPLACE FUNCTION pgherd.veil(p_schema text, p_name text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
    template regclass := format('%I.%I', p_schema, p_name)::regclass;
    part text := format('pgherd_veil.%I', 'of_' || template::oid);
    t pg_partitioned_table := (SELECT p FROM pg_partitioned_table p WHERE p.partrelid = template);
BEGIN
    PERFORM pgherd.must_own(template);
    IF pgherd.group_id() <> 0 OR t.partrelid IS NULL OR to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    IF to_regnamespace('pgherd_veil') IS NULL THEN
        CREATE SCHEMA pgherd_veil;
    END IF;
    PERFORM set_config('pgherd.defining', 'on', true);
    EXECUTE format('CREATE TABLE %s PARTITION OF %s %s', part, template, CASE t.partstrat WHEN 'h' THEN 'FOR VALUES WITH (MODULUS 1, REMAINDER 0)' ELSE 'DEFAULT' END);
    EXECUTE format('CREATE INDEX ON %s ((1)) WHERE pgherd.behind_veil()', part);
    EXECUTE format('ALTER TABLE %s OWNER TO %I', part, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = template));
    EXECUTE format('COMMENT ON TABLE %s IS %L', part, extract(epoch FROM clock_timestamp()));
END $$;

-- Lift the veils that are older than that: by then everybody has read the map, or has no connection to do so. Answers how many are left.
CREATE OR REPLACE FUNCTION pgherd.lift_veils(p_age interval DEFAULT '1 minute') RETURNS integer LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET lock_timeout = '50ms' AS $$
DECLARE
    v record;
    still integer := 0;
BEGIN
    FOR v IN SELECT c.oid::regclass AS part, i.inhparent::regclass AS template, obj_description(c.oid, 'pg_class') AS since
             FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relnamespace = to_regnamespace('pgherd_veil') AND c.relkind = 'r' LOOP
        IF to_timestamp(coalesce(v.since, '0')::float8) > clock_timestamp() - p_age THEN
            still := still + 1;
            CONTINUE;
        END IF;
        BEGIN
            PERFORM set_config('pgherd.defining', 'on', true);
            -- a foreign key that refers to the template has a constraint on the veil, too: detaching takes it away
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', v.template, v.part);
            EXECUTE format('DROP TABLE %s', v.part);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            still := still + 1;
        END;
    END LOOP;
    RETURN still;
END $$;
REVOKE EXECUTE ON FUNCTION pgherd.lift_veils FROM PUBLIC;
