"""Patroni's process on a node: Patroni itself, with lower bounds of its times lifted, and the lease written down.

Run as `python -m pgherd.deploy.patroni_main FILE`.

The lease is kept in here because only this process knows when it asked etcd: Patroni's REST API tells whole seconds of
the time after the answer, and goes on answering `leader` for a ttl after a check whose time it does not tell.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pgherd.deploy.lease import Lease

LEAST_TTL_S = 3
STOP_POLL_S = 0.05  # how often it looks whether PostgreSQL has stopped


def main() -> None:
    """Run Patroni with the configuration file that the command line names."""
    from patroni.__main__ import check_psycopg, patroni_main

    configuration = sys.argv[1]
    times = {"ttl": 30}
    _lift_bounds(times)
    _shorten_naps(times)
    _start_postgres_quickly()
    _keep_lease()
    _stand_back_at_first()
    check_psycopg()
    patroni_main(configuration)


def _lift_bounds(times: dict[str, int]) -> None:
    """Let the ttl be less than 20 s, and note it in `times`. What Patroni needs stays: loop_wait + 2 × retry_timeout ≤ ttl."""
    from patroni.config import Config

    def validate(_: Any, config: dict[str, Any]) -> None:
        ttl = max(int(config.get("ttl", 30)), LEAST_TTL_S)
        retry = max(1, min(int(config.get("retry_timeout", 10)), (ttl - 1) // 2))
        loop = max(1, min(int(config.get("loop_wait", 10)), ttl - 2 * retry))
        config.update(ttl=ttl, retry_timeout=retry, loop_wait=loop)
        times["ttl"] = ttl

    Config._validate_and_adjust_timeouts = validate  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]


def _shorten_naps(times: dict[str, int]) -> None:
    """Shorten what a demotion and a leader race wait at fixed places: standbys watch etcd and are there at once.

    A member that does not answer the race for ttl / 8 counts as dead: 2 s would be a third of the time without writes.
    """
    from patroni import ha, postgresql
    from patroni.request import PatroniRequest

    ask: Callable[..., Any] = PatroniRequest.__call__

    def nap(seconds: float) -> None:
        time.sleep(seconds if seconds < 1 else 0.05 if seconds < 2 else 0.5)

    def request(self: PatroniRequest, member: Any, *arguments: Any, **named: Any) -> Any:
        if named.get("timeout") == 2 and named.get("retries") == 0:
            named["timeout"] = min(2.0, times["ttl"] / 8)
        return ask(self, member, *arguments, **named)

    postgresql.STOP_POLLING_INTERVAL = STOP_POLL_S
    ha.time = SimpleNamespace(time=time.time, sleep=nap)  # type: ignore[assignment]  # pyright: ignore
    PatroniRequest.__call__ = request


def _start_postgres_quickly() -> None:
    """Patroni starts PostgreSQL through a child that is a new Python with all of Patroni, only to be no parent of it.

    That costs 0.6 s of CPU, at a failover of all times. A shell does the same: it starts it, tells its pid and ends.
    """
    from patroni.postgresql import postmaster

    context = SimpleNamespace(Pipe=_no_pipe, Process=_Shell)
    postmaster.multiprocessing = SimpleNamespace(get_context=lambda _: context)  # type: ignore[assignment]  # pyright: ignore


class _Shell:
    """Like the process that Patroni makes: `args` are where the pid goes, the command, its environment."""

    def __init__(
        self, target: object, args: tuple[queue.SimpleQueue[int | None], list[str], dict[str, str]]
    ) -> None:
        self._answer, self._command, self._environment = args

    def start(self) -> None:
        """Start the command and tell its pid; None if there is no shell."""
        words = ["/bin/sh", "-c", '"$@" 1>&2 & echo $!', "sh", *self._command]
        done = subprocess.run(
            words,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=False,
        )
        self._answer.put(int(done.stdout) if done.stdout.strip().isdigit() else None)

    def join(self) -> None:
        """It has ended already."""


def _no_pipe(_: bool) -> tuple[SimpleNamespace, queue.SimpleQueue[int | None]]:
    """What both of them talk through."""
    answer: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    return SimpleNamespace(recv=answer.get), answer


def _keep_lease() -> None:
    """Write the lease whenever Patroni learns something about being the leader. See docs/design/004-replicas.md."""
    from patroni.ha import Ha

    session = _watch_session()
    checked = {"at": 0.0}  # when the members were asked that then agreed
    learns: Callable[[Ha, bool], None] = Ha.set_is_leader
    asks: Callable[[Ha], bool] = Ha.check_failsafe_topology

    def check_failsafe_topology(self: Ha) -> bool:
        before = time.time()
        if agreed := asks(self):
            checked["at"] = before
        return agreed

    def set_is_leader(self: Ha, value: bool) -> None:
        learns(self, value)
        lease = Lease(Path(self.state_handler.data_dir))
        if value:
            lease.extend(max(session["at"], checked["at"]) + self.dcs.ttl)
        else:
            lease.end()

    Ha.check_failsafe_topology = check_failsafe_topology
    Ha.set_is_leader = set_is_leader


def _watch_session() -> dict[str, float]:
    """When etcd was asked for the last renewal of this node's session that it granted: the leader's key lives by it."""
    from patroni.dcs.etcd3 import Etcd3Client

    asked = {"at": 0.0}
    grant: Callable[..., str] = Etcd3Client.lease_grant
    keep: Callable[..., str | None] = Etcd3Client.lease_keepalive

    def lease_grant(self: Etcd3Client, *arguments: Any, **named: Any) -> str:
        before = time.time()
        answer = grant(self, *arguments, **named)
        asked["at"] = before
        return answer

    def lease_keepalive(self: Etcd3Client, *arguments: Any, **named: Any) -> str | None:
        before = time.time()
        if answer := keep(self, *arguments, **named):
            asked["at"] = before
        return answer

    Etcd3Client.lease_grant = lease_grant
    Etcd3Client.lease_keepalive = lease_keepalive
    return asked


def _stand_back_at_first() -> None:
    """For a ttl after its start a standby does not run for primary, if failsafe mode may keep another one in place.

    A primary that cannot reach etcd goes on for a ttl after all members agreed; that this member did is forgotten with
    its process.
    """
    from patroni.ha import Ha

    started = time.monotonic()
    healthiest: Callable[[Ha], bool] = Ha.is_healthiest_node

    def is_healthiest_node(self: Ha) -> bool:
        young = time.monotonic() - started < self.dcs.ttl
        leader = self.cluster.sync.leader
        if young and self.dcs.failsafe and leader not in (None, self.state_handler.name):
            return False
        return healthiest(self)

    Ha.is_healthiest_node = is_healthiest_node


if __name__ == "__main__":
    os.chdir("/")
    main()
