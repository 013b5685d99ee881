"""The commands around workflows: what a dry run says, a workflow that is paused, goes on, is taken back or cancelled; the doctor puts right what is left."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import psycopg
import pytest

from pgherd.cli import app
from pgherd.deploy.local import LocalCluster
from pgherd.testing.plugin import uris

pytestmark = pytest.mark.timeout(120)
WITHIN_S = 60.0


class Herd:
    """Commands for a cluster. `db` is a connection to its gateway."""

    def __init__(self, cluster: LocalCluster, db: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.cluster, self.db = cluster, db

    def run(self, *words: str, code: int = 0) -> str:
        """All that a command says."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            found = app.run([*words, "--state", str(self.cluster.directory)])
        assert found == code, (words, out.getvalue(), err.getvalue())
        return out.getvalue() + err.getvalue()

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code))

    def ask(self, sql: str) -> Any:
        row = self.db.execute(sql).fetchone()  # type: ignore[arg-type]
        return None if row is None else row[0]

    def shards(self) -> list[tuple[int, int]]:
        """Numbers and groups of the table's shards."""
        return self.db.execute(
            "SELECT s.id, s.group_id FROM pgherd.shards s JOIN pgherd.tables t USING (keyspace) WHERE t.name = 'told' ORDER BY 1"
        ).fetchall()

    def move(self, shard: int, group: int) -> int:
        """Ask for a workflow without waiting; answers its number."""
        self.db.execute(f"CALL pgherd.move({shard}, {group}, offline => false, wait => false)")  # type: ignore[arg-type]
        return int(self.ask("SELECT max(id) FROM pgherd.workflows"))

    def until(self, number: int, state: str) -> dict[str, Any]:
        """The workflow as `pgherd workflows --json` shows it, once it is in a state."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            (row,) = [row for row in self.json("workflows") if row["id"] == number]
            if row["state"] == state:
                return row
            assert time.monotonic() < deadline, row
            time.sleep(0.2)


@pytest.fixture
def herd(embedded_cluster: LocalCluster, gateway: str) -> Iterator[Herd]:
    with psycopg.connect(gateway, autocommit=True) as db:
        db.execute("CREATE TABLE told (id bigint PRIMARY KEY, v int) PARTITION BY RANGE (id)")
        db.execute("INSERT INTO told SELECT n, 0 FROM generate_series(1, 100) n")
        yield Herd(embedded_cluster, db)
        db.execute("DROP TABLE told")


def test_workflows_from_the_command_line(herd: Herd) -> None:
    ((shard, group),) = herd.shards()
    other = (group + 1) % 3
    before = herd.ask("SELECT count(*) FROM pgherd.workflows")
    assert f"group {other}" in herd.run("move", str(shard), str(other), "--dry-run")
    assert f"split: shard {shard} in group {group}" in herd.run("split", "told", "50", "--dry-run")
    assert herd.shards() == [(shard, group)]
    assert herd.ask("SELECT count(*) FROM pgherd.workflows") == before

    number = herd.move(shard, other)
    herd.run("pause", str(number))
    assert herd.until(number, "paused")["wanted"] == "pause"
    assert herd.shards() == [(shard, group)]
    herd.run("resume", str(number))
    assert herd.until(number, "kept")["pause_ms"] > 0
    assert herd.shards() == [(shard, other)]
    herd.db.execute("INSERT INTO told VALUES (1000, 0)")
    herd.run("undo", str(number))
    herd.until(number, "undone")
    assert herd.shards() == [(shard, group)]
    assert herd.ask("SELECT count(*) FROM told") == 101

    number = herd.move(shard, other)
    herd.run("pause", str(number))
    herd.until(number, "paused")
    herd.run("cancel", str(number))
    herd.until(number, "cancelled")
    assert herd.shards() == [(shard, group)]
    assert "cancelled" in herd.run("workflows", "--limit", "1")

    herd.run("split", "told", "50")
    first, second = (number for number, _ in herd.shards())
    assert f"merge: shard {first} in group {group}" in herd.run("merge", str(first), str(second), "--dry-run")
    assert len(herd.shards()) == 2
    herd.run("merge", str(first), str(second))
    assert len(herd.shards()) == 1


def test_the_doctor_puts_right_what_is_left(herd: Herd) -> None:
    """Of workflow 999999, which never was: all that one can leave."""
    cluster = str(herd.ask("SELECT id FROM pgherd.cluster")).replace("-", "")[:10]
    slot = f"pgherd_{cluster}_w999999_1_2"
    with psycopg.connect(uris(herd.cluster)[1], autocommit=True) as db:
        db.execute("CREATE SCHEMA pgherd_w999999s7")
        db.execute("CREATE TABLE pgherd_w999999s7.told (id int)")
        db.execute("SET pgherd.defining = on")
        db.execute("CREATE PUBLICATION pgherd_w999999 FOR TABLE pgherd_w999999s7.told")
        db.execute("INSERT INTO pgherd.applied VALUES ('w999999_1_2', '0/1')")
        db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    planted = {
        ("replication slot", slot),
        ("publication", "pgherd_w999999"),
        ("schema", "pgherd_w999999s7"),
        ("stream record", "w999999_1_2"),
    }
    found = {(row["kind"], row["what"]) for row in herd.json("doctor", code=1) if row["group"] == 1}
    assert planted <= found
    assert slot in herd.run("doctor", "--repair")
    assert "Nothing is left behind" in herd.run("doctor")
