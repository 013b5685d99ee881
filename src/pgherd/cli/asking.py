"""Asking the cluster from a command: through the gateway, or each group's primary directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy.local import LocalCluster
from pgherd.errors import DeployError, GroupDown

T = TypeVar("T")

CONNECT_S = 10.0


PROGRESS = "PH100"  # the SQLSTATE of the gateway's notices of progress


def call(local: LocalCluster, sql: str, report: Callable[[str], None]) -> list[str]:
    """Run a statement through the gateway and answer the notices that came with it. Raises PgherdError.

    Notices of progress go to `report` as they come.
    """
    notices: list[str] = []

    def noticed(message: bytes) -> None:
        code, text = _notice(message)
        if code == PROGRESS:
            report(text.partition(": ")[2])
        else:
            notices.append(text)

    async def job(link: ServerLink) -> None:
        link.on_notice = noticed
        await link.run(sql)

    at_gateway(local, job)
    return notices


def at_gateway(local: LocalCluster, job: Callable[[ServerLink], Awaitable[T]]) -> T:
    """Run `job` on a connection to the gateway. Raises DeployError if none answers."""
    current = local.existing()
    host = current.gateway.reached_at
    node = Node(id=0, group=GroupId(0), host=host, port=current.gateway.port, database="pgherd")
    try:
        return asyncio.run(_with_link(node, local.password(), job))
    except GroupDown as error:
        if not isinstance(error.__cause__, (OSError, TimeoutError)):
            raise
        raise DeployError(
            f"the gateway does not answer at {host}:{current.gateway.port}",
            hint="Start the cluster: pgherd up --detach.",
        ) from error


def at_group_0(local: LocalCluster, job: Callable[[ServerLink], Awaitable[T]]) -> T:
    """Run `job` on a connection to group 0. Raises DeployError if it does not answer."""
    try:
        return asyncio.run(_with_link(local.nodes(local.existing())[0], local.password(), job))
    except GroupDown as error:
        raise DeployError(error.message, hint="Start the cluster: pgherd up --detach.") from error


async def _with_link(node: Node, password: str | None, job: Callable[[ServerLink], Awaitable[T]]) -> T:
    link = await connect(node, Credentials(user="postgres", password=password), timeout=CONNECT_S)
    try:
        return await job(link)
    finally:
        link.close()


def _notice(message: bytes) -> tuple[str, str]:
    """SQLSTATE and text of a NoticeResponse: severity and message."""
    fields = {chunk[:1]: chunk[1:].decode(errors="replace") for chunk in message[5:].split(b"\0") if chunk}
    return fields.get(b"C", ""), f"{fields.get(b'S', 'NOTICE')}: {fields.get(b'M', '')}"
