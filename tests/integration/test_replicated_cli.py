"""The commands on a cluster of managed groups: what status tells, how one node is stopped and started, clear refusals."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from pgherd.cli import app
from pgherd.deploy.local import LocalCluster
from pgherd.testing import nodes
from pgherd.testing.nodes import NodeFaults


def _run(cluster: LocalCluster, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = app.run([*words, "--state", str(cluster.directory)])
    return code, out.getvalue(), err.getvalue()


def _json(cluster: LocalCluster, *words: str) -> Any:
    return json.loads(_run(cluster, *words, "--json")[1])


def test_status_tells_how_every_node_stands(replicated_cluster: LocalCluster) -> None:
    nodes.wait_healthy(replicated_cluster)
    answer = _json(replicated_cluster, "status")
    assert [node["name"] for node in answer["nodes"]] == ["g0-n1", "g0-n2", "g1-n1", "g1-n2"]
    for group in answer["groups"]:
        mine = {node["name"]: node for node in answer["nodes"] if node["group"] == group["id"]}
        primary = mine.pop(group["primary"])
        assert (primary["role"], primary["state"]) == ("primary", "running")
        assert [(node["role"], node["sync"]) for node in mine.values()] == [("standby", "sync")]
        assert group["when_alone"] == "goes on"
        for node in (primary, *mine.values()):
            assert node["timeline"] == primary["timeline"]
            assert node["pids"] == NodeFaults(replicated_cluster, node["name"]).process.pids()
    people = _run(replicated_cluster, "status")[1]
    assert "a primary without a standby in step goes on with writes" in people
    assert "g1-n2" in people


def test_a_stopped_primary_hands_over_and_follows_when_it_starts_again(
    replicated_cluster: LocalCluster,
) -> None:
    nodes.wait_healthy(replicated_cluster)
    old, new = nodes.primary(replicated_cluster, 1), nodes.standby(replicated_cluster, 1)
    assert _json(replicated_cluster, "stop-node", old) == {"node": old, "stopped": True}
    nodes.wait_for(lambda: nodes.primary(replicated_cluster, 1) == new, 60, "another primary")
    code, said, _ = _run(replicated_cluster, "status")
    assert code == 3  # without its gateway, too
    assert "It is alone now." in said
    replicated_cluster.up(gateway=False)  # does not start what was stopped on purpose
    assert NodeFaults(replicated_cluster, old).all_pids() == []
    assert _json(replicated_cluster, "start-node", old) == {"node": old, "started": True}
    assert nodes.standby(replicated_cluster, 1) == old


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("switchover", "9"), "there is no group 9"),
        (("switchover", "0", "g1-n1"), "group 0 has no node g1-n1"),
        (("restart", "nobody"), "there is no node nobody"),
        (("stop-node", "nobody"), "there is no node nobody"),
        (("up", "--replicas", "2"), "with replicas 1 instead of 2"),
    ],
)
def test_what_cannot_be_is_one_line_and_a_hint(
    replicated_cluster: LocalCluster, words: tuple[str, ...], said: str
) -> None:
    code, _, told = _run(replicated_cluster, *words)
    assert code == 1
    message, hint = told.splitlines()
    assert said in message
    assert hint.startswith("hint: ")


def test_a_cluster_without_replicas_says_so(embedded_cluster: LocalCluster) -> None:
    for words in (("switchover", "0"), ("restart", "g0-n1")):
        code, _, told = _run(embedded_cluster, *words)
        assert code == 1
        assert "the groups of this cluster have no replicas" in told
