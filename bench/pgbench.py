"""pgbench as a contestant: a custom script, any protocol mode, any address."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.contest import Turn
from pgherd.deploy import binaries

Mode = Literal["simple", "extended", "prepared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A pgbench script in a file; `rows` is its :rows."""

    path: Path
    rows: int
    clients: int

    def at(self, uri: str, mode: Mode) -> Callable[[float], Awaitable[Turn]]:
        """What runs it against `uri` for so many seconds."""

        async def turn(seconds: float) -> Turn:
            return self._run(uri, mode, seconds)

        return turn

    def _run(self, uri: str, mode: Mode, seconds: float) -> Turn:
        whole = max(1, round(seconds))  # pgbench's -T takes whole seconds
        process = subprocess.Popen(
            [
                *(binaries.find().path("pgbench"), "-n", "-M", mode, "-c", str(self.clients), "-j", "2"),
                *("-T", str(whole), "-D", f"rows={self.rows}", "-f", self.path, uri),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stderr is not None
        out = process.stdout.read()
        err = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done = re.search(r"transactions actually processed: (\d+)", out)
        rate = re.search(r"^tps = ([\d.]+)", out, re.MULTILINE)
        failed = re.search(r"number of failed transactions: (\d+)", out)
        if process.returncode or done is None or rate is None or (failed and int(failed[1])):
            raise RuntimeError(f"pgbench -M {mode} failed: {(err or out).strip()[-500:]}")
        count = int(done[1])
        return Turn(
            count=count,
            seconds=count / float(rate[1]),
            cpu={"client": usage.ru_utime + usage.ru_stime},
        )
