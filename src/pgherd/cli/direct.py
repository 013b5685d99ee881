"""Connections of a command straight to the groups' primaries, for what must work without a gateway."""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog.model import GroupId, Node
from pgherd.engine.link import Link

CONNECT_S = 5.0


class Direct:
    """A `transaction.perform.Lender` that opens a connection each time and closes it when it is given back."""

    def __init__(self, primaries: Sequence[Node], password: str | None, others: Sequence[Node] = ()) -> None:
        """`primaries`: one for each group; `others`: all nodes, or those besides."""
        self._nodes = {node.group: node for node in primaries}
        self._others = tuple(node for node in others if node.id != self._nodes[node.group].id)
        self._credentials = Credentials(user="postgres", password=password)

    @property
    def groups(self) -> tuple[GroupId, ...]:
        """All groups, ascending."""
        return tuple(sorted(self._nodes))

    async def lend(self, group: GroupId) -> Link:
        """A new connection. Raises GroupDown."""
        return await connect(self._nodes[group], self._credentials, timeout=CONNECT_S)

    def standbys(self, group: GroupId) -> tuple[Node, ...]:
        """The group's nodes besides its primary."""
        return tuple(node for node in self._others if node.group == group)

    async def dial(self, node: Node) -> ServerLink:
        """A connection to just this node; the caller closes it. Raises GroupDown."""
        return await connect(node, self._credentials, timeout=CONNECT_S)

    def give_back(self, link: Link, *, reusable: bool) -> None:
        """Close it."""
        assert isinstance(link, ServerLink)
        link.close()
