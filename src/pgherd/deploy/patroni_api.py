"""Asking a node's Patroni over its REST API: what it knows about its group, a switchover, a restart."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgherd.deploy.node_config import NodeConfig
from pgherd.errors import DeployError

ASK_S = 3.0
ACT_S = 60.0
IN_STEP = ("sync", "quorum")  # PostgreSQL's words for a standby that commits wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A node as its own Patroni sees it now. `leads`: it holds the leader's key and its PostgreSQL is the primary.

    `role`: primary, replica, demoted, …; `state`: running, starting, stopped, …; `position`: bytes of WAL, written by a
    primary, replayed by a standby. `standbys`: of a primary, who streams from it, with PostgreSQL's word for how it waits for
    each (sync, quorum, potential, async). `alone`: it goes on without etcd because all members agree (failsafe mode).
    `successor`: a standby that etcd names as synchronous, so that it may take over; a second or two after it is in step.
    """

    leads: bool
    role: str
    state: str
    timeline: int | None
    position: int | None
    standbys: Mapping[str, str]
    alone: bool
    successor: bool = False


def status(config: NodeConfig) -> NodeStatus | None:
    """How a node is; None if its Patroni does not answer."""
    try:
        code, raw = _ask(config, "GET", "/primary", None, ASK_S)
    except OSError:
        return None
    wal: dict[str, Any] = raw.get("xlog") or {}
    streams: list[dict[str, Any]] = raw.get("replication") or []
    return NodeStatus(
        leads=code == 200 and raw.get("role") == "primary" and raw.get("state") == "running",
        role=raw.get("role", "unknown"),
        state=raw.get("state", "unknown"),
        timeline=raw.get("timeline"),
        position=wal.get("location", wal.get("replayed_location")),
        standbys={
            each["application_name"]: each["sync_state"] for each in streams if each["state"] == "streaming"
        },
        alone=bool(raw.get("failsafe_mode_is_active")),
        successor=bool(raw.get("sync_standby") or raw.get("quorum_standby")),
    )


def is_primary(config: NodeConfig) -> bool:
    """Is this node its group's primary?"""
    found = status(config)
    return found is not None and found.leads


def dynamic(config: NodeConfig) -> dict[str, Any] | None:
    """The group's shared configuration in etcd; None if the node does not answer."""
    try:
        code, answer = _ask(config, "GET", "/config", None, ASK_S)
    except OSError:
        return None
    return answer if code == 200 else None


def reconfigure(config: NodeConfig, changes: dict[str, Any]) -> None:
    """Change the group's shared configuration in etcd. Raises DeployError."""
    _act(config, "PATCH", "/config", changes)


def switchover(config: NodeConfig, leader: str, candidate: str | None) -> None:
    """Ask `leader`'s Patroni (at `config`) to hand over, and wait until another is primary. Raises DeployError."""
    body = {"leader": leader} | ({"candidate": candidate} if candidate else {})
    _act(config, "POST", "/switchover", body)


def restart(config: NodeConfig) -> None:
    """Restart this node's PostgreSQL and wait. Raises DeployError."""
    _act(config, "POST", "/restart", {})


def _act(config: NodeConfig, method: str, path: str, body: dict[str, Any]) -> None:
    try:
        code, answer = _ask(config, method, path, body, ACT_S)
    except OSError as error:
        raise DeployError(
            f"the Patroni of node {config.name} does not answer: {error}", hint="See pgherd status."
        ) from error
    if code != 200:
        raise DeployError(
            f"Patroni of node {config.name}: {answer.get('text') or code}", hint="See pgherd status."
        )


def _ask(
    config: NodeConfig, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
) -> tuple[int, dict[str, Any]]:
    """The status and the answer, JSON or {"text": …}. Raises OSError."""
    connection = _connection(config, timeout_s)
    headers = {"Content-Type": "application/json"}
    if config.rest_password:
        secret = f"{config.rest_user}:{config.rest_password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__} {error}") from error
    finally:
        connection.close()
    return answer.status, _parsed(text)


def _parsed(text: str) -> dict[str, Any]:
    try:
        raw: Any = json.loads(text)
    except ValueError:
        return {"text": text.strip()}
    return raw if isinstance(raw, dict) else {"text": str(raw)}


def _connection(config: NodeConfig, timeout_s: float) -> http.client.HTTPConnection:
    if config.tls_cert is None:
        return http.client.HTTPConnection(config.host, config.rest_port, timeout=timeout_s)
    import ssl

    context = ssl.create_default_context(cafile=config.tls_ca)
    if config.tls_ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(config.host, config.rest_port, timeout=timeout_s, context=context)
