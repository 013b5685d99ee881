-- What gateway and client carry out themselves; called elsewhere it says so. Procedures: 71_procedures.sql.

CREATE OR REPLACE FUNCTION pgherd.not_here(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'pgherd.% concerns the whole cluster and cannot run inside one server', what
        USING ERRCODE = '55000', HINT = 'Call it through the pgherd gateway or the pgherd client.';
END $$;

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
