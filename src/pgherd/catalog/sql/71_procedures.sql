-- Procedures as \df shows them, with all their parameters. Gateway and client carry them out, and know the parameters by themselves
-- (catalog/admin/call.py; a test compares); called elsewhere they say so. Those that an older version declared with fewer parameters go.

DO $$
DECLARE
    p regprocedure;
BEGIN
    FOR p IN SELECT oid FROM pg_proc WHERE pronamespace = 'pgherd'::regnamespace AND prokind = 'p' LOOP
        EXECUTE format('DROP PROCEDURE %s', p);
    END LOOP;
END $$;

CREATE PROCEDURE pgherd.split("table" text, point text DEFAULT NULL,
    max_pause text DEFAULT NULL, keep_for text DEFAULT NULL, verify boolean DEFAULT true, dry_run boolean DEFAULT false, offline boolean DEFAULT NULL, wait boolean DEFAULT true)
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('split'); END $$;
CREATE PROCEDURE pgherd.split("table" text, VARIADIC point text[]) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('split'); END $$;
CREATE PROCEDURE pgherd.move(shard integer, "group" integer,
    max_pause text DEFAULT NULL, keep_for text DEFAULT NULL, verify boolean DEFAULT true, dry_run boolean DEFAULT false, offline boolean DEFAULT NULL, wait boolean DEFAULT true)
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('move'); END $$;
CREATE PROCEDURE pgherd.merge(shard integer, other integer,
    max_pause text DEFAULT NULL, keep_for text DEFAULT NULL, verify boolean DEFAULT true, dry_run boolean DEFAULT false, offline boolean DEFAULT NULL, wait boolean DEFAULT true)
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('merge'); END $$;
CREATE PROCEDURE pgherd.distribute("table" text, "by" text, key text, shards integer DEFAULT NULL,
    max_pause text DEFAULT NULL, keep_for text DEFAULT NULL, verify boolean DEFAULT true, dry_run boolean DEFAULT false, offline boolean DEFAULT NULL, wait boolean DEFAULT true)
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('distribute'); END $$;
CREATE PROCEDURE pgherd.undistribute("table" text,
    max_pause text DEFAULT NULL, keep_for text DEFAULT NULL, verify boolean DEFAULT true, dry_run boolean DEFAULT false, offline boolean DEFAULT NULL, wait boolean DEFAULT true)
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('undistribute'); END $$;
CREATE PROCEDURE pgherd.reference("table" text) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('reference'); END $$;
CREATE PROCEDURE pgherd.rebalance(dry_run boolean DEFAULT false) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('rebalance'); END $$;
CREATE PROCEDURE pgherd.drain("group" integer, stop boolean DEFAULT false, wait boolean DEFAULT true) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('drain'); END $$;
CREATE PROCEDURE pgherd.set_keyspace("table" text, setting text, value text) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('set_keyspace'); END $$;
CREATE PROCEDURE pgherd.set_balancing(setting text, value text) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('set_balancing'); END $$;
CREATE PROCEDURE pgherd.pause(workflow integer) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('pause'); END $$;
CREATE PROCEDURE pgherd.resume(workflow integer) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('resume'); END $$;
CREATE PROCEDURE pgherd.cancel(workflow integer) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('cancel'); END $$;
CREATE PROCEDURE pgherd.undo(workflow integer) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('undo'); END $$;
CREATE PROCEDURE pgherd.confirm(workflow integer) LANGUAGE plpgsql AS $$ BEGIN PERFORM pgherd.not_here('confirm'); END $$;

COMMENT ON PROCEDURE pgherd.split(text, text, text, text, boolean, boolean, boolean, boolean) IS 'Cut the shard that holds the point in two: the point begins the second. Without a point: the largest shard, in the middle of its rows. Hash keyspaces: the number of the shard.';
COMMENT ON PROCEDURE pgherd.split(text, VARIADIC text[]) IS 'The same with a point of several columns.';
COMMENT ON PROCEDURE pgherd.move(integer, integer, text, text, boolean, boolean, boolean, boolean) IS 'Move a shard to another group.';
COMMENT ON PROCEDURE pgherd.merge(integer, integer, text, text, boolean, boolean, boolean, boolean) IS 'Make one shard of two neighbours (or of two halves of a hash shard), in the first one''s group.';
COMMENT ON PROCEDURE pgherd.distribute(text, text, text, integer, text, text, boolean, boolean, boolean, boolean) IS 'Distribute a single table, with its rows, by range or hash of its key.';
COMMENT ON PROCEDURE pgherd.undistribute(text, text, text, boolean, boolean, boolean, boolean) IS 'Gather a distributed table, with its rows, as a single table in group 0.';
COMMENT ON PROCEDURE pgherd.reference(text) IS 'Give every group a full copy of a single table.';
COMMENT ON PROCEDURE pgherd.rebalance(boolean) IS 'Move shards until all groups carry about their part, one after the other; dry_run: only say which, and what it costs.';
COMMENT ON PROCEDURE pgherd.drain(integer, boolean, boolean) IS 'Let a group become empty: its shards move to others. stop: no longer.';
COMMENT ON PROCEDURE pgherd.set_keyspace(text, text, text) IS 'Change a setting of the keyspace that a table belongs to: autosplit, size_max, load_max, window and more (docs/balancing.md).';
COMMENT ON PROCEDURE pgherd.set_balancing(text, text) IS 'Change how eager balancing is in the whole cluster: balancing, round, sustain_rounds and more (docs/balancing.md).';
COMMENT ON PROCEDURE pgherd.pause(integer) IS 'Let a workflow rest. What it has made stays, and a source keeps the log that it needs.';
COMMENT ON PROCEDURE pgherd.resume(integer) IS 'Let a paused workflow go on.';
COMMENT ON PROCEDURE pgherd.cancel(integer) IS 'End a workflow before its cutover, and take away what it has made.';
COMMENT ON PROCEDURE pgherd.undo(integer) IS 'Take a workflow back after its cutover, while the old copy is kept in step.';
COMMENT ON PROCEDURE pgherd.confirm(integer) IS 'End the time in which a workflow can be undone: the old copy goes.';
