"""CALL pgherd.pause, resume, cancel, undo, confirm: what shall become of a workflow that is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pgherd.catalog.model import ClusterMap
from pgherd.catalog.text import literal
from pgherd.engine.work import Work
from pgherd.reshard.asking import asking
from pgherd.reshard.watching import watch

if TYPE_CHECKING:
    from pgherd.catalog.admin.arguments import Arguments

# what is wanted, and the states that end the wait for it
WISHES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "pause": ("pause", ("paused", "kept", "done")),
    "resume": ("run", ("kept", "done")),
    "cancel": ("cancel", ("cancelled", "kept", "done")),
    "undo": ("undo", ("undone",)),
    "confirm": ("confirm", ("done",)),
}


async def tell(
    work: Work, name: str, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> None:
    """Say what is wanted, and watch until it is so."""
    wanted, until = WISHES[name]
    async with asking(work, cluster, path, name) as session:
        number = arguments.number("workflow")
        await session.ask(f"SELECT pgherd.want({number}, {literal(wanted)})")
        await watch(session, number, until=until)
