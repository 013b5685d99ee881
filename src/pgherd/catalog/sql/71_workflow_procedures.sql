-- Procedures about workflows, so that \df shows them. Gateway and client carry them out; called elsewhere they say so.

CREATE OR REPLACE PROCEDURE pgherd.merge(shard integer, other integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('merge') $$;
CREATE OR REPLACE PROCEDURE pgherd.pause(workflow integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('pause') $$;
CREATE OR REPLACE PROCEDURE pgherd.resume(workflow integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('resume') $$;
CREATE OR REPLACE PROCEDURE pgherd.cancel(workflow integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('cancel') $$;
CREATE OR REPLACE PROCEDURE pgherd.undo(workflow integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('undo') $$;
CREATE OR REPLACE PROCEDURE pgherd.confirm(workflow integer) LANGUAGE sql AS $$ SELECT pgherd.not_here('confirm') $$;
COMMENT ON PROCEDURE pgherd.merge IS 'Make one shard of two neighbours (or of two halves of a hash shard), in the first one''s group.';
COMMENT ON PROCEDURE pgherd.pause IS 'Let a workflow rest. What it has made stays, and a source keeps the log that it needs.';
COMMENT ON PROCEDURE pgherd.resume IS 'Let a paused workflow go on.';
COMMENT ON PROCEDURE pgherd.cancel IS 'End a workflow before its cutover, and take away what it has made.';
COMMENT ON PROCEDURE pgherd.undo IS 'Take a workflow back after its cutover, while the old copy is kept in step.';
COMMENT ON PROCEDURE pgherd.confirm IS 'End the time in which a workflow can be undone: the old copy goes.';
