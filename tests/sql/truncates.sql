-- mode: writes
-- tables: users orders events event_parts settings banned
-- TRUNCATE of tables of every kind.

TRUNCATE event_parts

TRUNCATE orders, event_parts

TRUNCATE events

TRUNCATE users CASCADE

TRUNCATE settings, banned RESTART IDENTITY

TRUNCATE nowhere
