"""What `up` makes of a wish: nodes with names and ports, regions in turn; what an existing cluster cannot become; its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgherd.deploy import state, wish
from pgherd.deploy.state import State
from pgherd.deploy.wish import Wish
from pgherd.errors import DeployError

PORT = 21990


def _made(tmp_path: Path, **asked: object) -> State:
    return wish.new_state(tmp_path, Wish(port=PORT, **asked))  # type: ignore[arg-type]


def test_the_default_is_two_groups_with_one_replica_each(tmp_path: Path) -> None:
    made = _made(tmp_path)
    assert [node.name for node in made.nodes] == ["g0-n1", "g0-n2", "g1-n1", "g1-n2"]
    assert [node.id for node in made.nodes] == [0, 1, 2, 3]
    assert made.managed
    assert made.servers == ()
    assert made.etcd is not None
    assert made.etcd.own
    ports = [port for node in made.nodes for port in (node.port, node.rest_port)]
    assert len({*ports, made.etcd.port, made.etcd.peer_port, PORT}) == 11


def test_embedded_and_plain_clusters_have_servers_and_no_nodes(tmp_path: Path) -> None:
    assert len(_made(tmp_path, embedded=True).servers) == 1
    plain = _made(tmp_path, managed=False, groups=3)
    assert len(plain.servers) == 3
    assert not plain.managed
    assert plain.etcd is None


def test_regions_are_given_in_turn(tmp_path: Path) -> None:
    made = _made(tmp_path, replicas=2, regions=("eu", "us"))
    assert [node.region for node in made.group_nodes(0)] == ["eu", "us", "eu"]


def test_names_and_numbers_of_removed_nodes_are_not_used_again(tmp_path: Path) -> None:
    made = _made(tmp_path)
    left = replace(made, nodes=made.nodes[:3], gone=("g1-n2",))
    more = wish.with_node(left, 1, (1, 2))
    assert (more.nodes[-1].name, more.nodes[-1].id) == ("g1-n3", 4)


def test_an_external_etcd_is_used_and_stays(tmp_path: Path) -> None:
    made = _made(tmp_path, etcd=("10.0.0.1:2379", "10.0.0.2:2379"))
    assert made.etcd is not None
    assert not made.etcd.own
    assert made.etcd.members == ("10.0.0.1:2379", "10.0.0.2:2379")
    problem = wish.conflict(made, Wish(etcd=("10.0.0.3:2379",)))
    assert problem is not None
    assert "with etcd 10.0.0.1:2379,10.0.0.2:2379 instead of 10.0.0.3:2379" in problem.message


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Wish(replicas=2), "with replicas 1 instead of 2"),
        (Wish(embedded=True), "with embedded off instead of on"),
        (Wish(profile="conservative"), "with profile fast instead of conservative"),
        (Wish(when_alone="stop"), "with when_alone auto instead of stop"),
    ],
)
def test_what_a_cluster_is_made_as_stays(tmp_path: Path, asked: Wish, said: str) -> None:
    problem = wish.conflict(_made(tmp_path), asked)
    assert problem is not None
    assert said in problem.message
    assert wish.conflict(_made(tmp_path), Wish()) is None


def test_too_many_replicas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="7 replicas are not possible"):
        _made(tmp_path, replicas=7)


def test_the_file_keeps_all_of_it(tmp_path: Path) -> None:
    made = replace(_made(tmp_path, regions=("eu",), etcd=("h:1",)), gone=("g0-n9",))
    state.save(tmp_path, made)
    assert state.load(tmp_path) == made


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    made = _made(tmp_path)
    with pytest.raises(DeployError, match="there is no node g7-n1") as caught:
        made.node("g7-n1")
    assert caught.value.hint == "Nodes of this cluster: g0-n1, g0-n2, g1-n1, g1-n2."
    with pytest.raises(DeployError, match="there is no group 7"):
        made.group_nodes(7)
