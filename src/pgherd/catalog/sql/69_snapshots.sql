-- Transactions whose snapshot is older than what they are about to read.

-- Whether a shard is here now, as the same tables that the snapshot shows; the caller holds locks that keep it here. Names are looked up as
-- they are now, whatever the snapshot is: a shard that has gone, or has gone and come back, has other rows than those of the snapshot.
CREATE OR REPLACE FUNCTION pgherd.shard_table(p_shard integer, OUT full_name text, OUT seen oid) LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I', x.space, x.name), (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                              WHERE n.nspname = x.space AND c.relname = x.name AND c.relkind = 'r')
    FROM (SELECT pgherd.physical('shard_' || s.id, t.schema) AS space, t.name
          FROM pgherd.shards s JOIN pgherd.tables t ON t.keyspace = s.keyspace AND t.kind = 'distributed'
          WHERE s.id = p_shard AND s.group_id = pgherd.group_id() ORDER BY t.schema, t.name LIMIT 1) x
$$;

-- Keep a shard where it is until the transaction ends. True if it was here when the snapshot was taken, and is; otherwise its rows here, or
-- behind a foreign table, are not those of the snapshot. Null: the snapshot is young enough, but it is not here: the caller's map is old.
CREATE OR REPLACE FUNCTION pgherd.hold_shard(p_shard integer) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known record;
BEGIN
    SELECT * INTO known FROM pgherd.shard_table(p_shard);
    IF known.full_name IS NULL THEN
        RETURN CASE WHEN to_regnamespace('pgherd_epoch_' || (SELECT epoch FROM pgherd.cluster)) IS NULL THEN false END;
    END IF;
    EXECUTE 'LOCK TABLE ONLY ' || known.full_name || ' IN ACCESS SHARE MODE';
    RETURN coalesce(to_regclass(known.full_name)::oid = known.seen, false);
EXCEPTION WHEN undefined_table OR invalid_schema_name OR wrong_object_type THEN
    RETURN false;
END $$;

-- Whether all of these shards are here; see shard_table.
CREATE OR REPLACE FUNCTION pgherd.all_here(p_shards integer[]) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(bool_and(coalesce(to_regclass(k.full_name)::oid = k.seen, false)), true)
    FROM unnest(p_shards) s (id), LATERAL pgherd.shard_table(s.id) k
$$;

-- True, or PH001: one of the shards that a read over global.* takes for this group's is not. Changes of the map that do not concern them do
-- no harm. The read has locked its tables already, and so no shard of theirs can leave before its end.
CREATE OR REPLACE FUNCTION pgherd.still_here(expected bigint, shards integer[]) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    found bigint;
BEGIN
    SELECT c.epoch INTO found FROM pgherd.cluster c;
    IF (found = expected AND pg_catalog.to_regnamespace('pgherd_epoch_' || expected) IS NOT NULL) OR pgherd.all_here(shards) THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'a shard is not in this group any more: epoch % instead of %', found, expected
        USING ERRCODE = 'PH001', HINT = 'Read the cluster map again and repeat the statement.';
END $$;

-- True, or PH001: the table is a foreign one by now. Locks would be taken through it, where the transaction's own writes wait for them.
CREATE OR REPLACE FUNCTION pgherd.table_here(rel regclass) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF pg_catalog.pg_relation_filenode(rel) IS NOT NULL THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'the shard is not in this group any more' USING ERRCODE = 'PH001',
        HINT = 'Read the cluster map again and repeat the statement.';
END $$;

-- Keep the cluster map as it is until the transaction ends, and say its epoch: before a write that reads whole tables on the way.
CREATE OR REPLACE FUNCTION pgherd.hold_epoch() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.epoch FROM pgherd.cluster c FOR SHARE
$$;
