"""The command line on a real cluster: it starts, answers, stops, survives kill -9, and says clearly what is wrong."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import pytest

from pgherd.cli import app
from pgherd.deploy import processes, state
from pgherd.deploy.local import LocalCluster
from pgherd.testing.servers import Yard

T = TypeVar("T")

PGHERD = [sys.executable, "-c", "from pgherd.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


@dataclass
class Shell:
    """Runs `pgherd` with a state directory of its own: in this process, which is faster, but for `psql`, which replaces it."""

    directory: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, code: int = 0, given: str | None = None) -> Done:
        environment = os.environ | {"PGHERD_STATE": str(self.directory)} | self.environment
        if words[0] == "psql":
            done = subprocess.run(
                [*PGHERD, *words],
                capture_output=True,
                text=True,
                env=environment,
                input=given,
                check=False,
                timeout=60,
            )
            returned, said = done.returncode, Done(done.stdout, done.stderr)
        else:
            with (
                patch.dict(os.environ, environment),
                redirect_stdout(io.StringIO()) as out,
                redirect_stderr(io.StringIO()) as err,
            ):
                returned = app.run(words)
            said = Done(out.getvalue(), err.getvalue())
        log = self.directory / "gateway.log"
        last = log.read_text()[-2000:] if log.is_file() else ""
        assert returned == code, f"{words}: exit {returned}\n{said.stdout}\n{said.stderr}\n{last}"
        assert "Traceback" not in said.stderr + said.stdout
        return said

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def error(self, *words: str, code: int = 1) -> tuple[str, str]:
        """The one line on stderr and the hint below it."""
        lines = self.run(*words, code=code).stderr.splitlines()
        assert len(lines) == 2, lines
        assert lines[0].startswith("pgherd: ")
        assert lines[1].startswith("hint: ")
        return lines[0].removeprefix("pgherd: "), lines[1].removeprefix("hint: ")

    def pids(self) -> list[int]:
        parts = LocalCluster(self.directory).parts(LocalCluster(self.directory).existing())
        return [part.pid for part in parts if part.pid is not None]


@pytest.fixture(scope="module")
def shell(yard: Yard) -> Iterator[Shell]:
    """A running embedded cluster with two groups."""
    shell = Shell(yard.directory / "cli", yard.port())
    shell.run("up", "--embedded", "--groups", "2", "--port", str(shell.port), "--detach")
    yield shell
    LocalCluster(shell.directory).kill()


@pytest.fixture
def blank(yard: Yard, request: pytest.FixtureRequest) -> Iterator[Shell]:
    """No cluster yet."""
    shell = Shell(yard.directory / f"cli-{abs(hash(request.node.name)) % 10**6}", yard.port())
    yield shell
    if (shell.directory / state.FILE).exists():
        LocalCluster(shell.directory).down()  # a foreground up that a failed test left behind ends, too


def test_status_names_every_process(shell: Shell) -> None:
    answer = shell.json("status")
    assert answer["running"] is True
    assert answer["dsn"] == f"postgresql://postgres@127.0.0.1:{shell.port}/pgherd"
    assert [part["name"] for part in answer["parts"]] == ["server_0", "gateway"]
    assert [group["database"] for group in answer["groups"]] == ["pgherd", "pgherd_1"]
    people = shell.run("status").stdout
    assert people.startswith("running: postgresql://")
    assert str(answer["parts"][0]["pid"]) in people


def test_up_on_a_running_cluster_says_so(shell: Shell) -> None:
    before = shell.pids()
    assert shell.json("up")["already_running"] is True
    assert "is already running" in shell.run("up").stdout  # does not stay in the foreground
    assert shell.pids() == before


def test_what_a_cluster_is_made_as_stays(shell: Shell) -> None:
    message, hint = shell.error("up", "--groups", "3")
    assert message == "the cluster exists already, with groups 2 instead of 3"
    assert "--state" in hint
    message, hint = shell.error("up", "--port", str(shell.port + 1))
    assert "runs already" in message
    assert "pgherd down" in hint


def test_psql_talks_to_the_gateway(shell: Shell) -> None:
    assert shell.run("psql", "-XAtc", "SELECT 6 * 7").stdout == "42\n"
    assert shell.run("psql", "-XAt", given="SELECT 1 AS one;\n").stdout == "1\n"


def test_shards_move_between_groups_and_are_measured(shell: Shell) -> None:
    shell.run(
        "psql", "-Xqc", "CREATE TABLE people (last_name text, id bigint) PARTITION BY RANGE (last_name)"
    )
    shell.run("split", "people", "N")
    lines = shell.json("shards", "people")
    assert [line["holds"] for line in lines] == ["-∞ … N", "N … +∞"]
    shell.run("move", str(lines[1]["shard"]), "1")
    shell.run("psql", "-Xqc", "INSERT INTO people VALUES ('Adams', 1), ('Baker', 2), ('Young', 3)")
    lines = shell.json("shards", "people")
    assert [(line["group"], line["rows"], line["exact"]) for line in lines] == [(0, 2, True), (1, 1, True)]
    assert all(line["bytes"] > 0 for line in lines)
    people = shell.run("shards").stdout
    assert re.search(r"people +\d+ +N … \+∞ +1 +1 ", people)


def test_a_hash_table_and_a_reference_table(shell: Shell) -> None:
    shell.run("psql", "-Xqc", "CREATE TABLE orders (id bigint PRIMARY KEY, what text)")
    shell.run("psql", "-Xqc", "INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 100) n")
    shell.run("distribute", "orders", "--by", "hash", "--key", "id")
    lines = shell.json("shards", "orders", "--exact")
    assert sum(line["rows"] for line in lines) == 100
    assert {line["group"] for line in lines} == {0, 1}
    shell.run("psql", "-Xqc", "CREATE TABLE countries (code text PRIMARY KEY)")
    shell.run("reference", "countries")
    kinds = shell.run("psql", "-XAtc", "SELECT kind FROM pgherd.tables WHERE name = 'countries'").stdout
    assert kinds == "reference\n"


def test_explain_shows_the_route(shell: Shell) -> None:
    shell.run("psql", "-Xqc", "CREATE TABLE stars (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
    answer = shell.json("explain", "SELECT * FROM stars WHERE id = 7")
    assert answer["route"] == "Single"
    assert len(answer["parts"]) == 1
    assert f"shard_{answer['parts'][0]['shard']}.stars" in answer["parts"][0]["sql"]
    assert "route  Single" in shell.run("explain", "SELECT * FROM stars WHERE id = 7").stdout
    message, _ = Shell(shell.directory, shell.port).run("explain", "SELEC 1", code=1).stderr.split("\n", 1)
    assert message == 'pgherd: syntax error at or near "SELEC" (SQLSTATE 42601)'


def test_unknown_table_names_the_known_ones(shell: Shell) -> None:
    message, hint = shell.error("shards", "nowhere")
    assert message == "there is no distributed table nowhere"
    assert hint.startswith("Distributed tables: ")


def test_everything_killed_and_up_again_keeps_the_rows(shell: Shell) -> None:
    shell.run("psql", "-Xqc", "CREATE TABLE kept (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
    shell.run("psql", "-Xqc", "INSERT INTO kept SELECT generate_series(1, 50)")
    dsn, pids = shell.json("status")["dsn"], shell.pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert processes.wait_gone(pids, 10)
    assert shell.json("status", code=3)["running"] is False
    shell.run("up", "--detach")
    assert shell.json("status")["dsn"] == dsn
    assert shell.run("psql", "-XAtc", "SELECT count(*) FROM kept").stdout == "50\n"


def test_a_dead_gateway_alone_is_started_again(shell: Shell) -> None:
    *servers, gateway = shell.pids()
    os.kill(gateway, signal.SIGKILL)
    assert processes.wait_gone([gateway], 10)
    message, hint = shell.error("split", "people", "T")
    assert message == f"the gateway does not answer at 127.0.0.1:{shell.port}"
    assert "pgherd up" in hint
    assert shell.json("up", "--detach")["already_running"] is False
    assert shell.pids()[:-1] == servers


def test_down_loses_nothing_and_may_be_repeated(shell: Shell) -> None:
    shell.run("psql", "-Xqc", "CREATE TABLE lasting (a int); INSERT INTO lasting VALUES (5)")
    pids = shell.pids()
    os.kill(pids[-1], signal.SIGKILL)  # the gateway is dead already
    assert shell.json("down")["stopped"] is True
    assert not any(processes.alive(pid) for pid in pids)
    assert shell.json("down")["stopped"] is False
    assert "not running" in shell.run("status", code=3).stdout
    assert "pgherd up" in shell.error("shards")[1]
    shell.run("up", "--detach")
    assert shell.run("psql", "-XAtc", "SELECT a FROM lasting").stdout == "5\n"


def _foreground(shell: Shell) -> subprocess.Popen[str]:
    """`pgherd up` without --detach, when it has said that it runs."""
    environment = os.environ | {"PGHERD_STATE": str(shell.directory)}
    words = [*PGHERD, "up", "--embedded", "--port", str(shell.port)]
    up = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert up.stdout is not None
    assert up.stderr is not None
    while "Try next" not in (line := up.stdout.readline()):
        assert line or up.poll() is None, up.stderr.read()
    assert up.stderr.readline() == "Ctrl-C stops it.\n"
    return up


def _ended(up: subprocess.Popen[str]) -> str:
    """What it said on stderr, when it has ended."""
    try:
        return up.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        up.kill()
        raise AssertionError(f"it does not end; it said: {up.communicate()}") from None


def test_in_the_foreground_it_revives_what_dies_until_ctrl_c(blank: Shell) -> None:
    up = _foreground(blank)
    *servers, gateway = blank.pids()
    os.kill(gateway, signal.SIGKILL)
    assert up.stderr is not None
    assert up.stderr.readline() == "gateway ended: starting again\n"
    answers = until(lambda: blank.pids() if len(blank.pids()) == 2 else None)
    assert answers[:-1] == servers
    assert answers[-1] != gateway
    up.send_signal(signal.SIGINT)
    said = _ended(up)
    assert (up.returncode, said) == (0, "stopping …\n")
    assert not any(processes.alive(pid) for pid in answers)
    up = _foreground(blank)
    blank.run("down")
    said = _ended(up)
    assert (up.returncode, said) == (0, "stopped by another command\n")


def until(found: Callable[[], T | None], within_s: float = 60.0) -> T:
    """What `found` answers as soon as it is not None."""
    deadline = time.monotonic() + within_s
    while (answer := found()) is None:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return answer


def test_a_port_in_use(blank: Shell) -> None:
    with socket.create_server(("127.0.0.1", blank.port)):
        message, hint = blank.error("up", "--embedded", "--port", str(blank.port), "--detach")
    assert message.startswith(f"port {blank.port}, which the gateway needs, is in use")
    assert "--port" in hint


def test_no_cluster_here(blank: Shell) -> None:
    for command in (
        "down",
        "status",
        "shards",
        "psql",
    ):  # psql is a process of its own: its errors look the same
        message, hint = blank.error(command)
        assert message == f"there is no cluster in {blank.directory}"
        assert "pgherd up" in hint


def test_a_state_directory_of_another_layout(blank: Shell) -> None:
    blank.directory.mkdir()
    (blank.directory / state.FILE).write_text('{"layout": 99, "version": "9.0"}')
    message, hint = blank.error("up")
    assert message.endswith("has layout 99 (of pgherd 9.0), but this pgherd knows layout 1")
    assert "--state" in hint
    (blank.directory / state.FILE).write_text("{")
    assert "is damaged" in blank.error("status")[0]
    (blank.directory / state.FILE).unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_state_directory_of_another_user(blank: Shell) -> None:
    blank.directory.mkdir()
    (blank.directory / state.FILE).write_text("{}")
    os.chown(blank.directory / state.FILE, 65534, 65534)
    message, hint = blank.error("up")
    assert message == f"the state directory {blank.directory} belongs to another user, nobody"
    assert hint.startswith("Run the command as nobody")
    (blank.directory / state.FILE).unlink()


def test_a_state_directory_that_is_a_file(blank: Shell) -> None:
    blank.directory.write_text("")
    assert "cannot be used" in blank.error("up")[0]
    blank.directory.unlink()


def test_two_commands_at_once(blank: Shell) -> None:
    blank.directory.mkdir()
    with state.locked(blank.directory):
        message, _ = blank.error("up")
    assert message == f"another pgherd command is working on {blank.directory}"


def test_not_beyond_loopback_without_passwords(blank: Shell) -> None:
    message, hint = blank.error("up", "--listen", "0.0.0.0")
    assert message == "refusing to listen on 0.0.0.0 without authentication"
    assert "--auth scram" in hint


def test_wrong_usage_has_exit_code_2(blank: Shell) -> None:
    for words in (["nonsense"], ["up", "--groups", "none"], ["split"], ["shards", "--nonsense"]):
        assert blank.run(*words, code=2).stderr


def test_version(blank: Shell) -> None:
    answer = blank.json("version")
    assert answer["postgresql"].startswith("18.")
    assert blank.run("version").stdout.startswith(
        f"pgherd {answer['pgherd']}, PostgreSQL {answer['postgresql']}"
    )


def test_scram_with_a_server_for_each_group(blank: Shell) -> None:
    blank.run("up", "--auth", "scram", "--port", str(blank.port), "--detach")
    password = (blank.directory / "admin_password").read_text().strip()
    assert (blank.directory / "admin_password").stat().st_mode & 0o077 == 0
    assert (blank.directory / "gateway.json").stat().st_mode & 0o077 == 0
    assert blank.run("psql", "-XAtc", "SELECT 1").stdout == "1\n"
    blank.run("psql", "-Xqc", "CREATE TABLE t (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
    blank.run("psql", "-Xqc", "INSERT INTO t SELECT generate_series(1, 20)")
    assert sum(line["rows"] for line in blank.json("shards", "t")) == 20
    assert password not in blank.run("status").stdout
    blank.environment["PGPASSWORD"] = "wrong"
    assert "password authentication failed" in blank.run("psql", "-c", "SELECT 1", code=2).stderr
