"""A node's settings: what is wrong with them is said by name, and no password is ever said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgherd.deploy import node_config, patroni
from pgherd.deploy.binaries import Binaries
from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import BadSetting

LEAST: dict[str, Any] = {
    "cluster": "production",
    "group": 0,
    "name": "g0-n1",
    "host": "10.0.0.1",
    "etcd": ["10.0.0.1:2379"],
    "directory": "/var/lib/pgherd/g0-n1",
    "superuser_password": "secret-one",
    "replication_password": "secret-two",
    "rest_password": "secret-three",
    "tls_cert": "db1.crt",
    "tls_key": "db1.key",
    "tls_ca": "ca.crt",
}
LOCAL = {"host": "127.0.0.1", "auth": "trust"}
# as the distribution's of PostgreSQL 18 would be; nothing is run
PROGRAMS = Binaries(Path("/usr/lib/postgresql/18/bin"), (18, 1))


def settings(*without: str, environment: dict[str, str] | None = None, **changed: Any) -> NodeConfig:
    """The least settings, without some and with others."""
    raw = {name: value for name, value in {**LEAST, **changed}.items() if name not in without}
    return node_config.parse(
        json.dumps(raw),
        name="node.json",
        base=Path("/etc/pgherd"),
        toml=False,
        environment=environment or {},
    )


@pytest.mark.parametrize(
    ("changed", "without", "said"),
    [
        ({"colour": "red"}, (), "unknown settings: colour"),
        ({}, ("cluster", "etcd"), "missing settings: cluster, etcd"),
        ({"group": "0"}, (), "group must be a whole number"),
        ({"group": True}, (), "group must be a whole number"),
        ({"group": 512}, (), "group 512 is not a group's number"),
        ({"etcd": "10.0.0.1:2379"}, (), "etcd must be a list of addresses"),
        ({"etcd": []}, (), "etcd needs at least one address"),
        ({"etcd": ["http://10.0.0.1:2379"]}, (), "is not host:port"),
        ({"name": "G0 N1"}, (), "name 'G0 N1' is not allowed"),
        ({"host": "0.0.0.0"}, (), "host '0.0.0.0' is not an address that others can reach"),
        ({"port": 70000}, (), "port 70000 is not a port number"),
        ({"port": 8008}, (), "port and rest_port are both 8008"),
        ({"profile": "reckless"}, (), "profile must be fast or conservative"),
        ({"durable": "yes"}, (), "durable must be true or false"),
        ({"replicas": -1}, (), "replicas cannot be negative"),
        ({"auth": "trust"}, (), "refusing to listen on 10.0.0.1 without authentication"),
        ({**LOCAL, "listen": "0.0.0.0"}, (), "refusing to listen on 0.0.0.0 without authentication"),
        ({}, ("rest_password",), "auth scram needs rest_password"),
        ({}, ("tls_cert", "tls_key"), "refusing to listen on 10.0.0.1 without TLS"),
        ({}, ("tls_key",), "tls_cert and tls_key go together"),
        ({"etcd_cert": "a.crt"}, (), "etcd_cert and etcd_key go together"),
        ({"parameters": {"synchronous_commit": "off"}}, (), "parameters cannot set synchronous_commit"),
        ({"parameters": {"work_mem": ["1MB"]}}, (), "parameters: work_mem must be a text or a number"),
        ({"rest_password_file": "x"}, (), "rest_password and rest_password_file exclude each other"),
        ({"rest_password_file": "none"}, ("rest_password",), "rest_password_file: cannot read /etc/pgherd/none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(changed: dict[str, Any], without: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        settings(*without, **changed)
    assert caught.value.message.startswith("node.json: ")
    assert said in caught.value.message
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_broken_file_is_no_way_to_read_its_passwords() -> None:
    with pytest.raises(BadSetting) as caught:
        node_config.parse('superuser_password = "opensesame', name="node.toml", base=Path("/"))
    assert "node.toml" in caught.value.message
    assert "opensesame" not in caught.value.message
    assert caught.value.__cause__ is None


def test_passwords_come_from_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "super").write_text("from-a-file\n")
    config = settings(
        "superuser_password",
        "rest_password",
        superuser_password_file=str(tmp_path / "super"),
        environment={"PGHERD_REST_PASSWORD": "from-outside", "PGHERD_SUPERUSER_PASSWORD": "unused"},
    )
    assert config.superuser_password == "from-a-file"
    assert config.rest_password == "from-outside"
    assert not {"from-a-file", "from-outside", "secret-two"} & set(repr(config).replace("'", " ").split())


def test_relative_paths_count_from_the_file() -> None:
    config = settings(tls_ca="../ssl/ca.crt")
    assert config.tls_cert == Path("/etc/pgherd/db1.crt")
    assert config.tls_ca == Path("/etc/ssl/ca.crt")
    assert config.data == Path("/var/lib/pgherd/g0-n1/data")


def test_what_is_dumped_is_loaded_again() -> None:
    config = settings(parameters={"work_mem": "8MB", "jit": True}, region="eu")
    again = node_config.parse(node_config.dump(config), name="x", base=Path("/"), toml=False, environment={})
    assert again == config


# ---- Patroni's side of it ----------------------------------------------------------------------------


def made(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Patroni's configuration, for a PostgreSQL that speaks TLS."""
    monkeypatch.setattr(patroni, "speaks_tls", lambda _: True)
    return patroni.configuration(config, PROGRAMS)


def test_off_loopback_nothing_is_trusted_and_nothing_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = made(settings(), monkeypatch)["postgresql"]["pg_hba"]
    assert rules and not [
        rule for rule in rules if "trust" in rule or rule.startswith(("host ", "hostnossl"))
    ]
    assert any("replication" in rule and "clientcert=verify-ca" in rule for rule in rules)


def test_trust_stays_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = made(settings(*("tls_cert", "tls_key", "tls_ca"), **LOCAL), monkeypatch)["postgresql"]["pg_hba"]
    hosts = {rule.split()[3] for rule in rules if rule.startswith("host")}
    assert hosts == {"127.0.0.0/8", "::1/128"}


@pytest.mark.parametrize(
    ("replicas", "when_alone", "mode", "strict"),
    [
        (1, "auto", True, False),
        (1, "stop", True, True),
        (2, "auto", "quorum", True),
        (3, "go-on", "quorum", False),
        (0, "auto", True, False),
    ],
)
def test_when_commits_wait(replicas: int, when_alone: str, mode: object, strict: bool) -> None:
    shared = patroni.dynamic(settings(replicas=replicas, when_alone=when_alone))
    assert (shared["synchronous_mode"], shared["synchronous_mode_strict"]) == (mode, strict)
    assert shared["failsafe_mode"] is True


@pytest.mark.parametrize("profile", ["fast", "conservative"])
def test_patroni_can_renew_its_lease_in_time(profile: str) -> None:
    shared = patroni.dynamic(settings(profile=profile))
    assert shared["loop_wait"] + 2 * shared["retry_timeout"] <= shared["ttl"]


def test_what_a_group_shares_is_in_etcd_and_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    config = made(settings(parameters={"max_connections": "77", "work_mem": "9MB"}), monkeypatch)
    shared = config["bootstrap"]["dcs"]["postgresql"]["parameters"]
    own = config["postgresql"]["parameters"]
    assert shared["max_connections"] == "77" and "max_connections" not in own
    assert own["work_mem"] == "9MB" and "work_mem" not in shared
    assert not shared.keys() & own.keys()


def test_a_postgresql_without_tls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_bytes(b"... SSL is not supported by this build ...")
    with pytest.raises(BadSetting, match="built without TLS"):
        patroni.configuration(settings(), Binaries(tmp_path, (18, 1)))
