"""Shards that split, move and merge by themselves: a duty of the controller. It reads, lets `balance.decide` decide, and records workflows."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from pgherd.balance.assemble import Seen, log_rows, picture
from pgherd.balance.decide import decide
from pgherd.balance.decision import Decision, Nothing
from pgherd.balance.memory import Memory, Round
from pgherd.catalog.ddl.change import dumps
from pgherd.catalog.model import GroupId
from pgherd.elastic.beginning import begin
from pgherd.elastic.reading import HOME, measured, read, sampled
from pgherd.engine.link import Row
from pgherd.errors import PgherdError
from pgherd.transaction import recovery
from pgherd.transaction.perform import Lender

log = logging.getLogger(__name__)
ANSWER_S: Final = 10.0
CLEANED_S: Final = 600.0


class Balancer:
    """`look` once a second; a round of decisions as often as the setting `round` says. `lender` lends a superuser's connections."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.memory = Memory()
        self.seen: Seen | None = None
        self._due_s = 0.0
        self._cleaned_s = 0.0

    async def look(self) -> None:
        """A round when one is due. Raises PgherdError, OSError or TimeoutError if group 0 does not answer."""
        now = time.monotonic()
        if now < self._due_s:
            return
        self._due_s = now + (self.seen.rules.round_s if self.seen is not None else 1.0)
        await self.round()
        assert self.seen is not None
        self._due_s = now + self.seen.rules.round_s
        if now > self._cleaned_s + CLEANED_S:
            self._cleaned_s = now
            await self._ask(HOME, "SELECT pgherd.clean_decisions()")

    async def round(self) -> Round:
        """Read, decide, record workflows, write the log."""
        self.seen = seen = await read(self._ask, self.seen)
        made = decide(picture(seen), self.memory)
        if made.actions and seen.disks_s < seen.now_s:
            self.seen = seen = await measured(self._ask, seen)
            made = decide(picture(seen), self.memory)
        rows = [row for decision in made.news if (row := await self._done(decision, seen)) is not None]
        if rows:
            await self._ask(HOME, f"SELECT pgherd.log_decisions({dumps(rows)})")
        await self._ask(HOME, "SELECT pgherd.log_failures()")
        self.memory = made.memory  # kept only now: what could not be written is news in the next round
        self.seen = await sampled(self._ask, seen, made.nothings)
        return made

    async def _done(self, decision: Decision, seen: Seen) -> dict[str, Any] | None:
        """Do what was decided. Answers what is to be logged about it yet: that there was nothing to do, or that it was hindered."""
        rules = seen.rules
        names = {keyspace.id: keyspace.name for keyspace in seen.cluster.keyspaces.values()}
        row = log_rows([decision], names)[0]
        if isinstance(decision, Nothing):
            return row
        if not rules.balancing and decision.code != "drain":
            return None
        try:
            number = await begin(
                self._ask, decision, seen.cluster, {"origin": "controller", "keep_for_s": rules.keep_for_s}
            )
        except PgherdError as error:
            log.info("balance: %s of shard %s was not begun: %s", decision.kind, decision.shard, error)
            return row | {
                "kind": "nothing",
                "code": "not_begun",
                "reason": f"{row['reason']}. It was not begun: {error.message}",
            }
        log.info(
            "balance: workflow %s, %s of shard %s: %s",
            number,
            decision.kind,
            decision.shard,
            decision.reason,
        )
        return None

    async def _ask(self, group: GroupId, sql: str) -> list[Row]:
        return await recovery.ask(self.lender, group, sql, ANSWER_S)
