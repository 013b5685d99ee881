-- Admin procedures, so that \df shows them. Gateway and client carry them out; called elsewhere they say so.

CREATE OR REPLACE FUNCTION pgherd.not_here(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'pgherd.% concerns the whole cluster and cannot run inside one server', what
        USING ERRCODE = '55000', HINT = 'Call it through the pgherd gateway or the pgherd client.';
END $$;

CREATE OR REPLACE PROCEDURE pgherd.split("table" text, VARIADIC point text[]) LANGUAGE sql AS $$ SELECT pgherd.not_here('split') $$;
CREATE OR REPLACE PROCEDURE pgherd.move(shard integer, "group" integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('move') $$;
CREATE OR REPLACE PROCEDURE pgherd.reference("table" text) LANGUAGE sql AS $$ SELECT pgherd.not_here('reference') $$;
CREATE OR REPLACE PROCEDURE pgherd.distribute("table" text, "by" text, key text, shards integer DEFAULT NULL) LANGUAGE sql
    AS $$ SELECT pgherd.not_here('distribute') $$;
CREATE OR REPLACE PROCEDURE pgherd.undistribute("table" text) LANGUAGE sql AS $$ SELECT pgherd.not_here('undistribute') $$;
COMMENT ON PROCEDURE pgherd.split IS 'Cut the shard that holds the point in two: the point begins the second. Hash keyspaces: the number of the shard.';
COMMENT ON PROCEDURE pgherd.move IS 'Move a shard to another group.';
COMMENT ON PROCEDURE pgherd.reference IS 'Give every group a full copy of a single table.';
COMMENT ON PROCEDURE pgherd.distribute IS 'Distribute a single table, with its rows, by range or hash of its key.';
COMMENT ON PROCEDURE pgherd.undistribute IS 'Gather a distributed table, with its rows, as a single table in group 0.';

-- Functions that gateway and client answer. They are declared here so that a statement that calls one can be described.
CREATE OR REPLACE FUNCTION pgherd.transaction_id() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgherd.not_here('transaction_id');
END $$;
CREATE OR REPLACE FUNCTION pgherd.transaction_status(id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgherd.not_here('transaction_status');
END $$;
COMMENT ON FUNCTION pgherd.transaction_id IS 'The id of this distributed transaction; from then on its outcome can be asked for.';
COMMENT ON FUNCTION pgherd.transaction_status IS 'How a transaction ended: committed, aborted or in progress; null if it is too old to tell.';
