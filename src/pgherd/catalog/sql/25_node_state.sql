-- What a node says of itself to whoever watches: primary or standby, how far, and whether its lease holds.

-- Milliseconds that are left of this node's lease (see docs/design/004-replicas.md); null where nobody keeps one. Whatever else is in
-- the file means 0, and none of it gets out.
CREATE OR REPLACE FUNCTION pgherd.lease_ms() RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content text;
BEGIN
    content := encode(pg_read_binary_file('pgherd_lease', 0, 32, true), 'escape');
    RETURN CASE WHEN content IS NULL THEN NULL
        WHEN content !~ '^[0-9]{1,15}(\n| )*$' THEN 0
        ELSE greatest(0, least(2147483647, rtrim(content, E' \n')::bigint - (date_part('epoch', clock_timestamp()) * 1000)::bigint)) END;
EXCEPTION WHEN OTHERS THEN
    RETURN 0; -- it is there, and cannot be read
END $$;

-- The timeline of this node. pg_control lags behind a promotion, so it is only asked where a standby receives nothing.
CREATE OR REPLACE FUNCTION pgherd.timeline() RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    received integer;
BEGIN
    IF NOT pg_is_in_recovery() THEN
        RETURN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer;
    END IF;
    SELECT r.received_tli INTO received FROM pg_stat_get_wal_receiver() r;
    RETURN coalesce(received, (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline) FROM pg_control_checkpoint() c, pg_control_recovery() r));
END $$;

-- Where the last record ends, as a count of bytes of WAL. PostgreSQL's own answer for a record that ends with its page lies behind the
-- header of the next page, a place that no standby reaches before there is another record.
CREATE OR REPLACE FUNCTION pgherd.written_position() RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at bigint := pg_current_wal_insert_lsn() - '0/0'::pg_lsn;
BEGIN
    RETURN CASE WHEN at % 1024 = 24 AND at % current_setting('wal_block_size')::integer = 24 THEN at - 24
        WHEN at % 1024 = 40 AND at % pg_size_bytes(current_setting('wal_segment_size')) = 40 THEN at - 40
        ELSE at END;
END $$;

-- One row about this node. Never raises; cheap enough to be asked many times a second. Columns: docs/design/004-replicas.md.
-- paused_in_ms: until the pause begins, 0 if it has begun; paused_for_ms: how long it lasts from then (or from now).
CREATE OR REPLACE FUNCTION pgherd.node_state(OUT in_recovery boolean, OUT timeline integer, OUT "position" bigint, OUT lease_ms integer,
    OUT epoch bigint, OUT paused_in_ms integer, OUT paused_for_ms integer, OUT streaming boolean)
RETURNS record LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    pause record;
BEGIN
    in_recovery := pg_is_in_recovery();
    timeline := pgherd.timeline();
    IF in_recovery THEN
        "position" := coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0);
        streaming := coalesce((SELECT r.status = 'streaming' FROM pg_stat_get_wal_receiver() r), false);
    ELSE
        "position" := pgherd.written_position();
        streaming := false;
    END IF;
    lease_ms := pgherd.lease_ms();
    SELECT c.epoch INTO epoch FROM pgherd.cluster c;
    SELECT p.starts_at, p.ends_at INTO pause FROM pgherd.pauses p
        WHERE p.ends_at > now_at AND (p.timeline IS NULL OR p.timeline = node_state.timeline) ORDER BY p.starts_at LIMIT 1;
    IF FOUND THEN
        paused_in_ms := least(2147483647, greatest(0, date_part('epoch', pause.starts_at - now_at) * 1000));
        paused_for_ms := least(2147483647, greatest(0, date_part('epoch', pause.ends_at - greatest(pause.starts_at, now_at)) * 1000));
    END IF;
END $$;

-- Announce a pause of this group: from `in_ms` milliseconds from now on, for `for_ms`. The answer takes it back.
CREATE OR REPLACE FUNCTION pgherd.announce_pause(in_ms integer, for_ms integer) RETURNS bigint LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM pgherd.pauses WHERE ends_at < clock_timestamp();
    INSERT INTO pgherd.pauses (starts_at, ends_at, timeline)
    VALUES (clock_timestamp() + in_ms * interval '1 millisecond', clock_timestamp() + (in_ms + for_ms) * interval '1 millisecond', pgherd.timeline())
    RETURNING id
$$;

CREATE OR REPLACE FUNCTION pgherd.take_back_pause(p_id bigint) RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM pgherd.pauses WHERE id = p_id
$$;
REVOKE EXECUTE ON FUNCTION pgherd.announce_pause(integer, integer), pgherd.take_back_pause(bigint) FROM PUBLIC;

-- What other groups' servers read first, through pgherd.probe_<group>: a primary that was cut off, and may have a successor, answers
-- with the error of a lost connection instead of old rows.
CREATE OR REPLACE FUNCTION pgherd.must_lead() RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_is_in_recovery() OR pgherd.lease_ms() <= 0 THEN
        RAISE EXCEPTION 'this node of group % is not, or may not be its primary any more', pgherd.group_id() USING ERRCODE = '08006';
    END IF;
    RETURN true;
END $$;

CREATE OR REPLACE VIEW pgherd.leading AS SELECT p.one FROM pgherd.probe p WHERE pgherd.must_lead();
GRANT SELECT ON pgherd.leading TO PUBLIC;
