"""Shards that split, move and merge by themselves: a duty of the controller. It reads, lets `balance.decide` decide, and records workflows."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from pgherd.balance import facts
from pgherd.balance.assemble import Seen, log_rows, picture
from pgherd.balance.decide import decide
from pgherd.balance.decision import Action, Merge, Move, Nothing, Split
from pgherd.balance.memory import Memory, Round
from pgherd.catalog import keys, store
from pgherd.catalog.model import ClusterMap, GroupId, Keyspace, ShardId
from pgherd.catalog.text import literal
from pgherd.errors import PgherdError
from pgherd.reshard.model import Piece, pieces_text
from pgherd.transaction.perform import Lender

log = logging.getLogger(__name__)
EVERY_S: Final = 10.0
ANSWER_S: Final = 10.0


def wish(action: Action, pieces: Sequence[Piece], keyspace: Keyspace) -> tuple[tuple[Piece, ...], bool]:
    """The shards after an action, and whether they get new numbers. `pieces`: those before, the left one first."""
    one = pieces[0]
    match action:
        case Move():
            return (replace(one, group=action.to_group),), False
        case Merge() if one.strategy == "hash":
            return (replace(one, id=ShardId(0), modulus=(one.modulus or 2) // 2),), True
        case Merge():
            return (replace(one, id=ShardId(0), range_end=pieces[1].range_end),), True
        case Split(at=None):
            modulus, remainder = one.modulus or 1, one.remainder or 0
            right = replace(one, modulus=2 * modulus, remainder=remainder + modulus, group=action.to_group)
            return (replace(one, modulus=2 * modulus), right), True
        case Split():
            at = tuple(
                keys.encode_text(kind, part)
                for kind, part in zip(keyspace.key_types, action.at or (), strict=False)
            )
            return (replace(one, range_end=at), replace(one, range_start=at, group=action.to_group)), True


class Balancer:
    """`look` once a second; a round of decisions every `every_s`. `lender` lends a superuser's connections."""

    def __init__(self, lender: Lender, every_s: float = EVERY_S) -> None:
        self.lender, self.every_s = lender, every_s
        self.memory = Memory()
        self.seen: Seen | None = None
        self._due_s = 0.0

    async def look(self) -> None:
        """A round when one is due. Raises PgherdError, OSError or TimeoutError if group 0 does not answer."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + self.every_s
            await self.round()

    async def round(self) -> Round:
        """Read, decide, record workflows, write the log."""
        self.seen = seen = await self._read()
        made = decide(picture(seen), self.memory)
        self.memory = made.memory
        names = {keyspace.id: keyspace.name for keyspace in seen.cluster.keyspaces.values()}
        rows: list[dict[str, Any]] = []
        for decision in made.news:
            row = log_rows([decision], names)[0]
            if not isinstance(decision, Nothing):
                begun = await self._begin(decision, seen.cluster)
                if isinstance(begun, int):
                    row["workflow"] = begun
                else:
                    row |= {"kind": "nothing", "reason": f"{row['reason']}. It was not begun: {begun}"}
            rows.append(row)
        if rows:
            await self._ask(GroupId(0), f"SELECT pgherd.log_decisions({literal(json.dumps(rows))}::jsonb)")
        wanted = [n for n in made.nothings if isinstance(n, Nothing) and n.code == "no_sample"]
        self.seen = await self._sampled(seen, wanted[:8])
        return made

    async def _ask(self, group: GroupId, sql: str) -> list[tuple[str | None, ...]]:
        link = await self.lender.lend(group)
        try:
            async with asyncio.timeout(ANSWER_S):
                return [tuple(row) for row in await link.run(sql)]
        finally:
            self.lender.give_back(link, reusable=not link.broken)

    async def _read(self) -> Seen:
        found = json.loads((await self._ask(GroupId(0), "SELECT pgherd.balance_facts()"))[0][0] or "{}")
        cluster = store.parse_map((await self._ask(GroupId(0), "SELECT pgherd.map()"))[0][0] or "{}")
        groups = list(cluster.groups)
        answers = await asyncio.gather(*map(self._sizes, groups), return_exceptions=True)
        sizes: list[tuple[int, int, int]] = []
        unreachable: set[GroupId] = set()
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, PgherdError | OSError | TimeoutError):
                unreachable.add(group)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                sizes += answer
        return facts.seen(found, cluster, sizes, self.seen, frozenset(unreachable))

    async def _sizes(self, group: GroupId) -> list[tuple[int, int, int]]:
        rows = await self._ask(group, "SELECT * FROM pgherd.shard_sizes()")
        return [(int(row[0] or 0), int(row[1] or 0), int(row[2] or 0)) for row in rows]

    async def _begin(self, action: Action, cluster: ClusterMap) -> int | str:
        """Record the workflow; answers its number, or why it cannot be: somebody else was quicker."""
        ids = (action.shard, action.right) if isinstance(action, Merge) else (action.shard,)
        listed = ", ".join(str(int(shard)) for shard in ids)
        try:
            rows = await self._ask(
                GroupId(0),
                f"SELECT to_jsonb(s) FROM pgherd.shards s WHERE id IN ({listed}) ORDER BY id = {ids[0]} DESC",
            )
            pieces = tuple(Piece.read(json.loads(row[0] or "{}")) for row in rows)
            if len(pieces) != len(ids):
                return "the shard is no more"
            new, number = wish(action, pieces, cluster.keyspaces[action.keyspace])
            rows = await self._ask(
                GroupId(0),
                f"SELECT pgherd.request_workflow({literal(action.kind)}, {literal(pieces[0].keyspace)}, {pieces_text(pieces)},"
                f" {pieces_text(new)}, '{{}}', {str(number).lower()})",
            )
            return int(rows[0][0] or 0)
        except PgherdError as error:
            log.info("balance: %s of shard %s was not begun: %s", action.kind, action.shard, error)
            return error.message

    async def _sampled(self, seen: Seen, wanted: Sequence[Nothing]) -> Seen:
        """The same with samples of rows for shards that are too large and of which no key is known."""
        if not wanted:
            return seen
        samples = dict(seen.row_samples)
        for nothing in wanted:
            assert nothing.shard is not None and nothing.group is not None and nothing.keyspace is not None
            types = seen.cluster.keyspaces[nothing.keyspace].key_types
            rows = await self._ask(nothing.group, f"SELECT pgherd.shard_sample({int(nothing.shard)})")
            samples[nothing.shard] = facts.row_sample(json.loads(rows[0][0] or "[]"), types)
        return replace(seen, row_samples=samples)
