"""The demonstration, small: it tells its story, shows a split and a move that happen by themselves, tells it again on the same cluster,
leaves that up, and fails in one line."""

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
        timeout=300,
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
    assert len(chapters) == 11
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


def test_a_busy_shard_splits_by_itself_and_a_new_group_gets_its_part(story: str) -> None:
    begun = re.findall(r"(split|move) \(workflow \d+\) begins: (.*)$", story, re.MULTILINE)
    assert begun[0][0] == "split"
    assert begun[-1][0] == "move"
    assert begun[-1][1].endswith("(group 2)")
    assert re.search(r"split \(workflow \d+\) is in use", story)
    before, _, after = zip(*(parts(story, f"group {group}") for group in range(3)), strict=True)
    assert max(before) > 60
    assert before[2] == 0
    assert after[2] > 0
    assert max(after) <= 55  # it waits for 50, and measures again
    assert re.search(r"to_balance|too_hot", story)
    assert re.search(r"shard \d+ split \((to_balance|too_hot), workflow \d+\)", story)  # pgherd why


def parts(story: str, label: str) -> list[int]:
    """A group's part of the statements at the three measurements, in percent."""
    found = re.search(rf"^ +{label} +(\d+) % +(\d+) % +(\d+) % *$", story, re.MULTILINE)
    assert found is not None, story
    return [int(number) for number in found.groups()]


def test_no_statement_failed_and_every_write_is_there_once(story: str) -> None:
    text = " ".join(story.split())
    counts = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) statements, 0 failed", text)]
    assert len(counts) >= 4
    assert counts == sorted(counts)
    assert counts[-1] > 500
    assert " failed: " not in text
    assert not re.search(r"statements, [1-9]\d* failed", text)
    coupons, more = re.search(r"cashed in ([\d,]+) coupons.* now: ([\d,]+) more", text).groups()  # type: ignore[union-attr]
    assert coupons == more


def test_the_cluster_stays_up_and_the_story_can_be_told_again(story: str, directory: Path) -> None:
    dsn = re.findall(r"postgresql://\S+", story)[0]

    async def shards(own: str) -> set[int]:
        """The shards' numbers; balancing has its usual settings again."""
        connection = await asyncpg.connect(dsn)
        try:
            assert await connection.fetchval("SELECT count(*) FROM people") == PEOPLE
            assert await connection.fetchval("SELECT count(*) FROM pgherd.balance_settings") == 0
            await connection.execute(own)
            return {row[0] for row in await connection.fetch("SELECT id FROM pgherd.shards")}
        finally:
            await connection.close()

    before = asyncio.run(shards("CREATE TABLE mine (id integer)"))
    again = run("--people", str(PEOPLE), "--state", str(directory)).stdout
    assert "earlier run, and has none of these rows yet" in again or "the split has used it already" in again
    assert dsn in again
    after = asyncio.run(shards("TABLE mine"))  # what was made in it stays
    assert len(after) == len(before) == 3
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
