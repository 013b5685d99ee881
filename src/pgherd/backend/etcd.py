"""What etcd knows about a cluster: the members of its groups, as Patroni keeps them there.

Spoken over etcd's JSON gateway (etcd manual, "gRPC gateway"), with nothing but the standard library: it is asked at a gateway's start and by
commands, never on the query path. Synchronous; every request is bounded.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pgherd.errors import BadSetting, EtcdDown

REQUEST_S = 3.0
ROOT = "/pgherd/"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdAddress:
    """Where etcd answers (`hosts`: host:port of its members) and how it is talked to. Without `ca` and `cert`: in plain text."""

    hosts: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Is it spoken to over TLS?"""
        return self.ca is not None or self.cert is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node as Patroni announces it. `api`: the URL of its REST API. A node that is down is not announced.

    `leader`: it holds its group's leader key. `role` and `state` are Patroni's words.
    """

    name: str
    group: int
    host: str
    port: int
    database: str
    region: str
    zone: str
    role: str
    state: str
    api: str
    timeline: int
    leader: bool


class Etcd:
    """A client of one etcd cluster. Any member that answers will do; raises EtcdDown if none does within the bound."""

    def __init__(self, where: EtcdAddress, *, timeout: float = REQUEST_S) -> None:
        self._where = where
        self._timeout = timeout
        self._context = _context(where) if where.tls else None
        self._token: str | None = None

    def range(self, prefix: str) -> dict[str, str]:
        """All keys that begin with `prefix`, and their values."""
        answer = self._ask("kv/range", _prefixed(prefix))
        return {_text(item["key"]): _text(item.get("value", "")) for item in answer.get("kvs", [])}

    def delete(self, prefix: str) -> int:
        """Delete all keys that begin with `prefix`; how many there were."""
        return int(self._ask("kv/deleterange", _prefixed(prefix)).get("deleted", 0))

    def _ask(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        said = "no address was given"
        for host in self._where.hosts:
            try:
                return self._request(host, method, body)
            except _Refused as error:
                raise EtcdDown(f"etcd at {host} refuses: {error}", hint=_HINT) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = f"{host}: {error}"
        raise EtcdDown(f"etcd does not answer ({said})", hint=_HINT)

    def _request(self, host: str, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._where.user and self._token is None:
            self._log_in(host)
        try:
            return self._post(host, method, body)
        except _Refused:
            if self._token is None:
                raise
            self._log_in(host)  # the token may have expired
            return self._post(host, method, body)

    def _log_in(self, host: str) -> None:
        self._token = None
        login = {"name": self._where.user, "password": self._where.password or ""}
        self._token = str(self._post(host, "auth/authenticate", login)["token"])

    def _post(self, host: str, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        place = urlsplit(f"//{host}")
        name, port = place.hostname or "", place.port
        link = (
            http.client.HTTPConnection(name, port, timeout=self._timeout)
            if self._context is None
            else http.client.HTTPSConnection(name, port, timeout=self._timeout, context=self._context)
        )
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = self._token
        try:
            link.request("POST", f"/v3/{method}", json.dumps(body), headers)
            response = link.getresponse()
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        finally:
            link.close()
        if response.status >= 500:
            raise OSError(answer.get("error", response.reason))
        if response.status != 200:
            raise _Refused(answer.get("error", response.reason))
        return answer


class _Refused(Exception):
    """etcd answered, but no."""


_HINT = "Check etcd's addresses and certificates, and that most of its members run."


def members(etcd: Etcd, cluster: str) -> list[Member]:
    """The announced nodes of all groups, by group and name. Raises EtcdDown."""
    return parse_members(etcd.range(f"{ROOT}{cluster}/"), cluster)


def parse_members(keys: Mapping[str, str], cluster: str) -> list[Member]:
    """The nodes out of etcd's keys and values below the cluster's prefix."""
    found: list[Member] = []
    for key, value in keys.items():
        match = re.fullmatch(rf"{re.escape(ROOT + cluster)}/group-(\d+)/members/(.+)", key)
        if match is None:
            continue
        leader = keys.get(f"{ROOT}{cluster}/group-{match[1]}/leader")
        member = _member(int(match[1]), match[2], value, leader == match[2])
        if member is not None:
            found.append(member)
    return sorted(found, key=lambda member: (member.group, member.name))


def _member(group: int, name: str, value: str, leader: bool) -> Member | None:
    """One node, or None while Patroni has not announced its address yet."""
    try:
        raw: dict[str, Any] = json.loads(value)
        place = urlsplit(raw["conn_url"])
    except (ValueError, KeyError, TypeError):
        return None
    tags: dict[str, Any] = raw.get("tags") or {}
    return Member(
        name=name,
        group=group,
        host=place.hostname or "",
        port=place.port or 5432,
        database=str(tags.get("database", "pgherd")),
        region=str(tags.get("region", "")),
        zone=str(tags.get("zone", "")),
        role=str(raw.get("role", "")),
        state=str(raw.get("state", "")),
        api=str(raw.get("api_url", "")).removesuffix("/patroni"),
        timeline=int(raw.get("timeline") or 0),
        leader=leader,
    )


def _context(where: EtcdAddress) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=where.ca)
        if where.cert is not None:
            context.load_cert_chain(where.cert, where.key)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"the certificates for etcd cannot be used: {error}") from error
    return context


def _prefixed(prefix: str) -> dict[str, str]:
    raw = prefix.encode()
    end = raw[:-1] + bytes([raw[-1] + 1])
    return {"key": base64.b64encode(raw).decode(), "range_end": base64.b64encode(end).decode()}


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "replace")
