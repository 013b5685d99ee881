"""Applies batches to the staged tables of one group: with each, in the same transaction, how far the stream has come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice

from pgherd.backend.connection import ServerLink
from pgherd.catalog.text import identifier, literal
from pgherd.errors import Refused
from pgherd.reshard.batch import Batch, Key, copy_lines
from pgherd.reshard.pgoutput import UNCHANGED, Relation
from pgherd.reshard.replication import lsn_text
from pgherd.reshard.tables import CopiedTable

KEYS_AT_ONCE = 1000
SETTINGS = (
    "SET session_replication_role = replica; SET synchronous_commit = on; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET enable_material = off; SET application_name = 'pgherd workflow'"
)


class Target:
    """One source table's changes on their way into `root`. `condition`: the rows of this source, where several share a root.

    `elsewhere`: other groups take some of the source's rows; what is theirs comes here as well, and the root forgets it.
    """

    def __init__(
        self, relation: Relation, table: CopiedTable, root: str, *, condition: str | None, elsewhere: bool
    ) -> None:
        self.relation, self.root, self.condition, self.elsewhere = relation, root, condition, elsewhere
        self.names = ", ".join(identifier(name) for name in relation.columns)
        self.types = dict(table.columns)
        names = table.key if relation.full else tuple(relation.columns[at] for at in relation.key)
        if not names or any(name not in self.types for name in relation.columns):
            raise Refused(
                f"table {table.shown} has changed, or has no key by which its rows could be told apart"
            )
        self.key = names
        self.batch = Batch(key=tuple(relation.columns.index(name) for name in names))

    def deletes(self) -> list[str]:
        """The statements that delete the rows whose keys are gone."""
        keys = iter(self.batch.gone)
        texts: list[str] = []
        while part := list(islice(keys, KEYS_AT_ONCE)):
            texts.append(f"DELETE FROM {self.root} t USING {self._keys(part)} WHERE {self._match()}")
        return texts

    def _keys(self, keys: Iterable[Key]) -> str:
        rows = ", ".join("(" + ", ".join(map(_literal, key)) + ")" for key in keys)
        return f"(VALUES {rows}) AS k ({', '.join(f'k{at}' for at in range(len(self.key)))})"

    def _match(self) -> str:
        return " AND ".join(
            f"t.{identifier(name)} = k.k{at}::{self.types[name]}" for at, name in enumerate(self.key)
        )

    async def complete(self, link: ServerLink) -> None:
        """Fetch the large values that updates left alone from the rows as they are here."""
        batch = self.batch
        wanted = dict(batch.partial)
        columns = ", ".join(f"t.{identifier(name)}::text" for name in self.relation.columns)
        for after, before in wanted.items():
            rows = await link.run(
                f"SELECT {columns} FROM {self.root} t, {self._keys([before])} WHERE {self._match()}"
            )
            if not rows and self.elsewhere and after == before:
                del batch.rows[after]  # a row of another group: it was never here
                continue
            if not rows:
                raise Refused(
                    f"a row of {self.root} that was updated is not there",
                    hint="The copy is wrong; it is made again.",
                )
            batch.rows[after] = tuple(
                value if value is not UNCHANGED else None if text is None else text.encode()
                for value, text in zip(batch.rows[after], rows[0], strict=True)
            )
        batch.partial.clear()

    def truncation(self) -> str:
        """The statement that empties it."""
        return (
            f"TRUNCATE {self.root}"
            if self.condition is None
            else f"DELETE FROM {self.root} WHERE {self.condition}"
        )


def _literal(value: bytes | None) -> str:
    return literal(None if value is None else value.decode())


class Applier:
    """See the module. `open`: a transaction is under way in the target. Used by one task."""

    def __init__(self, link: ServerLink, stream: str) -> None:
        self.link, self.stream = link, stream
        self.targets: dict[int, Target] = {}
        self.open = False
        self.rows = 0

    @classmethod
    async def begin(cls, link: ServerLink, stream: str) -> tuple[Applier, int]:
        """The applier, and the position up to which (inclusive) the stream's transactions have been applied."""
        await link.do(SETTINGS)
        rows = await link.run(
            f"SELECT lsn - '0/0'::pg_lsn FROM pgherd.applied WHERE stream = {literal(stream)}"
        )
        return cls(link, stream), int(rows[0][0] or 0) if rows else 0

    @property
    def size(self) -> int:
        """Changes that wait to be written."""
        return sum(target.batch.size for target in self.targets.values())

    async def truncate(self, relations: Iterable[int]) -> None:
        """Empty tables, in order with what came before."""
        texts = [self.targets[number].truncation() for number in relations if number in self.targets]
        if texts:
            await self.flush(None)
            await self.link.do("; ".join(texts))

    async def flush(self, lsn: int | None) -> None:
        """Write what waits; with `lsn`, the last transaction that is complete, commit it too."""
        busy = [target for target in self.targets.values() if not target.batch.empty]
        begin = [] if self.open else ["BEGIN"]
        done = [] if lsn is None else [
            f"UPDATE pgherd.applied SET lsn = '{lsn_text(lsn)}' WHERE stream = {literal(self.stream)}", "COMMIT"
        ]  # fmt: skip
        if not busy and not self.open and lsn is None:
            await self.link.do("BEGIN")
            self.open = True
            return
        if any(target.batch.partial for target in busy):
            await self.link.do("; ".join([*begin, "SELECT"]))
            begin = []
            for target in busy:
                await target.complete(self.link)
        await self._write(busy, begin, done)
        self.open = lsn is None
        for target in busy:
            self.rows += target.batch.size
            target.batch.clear()

    async def _write(self, busy: list[Target], begin: list[str], done: list[str]) -> None:
        texts = [*begin, *(text for target in busy for text in target.deletes())]
        coming = [target for target in busy if target.batch.rows]
        if not coming:
            if texts or done:
                await self.link.do("; ".join([*texts, *done]))
            return
        if texts:
            await self.link.do("; ".join(texts))
        for target in coming:
            data = copy_lines(target.batch.rows.values())
            await self.link.copy_in(f"COPY {target.root} ({target.names}) FROM STDIN", _once(data))
        if done:
            await self.link.do("; ".join(done))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
