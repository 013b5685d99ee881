# Queries

select * from only users
-- Refused 0A000: ONLY cannot be used on distributed table users
--   hint: Leave out ONLY.

select * from other_database.public.users
-- Refused 0A000: cross-database references are not implemented
--   hint: Leave out the database's name.

select * from users u join events e on e.n = u.age for update
-- Refused 0A000: FOR UPDATE and FOR SHARE cannot lock rows of several groups in this form
--   hint: Name the shard key in WHERE, or lock the rows of one table, or of tables joined on the shard key.

select * from young for update
-- Refused 0A000: FOR UPDATE and FOR SHARE cannot lock rows of several groups in this form
--   hint: Name the shard key in WHERE, or lock the rows of one table, or of tables joined on the shard key.

select nextval('s') from users where age = 5 for update
-- Refused 0A000: FOR UPDATE and FOR SHARE cannot lock rows of several groups in this form
--   hint: Name the shard key in WHERE, or lock the rows of one table, or of tables joined on the shard key.

# Writes

insert into users (last_name, id) values ('a', 1), ('z', 1) on conflict (last_name, id) do update set last_name = 'b'
-- Refused 0A000: ON CONFLICT DO UPDATE cannot change the shard key
--   hint: Delete the row and insert it with its new key.

with x as (select 1) insert into users (last_name, id) values ('a', 1), ('z', (select * from x))
-- Refused 0A000: INSERT ... VALUES with a WITH clause must stay within one shard
--   hint: Write it as several statements in one transaction.

insert into users (last_name, id) overriding user value select email, id from users
-- Refused 0A000: OVERRIDING USER VALUE is not available here
--   hint: Leave the identity column out of the list.

insert into users (last_name, id) select email, id from users on conflict (last_name, id) do update set age = $1
-- Refused 0A000: parameters behind the query of an INSERT ... SELECT are not available
--   hint: Write constants.

update users set last_name = 'B' where id = 5
-- Refused 0A000: the shard key of users cannot be changed: foreign keys refer to the table
--   hint: Insert the row with its new key, point the referring rows at it, then delete the old row.

update orders set (last_name, note) = (select 'a', 'b') where id = 5
-- Refused 0A000: SET (a, b) = ... cannot change the shard key
--   hint: Assign each column by itself.

update orders set last_name = 'a' from users u where u.last_name = orders.last_name returning u.id
-- Refused 0A000: RETURNING of an UPDATE that changes the shard key is too involved
--   hint: Return plain columns.

update young set age = 1
-- Refused 0A000: a view over distributed tables cannot be written
--   hint: Write the table itself.

update users set age = nextval('s')
-- Refused 0A000: sequences and advisory locks cannot be used in a write over several shards
--   hint: An identity column gives ids in every shard; or compute the values first.

with x as (delete from orders returning *) select * from x
-- Refused 0A000: a statement with writing WITH queries must stay within one shard
--   hint: Write it as several statements in one transaction, or name the shard key.

with x as (delete from orders returning *) insert into settings select note, 'x' from x
-- Refused 0A000: one statement cannot write distributed and other tables
--   hint: Write it as several statements in one transaction, or name the shard key.

with x as (delete from countries returning *) insert into settings select code, name from x
-- Refused 0A000: one statement cannot write reference tables and others
--   hint: Write it as several statements in one transaction, or name the shard key.

merge into users u using orders o on u.last_name = o.last_name and u.id = o.user_id when not matched then insert (last_name, id) values (o.note, o.user_id)
-- Refused 0A000: MERGE that inserts must name one shard, or take its rows from a table that is joined on the shard key
--   hint: Join on the shard key with a constant or parameter, or use INSERT ... ON CONFLICT.

merge into countries c using settings s on s.key = c.code when matched then update set name = s.value
-- Refused 0A000: this write to a reference table may come out differently in each group
--   hint: Compute the values first and write them as constants or parameters.

update countries set code = name || now()::text
-- Refused 0A000: this change of a reference table's primary key may come out differently in each group
--   hint: Compute the values first and write them as constants or parameters.

delete from countries where code = 'a' and random() > 0.5 returning $1::text
-- Refused 0A000: RETURNING of this write to a reference table is too involved
--   hint: Return plain columns.

# Transactions and sessions

prepare transaction 'x'
-- Refused 0A000: PREPARE TRANSACTION is not available: pgherd prepares transactions itself
--   hint: Use COMMIT; it is atomic over all groups.

commit prepared 'x'
-- Refused 0A000: PREPARE TRANSACTION is not available: pgherd prepares transactions itself
--   hint: Use COMMIT; it is atomic over all groups.

set transaction snapshot 'x'
-- Refused 0A000: SET TRANSACTION SNAPSHOT is not available: a snapshot belongs to one group
--   hint: Use ISOLATION LEVEL REPEATABLE READ: it reads one snapshot over all groups.

declare c cursor for select * from users where age = 5 for update
-- Refused 0A000: a cursor cannot be declared over a statement that runs in several groups
--   hint: Leave out FOR UPDATE, or name the shard key in WHERE.

call pgherd.split('users', upper('n'))
-- Refused 0A000: arguments of pgherd's procedures must be constants or parameters
--   hint: Write the value itself.

alter table users set (fillfactor = 70, pgherd.autosplit = off)
-- Refused 0A000: settings of pgherd stand in an ALTER TABLE of their own
--   hint: ALTER TABLE users SET (pgherd.autosplit = off); and the rest in another statement.

# COPY

copy users from '/tmp/x'
-- Refused 0A000: COPY with a file on the server is not available here
--   hint: Use STDIN or STDOUT, or psql's \copy.

copy users from program 'cat'
-- Refused 0A000: COPY with a file on the server is not available here
--   hint: Use STDIN or STDOUT, or psql's \copy.

copy users (last_name, id) from stdin (format csv, encoding 'latin1')
-- Refused 0A000: COPY into a distributed table cannot use the option ENCODING
--   hint: Bring the data into UTF-8 CSV or text without it, or copy into a single table and INSERT ... SELECT.

copy (delete from users returning *) to stdout
-- Refused 0A000: COPY of a writing query over distributed tables is not available
--   hint: Run the query itself with RETURNING.

# Statements about one server

create database d
-- Refused 0A000: CREATE DATABASE is not available through pgherd
--   hint: It concerns one server: connect to that server itself.

drop database d
-- Refused 0A000: DROP DATABASE is not available through pgherd
--   hint: It concerns one server: connect to that server itself.

alter system set work_mem = '64MB'
-- Refused 0A000: ALTER SYSTEM is not available through pgherd
--   hint: It concerns one server: connect to that server itself.

create tablespace t location '/tmp'
-- Refused 0A000: CREATE TABLESPACE is not available through pgherd
--   hint: It concerns one server: connect to that server itself.

load 'auto_explain'
-- Refused 0A000: LOAD is not available through pgherd
--   hint: It concerns one server: connect to that server itself.

create subscription s connection 'x' publication p
-- Refused 0A000: CREATE SUBSCRIPTION is not available through pgherd
--   hint: It concerns one server: connect to that server itself.
