"""Reads over `global.*` that fail when they meet another placement than the one they were planned for.

With an old map such a read would still find every row, through foreign tables; but the rows of a group that its snapshot does not
cover would be of another moment: half of a transaction could be seen. The check stands in LIMIT, as there PostgreSQL computes
it once, after the tables are locked and under the snapshot of the read itself; no cutover can come in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.catalog.model import Shard, Table
from pgherd.plan import physical
from pgherd.sql.rewrite import quote
from pgherd.sql.statement import Statement
from pgherd.sql.tokens import Token, tokens

MANY = 100  # so many shards are not named one by one: any change of the map then counts as one of theirs


def at_epoch(epoch: int) -> str:
    """True if nothing has changed since `epoch`, else an error (PH001)."""
    return f"pgherd.at_epoch({epoch})"


def still_here(epoch: int, shards: Sequence[Shard]) -> str:
    """True if these shards live in the group that is asked, as at `epoch`, else an error (PH001). Other changes of the map do no harm."""
    if len(shards) > MANY:
        return at_epoch(epoch)
    return f"pgherd.still_here({epoch}, '{{{','.join(str(shard.id) for shard in shards)}}}')"


def table_here(space: str, table: Table) -> str:
    """True if a table of a shard (`space`: its schema, or a hole for it) is a real one in the group that is asked, else an error (PH001)."""
    name = f"{physical.quoted_schema(space, table.schema)}.{quote(table.name)}".replace("'", "''")
    return f"pgherd.table_here('{name}')"


def checked(statement: Statement, sql: str, check: str) -> str:
    """A SELECT's text `sql` (the statement's, over other tables) with `check` in its LIMIT."""
    gap = "\n" if "--" in sql else " "
    if not statement.tree.limit_count.WhichOneof("node"):
        return f"{sql}{gap}LIMIT {_limit(check, 'NULL')}"
    found = [token for token in tokens(sql) if token.depth == 0]
    start = _clause(found)
    if start is None:  # all in brackets, its own LIMIT too
        return f"SELECT * FROM ({sql}{gap.strip(' ')}) AS pgherd_checked LIMIT {_limit(check, 'NULL')}"
    if found[start].word == "limit":
        return _with_limit(sql, found, start, check)
    return _with_fetch(sql, found, start, check)


def _limit(check: str, count: str) -> str:
    return f"CASE WHEN {check} THEN CAST({count} AS bigint) END"


def _clause(found: Sequence[Token]) -> int | None:
    """Where the text's own LIMIT or FETCH stands. After a dot or AS the words are names."""
    for at in range(len(found) - 1, 0, -1):
        before = found[at - 1]
        if found[at].word in ("limit", "fetch") and before.word != "as" and before.kind != "other":
            return at
    return None


def _with_limit(sql: str, found: Sequence[Token], start: int, check: str) -> str:
    end = next((token.start for token in found[start + 1 :] if token.word in ("offset", "for")), len(sql))
    first = found[start].end
    count = sql[first:end].strip()
    if count.lower() == "all":
        count = "NULL"
    if "--" in count:
        count += "\n"
    return f"{sql[:first]} {_limit(check, count)} {sql[end:]}".rstrip()


def _with_fetch(sql: str, found: Sequence[Token], start: int, check: str) -> str:
    """FETCH FIRST|NEXT [count] ROW|ROWS ONLY|WITH TIES."""
    first = found[start + 1].end
    end = next(token.start for token in found[start + 2 :] if token.word in ("row", "rows"))
    count = sql[first:end].strip() or "1"
    return f"{sql[:first]} ({_limit(check, count)}) {sql[end:]}"
