"""A node's own process and the process beside it that registers the node."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from pgherd.deploy import supervise
from pgherd.deploy.binaries import Binaries
from pgherd.deploy.node_config import NodeConfig


def test_an_announcer_that_does_not_end_is_killed_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "ORPHANS_S", 0.2)
    config = NodeConfig(
        cluster="one",
        group=0,
        name="g0-n1",
        host="127.0.0.1",
        etcd=("127.0.0.1:2379",),
        directory=tmp_path,
        auth="trust",
    )
    node = supervise.Supervisor(config, Binaries(tmp_path, (18, 1)), announces=True)
    words = ["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == b"ready\n"
        node._announcer = deaf
        node._stop_announcing()
        assert deaf.wait(10) == -signal.SIGKILL
    assert node._announcer is None
