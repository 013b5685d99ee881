-- Functions that queries and loaders call. All are replaced at every start, so they may change without a new layout.

CREATE OR REPLACE FUNCTION pgherd.group_id() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN {group};

-- The next cluster-unique id: 41 bits of milliseconds since 2024-01-01, 11 of origin, 11 of counter. The sequence holds time and
-- counter in one number and is moved up to the clock when it lags more than a second: so no two calls see the same.
CREATE OR REPLACE FUNCTION pgherd.next_id() RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    v bigint := pg_catalog.nextval('pgherd.ids');
    clock bigint := ((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::bigint - 1704067200000) << 11;
BEGIN
    IF v < clock - (1000 << 11) THEN
        PERFORM pg_catalog.pg_advisory_lock(7037, 1);
        v := pg_catalog.nextval('pgherd.ids');
        IF v < clock - (1000 << 11) THEN
            PERFORM pg_catalog.setval('pgherd.ids', clock);
            v := pg_catalog.nextval('pgherd.ids');
        END IF;
        PERFORM pg_catalog.pg_advisory_unlock(7037, 1);
    END IF;
    RETURN (v >> 11) << 22 | ({group}::bigint << 11) | (v & 2047);
END $$;

-- True, or PH001: the reader's cluster map is not the one that this snapshot sees, or a shard may have moved since the snapshot was taken.
-- The second is told by the name of a schema (see pgherd.mark_epoch): names are looked up as they are now, whatever the snapshot is.
CREATE OR REPLACE FUNCTION pgherd.at_epoch(expected bigint) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    found bigint;
BEGIN
    SELECT c.epoch INTO found FROM pgherd.cluster c;
    IF found IS DISTINCT FROM expected OR pg_catalog.to_regnamespace('pgherd_epoch_' || expected) IS NULL THEN
        RAISE EXCEPTION 'the cluster map has changed: epoch % instead of %', found, expected
            USING ERRCODE = 'PH001', HINT = 'Read the cluster map again and repeat the statement.';
    END IF;
    RETURN true;
END $$;

-- The schema that holds the physical form of a user schema's tables.
CREATE OR REPLACE FUNCTION pgherd.physical(prefix text, schema text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN schema = 'public' THEN prefix ELSE prefix || '_' || schema END;

-- Whether pgherd generates the column's values when it belongs to a distributed table: identity, or a sequence's default.
CREATE OR REPLACE FUNCTION pgherd.is_generated_id(rel oid, attnum smallint) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT a.attidentity <> '' OR (a.atthasdef AND EXISTS (
        SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.refobjid = rel AND d.refobjsubid = $2 AND d.deptype = 'a'))
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = rel AND a.attnum = $2
$$;

-- The columns of a relation as json, in order.
CREATE OR REPLACE FUNCTION pgherd.columns_of(rel regclass) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, -1), 'full_type', format_type(a.atttypid, a.atttypmod), 'typmod', a.atttypmod,
        'not_null', a.attnotnull, 'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
        'identity', a.attidentity, 'generated', a.attgenerated <> '', 'next_id', pgherd.is_generated_id(rel, a.attnum),
        'collation', CASE WHEN a.attcollation <> t.typcollation AND a.attcollation <> 0
                          THEN (SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                                WHERE c.oid = a.attcollation) END
    ) ORDER BY a.attnum), '[]')
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- The tables as the cluster map wants them, in one query: as many as there are, this is read at every change of the map.
CREATE OR REPLACE FUNCTION pgherd.map_tables() RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
    WITH known AS MATERIALIZED (
             SELECT t.*, c.oid AS rel FROM pgherd.tables t JOIN pg_namespace n ON n.nspname = t.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name),
         counted AS MATERIALIZED (
             SELECT d.refobjid AS rel, d.refobjsubid AS attnum FROM pg_sequence s JOIN pg_depend d ON d.objid = s.seqrelid AND d.deptype = 'a'
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass),
         columns AS (
             SELECT a.attrelid AS rel, jsonb_agg(jsonb_build_object(
                 'name', a.attname, 'type', format_type(a.atttypid, -1), 'not_null', a.attnotnull,
                 'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                 'identity', a.attidentity, 'generated', a.attgenerated <> '',
                 'collated', a.attcollation <> 0 AND a.attcollation <> (SELECT t.typcollation FROM pg_type t WHERE t.oid = a.atttypid),
                 'next_id', a.attidentity <> '' OR (a.atthasdef AND s.rel IS NOT NULL)) ORDER BY a.attnum) AS columns
             FROM known k JOIN pg_attribute a ON a.attrelid = k.rel LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             LEFT JOIN counted s ON s.rel = a.attrelid AND s.attnum = a.attnum
             WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid),
         keys AS (
             SELECT p.conrelid AS rel, jsonb_agg(a.attname ORDER BY k.position) AS names
             FROM pg_constraint p CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute a ON a.attnum = k.attnum AND a.attrelid = p.conrelid
             WHERE p.contype = 'p' AND p.conrelid IN (SELECT rel FROM known) GROUP BY p.conrelid),
         referenced AS MATERIALIZED (
             SELECT DISTINCT f.confrelid AS rel FROM pg_constraint f JOIN known k ON k.rel = f.conrelid WHERE f.contype = 'f' AND k.kind = 'distributed')
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'schema', t.schema, 'name', t.name, 'kind', t.kind, 'keyspace', t.keyspace, 'key', t.key,
        'distributed_view', t.distributed_view, 'on_all', t.on_all, 'columns', coalesce(c.columns, '[]'), 'primary_key', k.names,
        'referenced', t.rel IN (SELECT rel FROM referenced)) ORDER BY t.rel), '[]')
    FROM known t LEFT JOIN columns c USING (rel) LEFT JOIN keys k USING (rel)
$$;

-- The whole cluster map in one answer.
CREATE OR REPLACE FUNCTION pgherd.map() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'epoch', (SELECT epoch FROM pgherd.cluster),
        'next_shard', (SELECT next_shard FROM pgherd.cluster),
        'next_keyspace', (SELECT next_keyspace FROM pgherd.cluster),
        'groups', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.id), '[]') FROM pgherd.groups g),
        'nodes', (SELECT coalesce(jsonb_agg(to_jsonb(n) ORDER BY n.group_id, n.id), '[]') FROM pgherd.nodes n),
        'keyspaces', (SELECT coalesce(jsonb_agg(to_jsonb(k) ORDER BY k.id), '[]') FROM pgherd.keyspaces k),
        'shards', (SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.id), '[]') FROM pgherd.shards s),
        'moving', (SELECT coalesce(jsonb_agg(m.shard), '[]') FROM pgherd.moving m),
        'tables', pgherd.map_tables())
$$;
