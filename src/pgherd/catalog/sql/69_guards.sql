-- Guards, on group 0: whoever takes a table for a single one, since its map is old, writes to its name there. A template refuses that, and so
-- does a reference table, unless the transaction has entered it (pgherd.enter_reference): the write would reach one group only.

CREATE OR REPLACE FUNCTION pgherd.guard() RETURNS trigger LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entered text := coalesce(current_setting('pgherd.entered', true), '');
BEGIN
    -- a foreign key's action, or TRUNCATE ... CASCADE: the statement's own table was asked about
    IF strpos(entered, format(',%s,', TG_RELID)) > 0 OR (TG_OP = 'TRUNCATE' AND entered <> '') OR (TG_ARGV[0] = 'reference' AND pg_trigger_depth() > 1) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'this write to % table "%" would reach one group only', TG_ARGV[0], TG_TABLE_NAME
        USING ERRCODE = 'PH001', HINT = 'The cluster map has changed: read it again. Or a function writes here: let the application send the statement itself.';
END $$;

-- Guard a table as its kind asks for, or free it.
CREATE OR REPLACE FUNCTION pgherd.sync_guard(p_schema text, p_name text, p_kind text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel regclass := to_regclass(format('%I.%I', p_schema, p_name));
    had text := (SELECT split_part(encode(t.tgargs, 'escape'), '\000', 1) FROM pg_trigger t WHERE t.tgrelid = rel AND t.tgname = 'pgherd_guard');
    wanted text := CASE WHEN pgherd.group_id() = 0 AND p_kind IN ('distributed', 'reference') THEN p_kind END;
BEGIN
    IF rel IS NULL OR had IS NOT DISTINCT FROM wanted THEN
        RETURN;
    END IF;
    IF had IS NOT NULL THEN
        EXECUTE format('DROP TRIGGER pgherd_guard ON %s', rel);
    END IF;
    IF wanted IS NOT NULL THEN
        EXECUTE format('CREATE TRIGGER pgherd_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgherd.guard(%L)', rel, wanted);
    END IF;
END $$;

SELECT pgherd.sync_guard(t.schema, t.name, t.kind) FROM pgherd.tables t WHERE pgherd.group_id() = 0 AND t.kind IN ('distributed', 'reference');
