"""Keeps the process that carries workflows out alive, as long as there is one to carry out: a duty of the controller.

It is a process of its own so that copying rows takes nothing from the gateway that serves queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pgherd.catalog.model import GroupId
from pgherd.engine.link import Link
from pgherd.errors import ServerError
from pgherd.transaction.perform import Lender

log = logging.getLogger(__name__)
IDLE_ROUNDS = 10
_WANTED = (
    "SELECT EXISTS (SELECT FROM pgherd.workflows WHERE state IN ('waiting', 'running', 'paused', 'kept') OR memory ? 'strays'),"
    " EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.to_regnamespace('pgherd_veil'))"
)


class WorkflowProcess:
    """`look` once a second; `close` at the end. `told`: what the process must know, see `reshard.__main__`."""

    def __init__(self, lender: Lender, told: Callable[[], Mapping[str, Any]]) -> None:
        self.lender, self.told = lender, told
        self.process: asyncio.subprocess.Process | None = None
        self._idle = 0

    async def look(self) -> None:
        """Start the process if it is wanted and not there; end it when it has had nothing to do for a while."""
        link = await self.lender.lend(GroupId(0))
        try:
            rows = await link.run(_WANTED)
            if any(row[1] in ("t", "true", "True") for row in rows):
                await self._lift(link)
        finally:
            self.lender.give_back(link, reusable=not link.broken)
        wanted = rows[0][0] in ("t", "true", "True")
        self._idle = 0 if wanted else self._idle + 1
        running = self.process is not None and self.process.returncode is None
        if wanted and not running:
            await self._start()
        elif running and self._idle > IDLE_ROUNDS:
            await self.close()

    async def _lift(self, link: Link) -> None:
        """Lift the veils that are old. What hinders that must not hold up workflows."""
        try:
            await link.run("SELECT pgherd.lift_veils()")
        except ServerError as error:
            log.warning("workflows: a veil was not lifted: %s", error)

    async def _start(self) -> None:
        self.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pgherd.reshard",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.told()).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        log.info("workflows: process %s", process.pid)

    async def close(self) -> None:
        """End the process; what it did not finish is taken up later."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(3.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
