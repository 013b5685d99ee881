"""The demonstration, small: it tells its story, tells it again on the same cluster, leaves that up, and fails in one line."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard

PEOPLE = 10_000


def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pgherd.demo", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def directory(yard: Yard) -> Iterator[Path]:
    directory = yard.directory / "demo"
    yield directory
    LocalCluster(directory).kill()


@pytest.fixture(scope="module")
def story(yard: Yard, directory: Path) -> str:
    """What the first run printed."""
    words = ("--people", str(PEOPLE), "--embedded", "--state", str(directory), "--port", str(yard.port()))
    return run(*words).stdout


def test_the_story_is_told_to_its_end(story: str) -> None:
    chapters = re.findall(r"^(\S.*?) ─+$", story, re.MULTILINE)
    assert chapters[0] == "One server"
    assert chapters[-1] == "Your turn"
    assert len(chapters) == 8
    assert f"{PEOPLE:,}  2024-" in story  # the count over both groups
    assert "Route: Single" in story
    assert "Gather: " in story
    assert "Federated: " in story
    assert "earlier run" not in story


def test_transfers_span_both_groups_and_no_report_saw_half_of_one(story: str) -> None:
    assert "committed" in story
    assert 'violates check constraint "people_credit_check"' in story
    head, numbers = re.findall(r"^ +transfers .*\n.*$", story, re.MULTILINE)[0].splitlines()
    assert head.endswith("sums that the reports saw")
    transfers, across, _, reports, total = (int(number.replace(",", "")) for number in numbers.split())
    assert 0 < across <= transfers
    assert reports > 0
    assert total == 100 * PEOPLE


def test_the_cluster_stays_up_and_the_story_can_be_told_again(story: str, directory: Path) -> None:
    dsn = re.findall(r"postgresql://\S+", story)[0]

    async def shards(own: str) -> set[int]:
        connection = await asyncpg.connect(dsn)
        try:
            assert await connection.fetchval("SELECT count(*) FROM people") == PEOPLE
            await connection.execute(own)
            return {row[0] for row in await connection.fetch("SELECT id FROM pgherd.shards")}
        finally:
            await connection.close()

    before = asyncio.run(shards("CREATE TABLE mine (id integer)"))
    again = run("--people", str(PEOPLE), "--state", str(directory)).stdout
    assert "earlier run" in again
    assert dsn in again
    after = asyncio.run(shards("TABLE mine"))  # what was made in it stays
    assert len(after) == len(before) == 2
    assert not before & after


def test_errors_are_one_line_and_what_to_do(yard: Yard) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--embedded", "--state", str(yard.directory / "demo-no"), "--port", str(port), code=1)
    message, hint = done.stderr.splitlines()
    assert message.startswith(f"pgherd demo: port {port}")
    assert hint.startswith("hint: ")
    assert "at least" in run("--people", "5", code=2).stderr
