-- Transactions whose snapshot is older than what they are about to read.

-- Keep a shard where it is until the transaction ends. True if it was here when the snapshot was taken, and is; otherwise its rows here, or
-- behind a foreign table, are not those of the snapshot. Null: the snapshot is young enough, but it is not here: the caller's map is old.
CREATE OR REPLACE FUNCTION pgherd.hold_shard(p_shard integer) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    full_name text;
BEGIN
    SELECT format('%I.%I', pgherd.physical('shard_' || s.id, t.schema), t.name) INTO full_name
    FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace AND t.kind = 'distributed'
    WHERE s.id = p_shard AND s.group_id = pgherd.group_id() ORDER BY t.schema, t.name LIMIT 1;
    IF full_name IS NULL THEN
        RETURN CASE WHEN to_regnamespace('pgherd_epoch_' || (SELECT epoch FROM pgherd.cluster)) IS NULL THEN false END;
    END IF;
    EXECUTE 'LOCK TABLE ONLY ' || full_name || ' IN ACCESS SHARE MODE';
    RETURN pg_relation_filenode(to_regclass(full_name)) IS NOT NULL;  -- as it is now, whatever the snapshot is; a foreign table has none
EXCEPTION WHEN undefined_table OR invalid_schema_name OR wrong_object_type THEN
    RETURN false;
END $$;
