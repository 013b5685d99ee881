"""What the planner can decide: one frozen class for each way a statement can be carried out.

A plan is made once for a text and an epoch, and used for any parameters. It holds finished SQL texts;
nothing later reads the user's SQL again. `why` is for people (`pgherd explain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgherd.catalog.model import GroupId, KeyspaceId, ShardId, Table
from pgherd.sql.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A statement's text with a hole wherever a shard's schema belongs.

    `pieces` are joined by `shard_<id>`: ("SELECT * FROM ", ".users WHERE id = $1"). One piece: no holes.
    """

    pieces: tuple[str, ...]

    def for_shard(self, shard: ShardId) -> str:
        return f"shard_{shard}".join(self.pieces)


# ---- where a key's value comes from ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Param:
    """Parameter $number (from 1)."""

    number: int


@dataclass(frozen=True, slots=True)
class Const:
    """A literal, in PostgreSQL's text form; None is NULL."""

    text: str | None


@dataclass(frozen=True, slots=True)
class NewId:
    """A cluster-unique id that pgherd generates and writes into the text."""


@dataclass(frozen=True, slots=True)
class Expr:
    """Any other expression without columns: a server evaluates `SELECT (sql)::text` once, first.

    `params` are the numbers of the parameters that `sql` uses; in `sql` they are renumbered from $1.
    `zero`: on group 0 (sequences, single tables); else any group will do. `reads`, `epoch`: as in OneGroup.
    """

    sql: str
    params: tuple[int, ...] = ()
    zero: bool = False
    reads: tuple[GroupId, ...] = ()


KeySource = Param | Const | NewId | Expr


# ---- plans -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`write`: may change data, or take locks that must last, or call a volatile function: its branch must be prepared.

    `rows`: it answers with rows. `why`: one sentence for people. `tag`: the first word of its command tag.
    `in_transaction`: False if PostgreSQL forbids it inside a transaction block (VACUUM ...).
    `pin`: it leaves session state on its server connection (temporary table, LISTEN, advisory lock, WITH HOLD).
    `replica`: certainly a read and nothing else, the same on every node: a replica may answer it.
    """

    why: str = ""
    write: bool = False
    rows: bool = True
    tag: str = "SELECT"
    in_transaction: bool = True
    pin: bool = False
    replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Single(Plan):
    """Everything it touches lies in the one shard that its key names."""

    text: Text
    keyspace: KeyspaceId
    key: tuple[Param | Const, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneGroup(Plan):
    """The whole statement runs in one group: single and reference tables, catalogs, no tables at all.

    `group` None: any will do (reference reads, no tables); prefer one whose branch is open.
    `unknown`: names in it that the map does not know; before sending, check that the map is current.
    `reads`: the groups whose rows it reads over `global.*` on the way (a write on group 0 fed by whole tables), as at `epoch`.
    """

    sql: str
    group: GroupId | None
    unknown: tuple[str, ...] = ()
    reads: tuple[GroupId, ...] = ()
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Federated(Plan):
    """A read over `global.*` on one node; postgres_fdw fetches what lies elsewhere.

    `groups`: where it may run, best first. `reads`: the groups whose data it may read (all that hold a wanted shard).
    """

    sql: str
    groups: tuple[GroupId, ...]
    reads: tuple[GroupId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Plan):
    """A read that each group answers for its own shards (`here.*`), side by side, on the branches themselves.

    `arm` runs on every group of `groups`, with all of the statement's parameters (or `arm_params`, renumbered from $1); it checks the epoch itself
    (pgherd.at_epoch). Without `combine` the answer is the arms' rows, one after another. With it, the arms' rows become
    arrays, one for each column, and `combine` runs on one group: `{rows}` in it stands for
    `unnest(...) AS p(c1, c2, ...)`, and `{t1}`, `{t2}` ... for the type of the arms' first, second ... column; the statement's own
    parameters that it uses are `combine_params`, renumbered from $1. `row_limit` bounds the arms' rows: beyond it use
    `fallback`.

    `arms`: for each group, a text to run instead of `arm`, with the same meaning: shard by shard, so that a join meets each
    shard's own statistics and only the shard that it can match.
    """

    arm: str
    groups: tuple[GroupId, ...]
    combine: str | None = None
    combine_params: tuple[int, ...] = ()
    row_limit: int = 200_000
    arm_params: tuple[int, ...] | None = None
    fallback: Federated
    arms: tuple[tuple[GroupId, str], ...] = ()

    def arm_on(self, group: GroupId) -> str:
        """What to run on `group`."""
        return next((text for number, text in self.arms if number == group), self.arm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter(Plan):
    """A write that each of `shards` carries out for its own rows; counts are summed, RETURNING rows concatenated.

    `reads`: the groups whose rows it reads over `global.*` on the way, as at `epoch`. `combine`, `combine_params`: as in Gather, for
    locking reads.
    """

    text: Text
    shards: tuple[ShardId, ...]
    reads: tuple[GroupId, ...] = ()
    epoch: int = 0
    combine: str | None = None
    combine_params: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A query whose rows stand where `pgherd.source(number)` is in another plan's texts; `params` are the statement's
    parameters that it uses, renumbered from $1."""

    number: int
    plan: AnyPlan
    params: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied(Plan):
    """A write that reads other groups' tables: the sources' rows are fetched first and put into `inner`'s texts, which
    use the statement's parameters `numbers`, renumbered from $1."""

    sources: tuple[Source, ...]
    inner: AnyPlan
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAll(Plan):
    """The same statement in several groups, one transaction: TRUNCATE, ANALYZE, LOCK, SET-like ... (`sql[group]`).

    `references`: the reference tables that it empties, which it must do in every group.
    """

    sql: tuple[tuple[GroupId, str], ...]
    references: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceWrite(Plan):
    """A write to a reference table: group 0 first (its row locks order all writers), then the others.

    `mode` 'text': `sql` everywhere. 'image' (the groups might compute different rows): group 0 runs `image_sql`, which returns
    the columns `image_columns` of every row that changed; the others then run `apply_sql`, in which `{rows}` stands for
    those rows, as in `Gather.combine` (skip it if there are none). The user sees group 0's count, and the answer of `returning`
    (again with `{rows}`) if that is not empty. `reads`: as in OneGroup.
    """

    sql: str
    table: Table
    mode: Literal["text", "image"] = "text"
    image_sql: str = ""
    image_columns: tuple[str, ...] = ()
    apply_sql: str = ""
    returning: str = ""
    reads: tuple[GroupId, ...] = ()
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRow:
    """One row of a VALUES list: its text `(…)` cut at the parameters it uses and at generated ids.

    `parts`: str, or Param (becomes $k, renumbered), or NewId (becomes the generated number), or Expr (becomes the
    evaluated value as a literal). `key`: where each key column's value comes from; an Expr or NewId in `key` is the same
    object as in `parts`, and is evaluated once.
    """

    parts: tuple[str | Param | NewId | Expr, ...]
    key: tuple[KeySource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRows(Plan):
    """INSERT ... VALUES whose rows are divided over shards (also one row whose key must first be generated).

    Text for a shard: `head.for_shard(s)` + rows joined by ", " + `tail` (which may use parameters: parts again).
    """

    head: Text
    rows_: tuple[InsertRow, ...]
    tail: tuple[str | Param, ...]
    keyspace: KeyspaceId
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertSelect(Plan):
    """INSERT ... SELECT that cannot run shard by shard: run `source`, divide its rows by key, insert them.

    `source` reads and returns the columns `columns` of the target, in order, cast to their types;
    `tail` is ON CONFLICT ... RETURNING ... (no parameters of its own).
    """

    source: Plan
    table: Table
    columns: tuple[str, ...]
    head: Text
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRows(Plan):
    """An UPDATE that may change the shard key: in each of `shards`, DELETE ... RETURNING the new row; then INSERT it.

    `take` runs per shard and returns all insertable columns of `table` (new values) in `columns`' order;
    `put` is "INSERT INTO shard_?.t (columns) " to which VALUES rows are added; `returning` is appended to it.
    """

    take: Text
    put: Text
    columns: tuple[str, ...]
    table: Table
    shards: tuple[ShardId, ...]
    returning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyIn(Plan):
    """COPY table FROM STDIN, divided by key. `options` is the text of the WITH clause to pass on, `format` its format.

    `columns` in file order. `table` single: one stream to group 0. reference: the same stream to every group.
    """

    table: Table
    columns: tuple[str, ...]
    head: Text
    options: str
    format: Literal["text", "csv", "binary"]
    header: bool = False
    delimiter: str = "\t"
    null: str = "\\N"
    quote: str = '"'
    escape: str = '"'


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOut(Plan):
    """COPY ... TO STDOUT. `arms`: texts per group, streamed one after another as one file; `header`, `binary`: the first
    arm's header line (or binary signature) is kept, later ones and all but the last trailer dropped."""

    arms: tuple[tuple[GroupId, str], ...]
    header: bool = False
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddl(Plan):
    """A definition: carried out by `catalog.ddl` in one distributed transaction over all groups."""

    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Plan):
    """CALL pgherd.name(args) / SELECT pgherd.name(args): an admin procedure or a function that pgherd answers.

    Arguments are constants in text form (None: NULL) or Param; named ones in `named`. `column`: what a function's answer is called.
    """

    name: str
    args: tuple[Param | Const, ...] = ()
    named: tuple[tuple[str, Param | Const], ...] = ()
    column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Plan):
    """EXPLAIN of `inner`; `prefix` is the EXPLAIN (...) text to put before the parts' SQL."""

    inner: Plan
    prefix: str
    analyze: bool
    format: Literal["text", "json", "xml", "yaml"] = "text"


# ---- what the session itself answers -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Plan):
    """BEGIN, COMMIT and their kin. `modes`: the text of transaction modes to pass on ("ISOLATION LEVEL ..."), if any."""

    action: Literal["begin", "commit", "rollback", "savepoint", "release", "rollback_to", "set_transaction"]
    name: str = ""
    isolation: Literal["", "read committed", "repeatable read", "serializable", "read uncommitted"] = ""
    read_only: bool | None = None
    modes: str = ""
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVariable(Plan):
    """SET / RESET (also set_config with constants). `sql` is the statement to run on a server; `value` None: RESET.

    `name` lower case ("all" for RESET ALL). `pgherd.*` names are the session's own and never sent.
    `calls`: name, value and is_local of each set_config() of a SELECT; then the other fields say nothing.
    """

    sql: str
    name: str
    value: str | None
    local: bool = False
    calls: tuple[tuple[Param | Const, Param | Const, Param | Const], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Plan):
    """SHOW name."""

    sql: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Plan):
    """DISCARD ALL | PLANS | SEQUENCES | TEMP."""

    what: Literal["all", "plans", "sequences", "temp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(Plan):
    """PREPARE name (types) AS inner."""

    name: str
    types: tuple[str, ...]
    inner: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Plan):
    """EXECUTE name (args): argument expressions as text (constants as Const, others as Expr)."""

    name: str
    args: tuple[Const | Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deallocate(Plan):
    """DEALLOCATE name, or all (None)."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Plan):
    """DECLARE name CURSOR ... FOR inner; `prefix` is the text before the query. WITH HOLD pins (`hold`)."""

    name: str
    prefix: str
    inner: Plan
    hold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Plan):
    """FETCH / MOVE / CLOSE on cursor `name` (None: CLOSE ALL): runs where the cursor was declared."""

    sql: str
    name: str | None
    action: Literal["fetch", "move", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty(Plan):
    """Nothing but spaces and comments."""


AnyPlan = (
    Single | OneGroup | Federated | Gather | Scatter | OnAll | ReferenceWrite | InsertRows | InsertSelect | MoveRows
    | CopyIn | CopyOut | Ddl | Call | Explain | Control | SetVariable | Show | Discard | Prepare | Execute | Deallocate
    | Declare | Fetch | Empty | Supplied
)  # fmt: skip
