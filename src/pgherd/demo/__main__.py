"""`python -m pgherd.demo`: tells the story, then leaves the cluster up and says how to go on."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg

import pgherd
from pgherd.demo import growing, opening, reports, transfers
from pgherd.demo.people import Crowd
from pgherd.demo.place import GROUPS, Place, default_directory, open_place
from pgherd.demo.screen import Screen, duration
from pgherd.demo.session import Session
from pgherd.deploy.wish import Wish
from pgherd.errors import PgherdError

PEOPLE = 1_000_000
PEOPLE_MIN = 10_000  # with fewer, not every name that the story uses occurs
INTERRUPTED = 130


def main() -> int:
    """Run the demonstration; answers the exit code. Errors are one line and a hint on stderr."""
    asked = _arguments()
    screen = Screen()
    try:
        run(asked, screen)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the next run starts the story again\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PgherdError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if os.environ.get("PGHERD_DEBUG"):
            traceback.print_exc()
        hint = getattr(error, "hint", None) or (
            None if isinstance(error, PgherdError) else f"The logs are in {_directory(asked)}."
        )
        message = " ".join(str(getattr(error, "message", None) or error).split())
        sys.stderr.write(f"pgherd demo: {message}\n" + (f"hint: {hint}\n" if hint else ""))
        return 1
    return 0


def run(asked: argparse.Namespace, screen: Screen) -> None:
    """Start the cluster, tell the story on it, and say how to go on."""
    started = time.monotonic()
    crowd = Crowd(people=asked.people, early=asked.people // 20, orders=asked.people * 2 // 5)
    directory = _directory(asked)
    wish = Wish(embedded=True if asked.embedded else None, groups=GROUPS, port=asked.port, managed=False)
    with screen.working("Starting the cluster") as report:
        place = open_place(directory, wish, report)
        report("drawing names")
        crowd.draw()
    servers = "two PostgreSQL servers" if place.servers > 1 else "two groups on one PostgreSQL server"
    screen.say(
        f"[bold]pgherd[/] runs: {servers} and a gateway, in {duration(time.monotonic() - started)}, in {directory}"
    )
    missed = asyncio.run(tell(place, crowd, screen))
    farewell(place, screen, time.monotonic() - started)
    if missed:
        raise PgherdError("; ".join(missed), hint=f"The logs are in {directory}.")


async def tell(place: Place, crowd: Crowd, screen: Screen) -> Sequence[str]:
    """The story, from its first chapter to its last. Answers what did not come true."""
    connection = await asyncpg.connect(place.dsn, command_timeout=120)
    try:
        async with pgherd.connect(place.dsn, command_timeout=120) as client:
            session = Session(connection=connection, client=client, screen=screen, crowd=crowd, place=place)
            if place.old:
                screen.say(
                    "It is there from an earlier run: its tables people, orders and products are dropped and made anew."
                )
                await connection.execute("DROP TABLE IF EXISTS orders, people, products")
            await growing.calm(session)
            await opening.one_server(session)
            await opening.two_shards(session)
            await opening.a_million(session)
            await reports.one_shard(session)
            await reports.whole(session)
            await reports.unequal(session)
            await transfers.acid(session)
            return await growing.grow(session)
    finally:
        await connection.close(timeout=5)


def farewell(place: Place, screen: Screen, seconds: float) -> None:
    """How to go on, and how to stop it."""
    screen.chapter("Your turn")
    screen.say(f"That took {duration(seconds)}. The cluster stays up:")
    words = [
        ("connect with anything", place.dsn),
        ("psql", place.command("psql")),
        ("which shard holds what", place.command("shards")),
        ("how a query goes", place.command("explain") + ' "SELECT count(*) FROM people"'),
        ("what the controller decided", place.command("why")),
        ("stop it (the data stays)", place.command("down")),
        ("remove it afterwards", f"rm -r {shlex.quote(str(place.directory))}"),
    ]
    width = max(len(label) for label, _ in words)
    screen.console.print()
    for label, text in words:
        screen.console.print(f"    [dim]{label:{width}}[/]  {text}", soft_wrap=True, markup=True)
    screen.say(
        "These servers have no replicas, to be light. In a cluster that has some, a machine may burn, and another one takes over:"
    )
    other = replace(place, directory=place.directory.with_name("replicated"))
    up = other.command("up")
    screen.console.print()
    screen.lines([f"{up} --groups 2 --replicas 1 --detach", f"{other.command('stop-node')} g0-n1 --kill"])


def _directory(asked: argparse.Namespace) -> Path:
    return (asked.state or default_directory()).expanduser().absolute()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pgherd.demo", description="A cluster's story, on a million people."
    )
    parser.add_argument("--people", type=int, default=PEOPLE, metavar="N", help=f"how many ({PEOPLE:,})")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help=f"where the cluster lies ({default_directory()})"
    )
    parser.add_argument(
        "--port", type=int, metavar="P", help="the gateway's port (6432, or the next free one)"
    )
    parser.add_argument("--embedded", action="store_true", help="one server whose databases are the groups")
    asked = parser.parse_args()
    if asked.people < PEOPLE_MIN:
        parser.error(f"--people must be at least {PEOPLE_MIN:,}")
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
