"""One PostgreSQL server: it survives kill -9, keeps its data, and says clearly why it does not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pgherd.deploy import processes
from pgherd.deploy.server import Server
from pgherd.errors import DeployError
from pgherd.testing.servers import Yard


def test_continues_after_its_postmaster_alone_was_killed(yard: Yard) -> None:
    server = yard.server("killed")
    server.ask("CREATE TABLE t AS SELECT 1 AS a")
    # an orphan that holds the shared memory: busy in C code, it does not look whether the postmaster lives
    busy = subprocess.Popen(
        [
            server.binaries.path("psql"),
            "-Xq",
            "-d",
            server.uri(),
            "-c",
            "SELECT count(*) FROM generate_series(1, 30000000)",
        ],
        stderr=subprocess.DEVNULL,
    )
    wait = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT count%') LOOP PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"
    server.ask(wait)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_gone([pid], 5)
    server.start()
    assert server.ask("SELECT a FROM t") == "1"
    assert server.pid() != pid
    busy.wait()


def test_a_pid_that_is_somebody_elses_by_now_does_not_hinder_the_start(yard: Yard) -> None:
    server = yard.server("stale")
    server.stop()
    (server.data / "postmaster.pid").write_text(
        f"{os.getpid()}\n{server.data}\n1\n{server.port}\n\n\n\nready\n"
    )
    assert server.pid() is None
    server.start()
    assert server.ask("SELECT 1") == "1"


def test_stop_is_a_clean_shutdown_and_may_be_repeated(yard: Yard) -> None:
    server = yard.server("stopped")
    server.stop()
    server.stop()
    state = subprocess.run(
        [server.binaries.path("pg_controldata"), server.data], capture_output=True, text=True, check=True
    ).stdout
    assert "shut down\n" in state
    assert server.pid() is None


def test_a_port_in_use_is_named(yard: Yard) -> None:
    server = yard.make("taken")
    server.create()
    with socket.create_server(("127.0.0.1", server.port)):
        with pytest.raises(DeployError, match=f"port {server.port} is in use") as caught:
            server.start()
        assert caught.value.hint


def test_an_unwritable_directory_is_one_clear_line(yard: Yard) -> None:
    server = yard.make("readonly/deeper")
    server.directory.parent.write_text("a file where a directory belongs")
    with pytest.raises(DeployError, match=r"readonly/deeper cannot be used: Not a directory"):
        server.create()


def test_data_of_another_major_version_is_named(yard: Yard) -> None:
    server = yard.make("older")
    server.create()
    (server.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(DeployError, match="is PostgreSQL 15's, but the programs are version 18"):
        server.start()


def test_scram_asks_for_the_password(yard: Yard) -> None:
    server = yard.server("scram", auth="scram", password="sesame")
    assert server.ask("SELECT 1", password="sesame") == "1"
    with pytest.raises(DeployError, match="password authentication failed"):
        server.ask("SELECT 1", password="wrong")


def test_servers_end_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    text = (
        "import time\nfrom pgherd.testing.servers import Yard\n"
        "yard = Yard.open()\nserver = yard.server('a')\nprint(server.pid(), yard.directory, flush=True)\ntime.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid, directory = run.stdout.readline().split()
    run.kill()
    run.wait()
    run.stdout.close()
    assert processes.wait_gone([int(pid)], 20)
    Yard.open().close()  # the next one sweeps
    assert not Path(directory).exists()


def test_the_plain_server_orders_text_by_code_point(server: Server) -> None:
    assert server.ask("SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['b','é','B','a']) x") == "Babé"
