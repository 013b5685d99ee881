"""The story's end: a shard with too much to do splits by itself, a server joins, shards move there, and no customer notices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgherd.demo import watching
from pgherd.demo.place import GROUPS, run_command
from pgherd.demo.screen import duration
from pgherd.demo.session import Session
from pgherd.demo.traffic import CLIENT_WORKERS, CUT, GATEWAY_WORKERS, HOT_SHARE, Level, flowing, measured
from pgherd.demo.watching import SPAN_LOOKS, Scene
from pgherd.errors import PgherdError

MEASURE_S = 2.0
SPLIT_BEGINS_S, SPLIT_ENDS_S = 30.0, 120.0
MOVE_BEGINS_S, MOVE_ENDS_S = 45.0, 120.0
LEVEL = 0.5  # of all statements is the most that a group has when the load is level (of three groups)

# Before the story: load is reported at once, and nothing is changed yet. What is set here and below is taken back at the end.
CALM = {"balancing": "off", "report": "1s", "half_life": "3s", "round": "1s"}
EAGER = {"sustain_rounds": "2", "floor_load": "0.002", "keep_for": "0s", "balancing": "on"}
# a load_max that eight customers cannot reach: on a slow machine both shards would be split for their load alone
LIMITS = {"cooldown": "1s", "stay": "2s", "shards_max": "3", "load_max": "8"}


async def calm(session: Session) -> None:
    """Prepare: shards shall not change before their chapter."""
    for name, value in CALM.items():
        await session.connection.execute(f"CALL pgherd.set_balancing('{name}', '{value}')")


async def patient(session: Session) -> None:
    """Back to the settings that a new cluster has."""
    for name in {**CALM, **EAGER}:
        await session.connection.execute(f"CALL pgherd.set_balancing('{name}', NULL)")


async def grow(session: Session) -> Sequence[str]:
    """The story's end. Answers what did not come true, in words. Raises PgherdError if rows or writes are lost."""
    total = await _credit(session)
    async with flowing(session.place, session.client, session.crowd) as traffic:
        scene = await watching.begin(session, traffic)
        before = await _overworked(scene)
        halved = await _split(scene)
        after = await _joined(scene)
    _compare(session, [("before", before), ("after the split", halved), ("with the new group", after)])
    session.screen.say(
        f"All the while {GATEWAY_WORKERS + CLIENT_WORKERS} customers went on: [bold]{traffic.told()}[/]. The longest that "
        f"one took: {duration(traffic.longest_s)}."
    )
    if traffic.failed:
        scene.missed.append(
            f"{len(traffic.failed)} of {traffic.statements:,} statements failed, the first with {traffic.failed[0]}"
        )
    else:
        await _verify(session, total, traffic.writes)
    await _why(scene)
    await patient(session)
    return scene.missed


async def _overworked(scene: Scene) -> Level:
    session = scene.session
    session.screen.chapter(f"One shard has too much to do: A to {chr(ord(CUT) - 1)}")
    session.screen.say(
        f"A newspaper prints a coupon for everybody whose last name begins with A to {chr(ord(CUT) - 1)}. From now on "
        f"{GATEWAY_WORKERS} customers through the gateway and {CLIENT_WORKERS} through pgherd's Python client look up their "
        f"credit and cash in coupons, until the story ends; {HOT_SHARE * 100:.0f} % of the statements are about A to "
        f"{chr(ord(CUT) - 1)}. Statements per second:"
    )
    return await _show(scene)


async def _split(scene: Scene) -> Level:
    session = scene.session
    session.screen.say(
        "The controller in the gateway sees that. By its own settings it would be in no hurry: it looks every ten seconds, waits "
        "until it has seen the same three times, lets a shard rest for minutes after a change, and leaves small clusters alone. "
        "For this story it was switched off and told to look every second, at load that is reported every second. Now it is told "
        "to be eager, to make three shards at most, and to care for the balance of the groups alone:"
    )
    calls = [f"CALL pgherd.set_balancing('{name}', '{value}')" for name, value in EAGER.items()]
    calls += [f"CALL pgherd.set_keyspace('people', '{name}', '{value}')" for name, value in LIMITS.items()]
    # what switches it on comes last
    await session.define(*sorted(calls, key=lambda call: "'balancing'" in call))
    session.screen.say("Nobody says what to cut, or where. What happens now happens by itself:")
    await watching.until(
        scene, "split the busy shard", watching.was_split, begins_s=SPLIT_BEGINS_S, ends_s=SPLIT_ENDS_S
    )
    return await _show(scene)


async def _joined(scene: Scene) -> Level:
    session = scene.session
    spare, old = await _spare(scene), len(await scene.groups()) > GROUPS
    session.screen.chapter("The third group" if old else "A new group joins")
    if spare:
        session.screen.say(f"Group {spare[0]} is there from an earlier run, and has none of these rows yet.")
    elif old:
        session.screen.say("The third group is there from an earlier run, and the split has used it already.")
    else:
        session.screen.say(
            "One more group, with all definitions and the price list, while everybody works; only the controller rests meanwhile:"
        )
        await session.define("CALL pgherd.set_balancing('balancing', 'off')")
        await watching.until(scene, "come to rest", _rests, begins_s=SPLIT_BEGINS_S, ends_s=MOVE_ENDS_S)
        seconds = await run_command(session.place, session.screen, "add-group")
        session.screen.note(f"done in {duration(seconds)}")
        await session.define("CALL pgherd.set_balancing('balancing', 'on')")
        session.screen.say("It is empty. The controller sees that, too:")
    await watching.until(
        scene, "move a shard to the new group", _is_level, begins_s=MOVE_BEGINS_S, ends_s=MOVE_ENDS_S
    )
    return await _show(scene)


async def _spare(scene: Scene) -> Sequence[int]:
    """Groups that hold no people."""
    pieces, groups = await scene.placement()
    return [group for group in groups if group not in {piece.group for piece in pieces}]


async def _rests(scene: Scene) -> bool:
    """Whether nothing runs, and nothing that was decided before it was switched off begins any more."""
    return scene.idle and len(scene.looks) == SPAN_LOOKS


async def _is_level(scene: Scene) -> bool:
    seen = len(scene.looks) == SPAN_LOOKS and scene.now.total > 0
    return seen and scene.idle and scene.now.highest <= LEVEL and not await _spare(scene)


async def _show(scene: Scene) -> Level:
    """Measure now, and show it."""
    found = await measured(scene.traffic, scene.placement, MEASURE_S)
    scene.session.screen.bars(watching.bars(found))
    scene.session.screen.note(scene.traffic.told())
    return found


def _compare(session: Session, levels: Sequence[tuple[str, Level]]) -> None:
    session.screen.say("Before and after, each group's part of the statements:")
    session.screen.console.print()
    groups = sorted({group for _, found in levels for group in found.groups})
    rows = [
        [
            f"group {group}",
            *(f"{100 * found.groups.get(group, 0.0) / (found.total or 1):.0f} %" for _, found in levels),
        ]
        for group in groups
    ]
    rows.append(["statements per second", *(f"{found.total:,.0f}" for _, found in levels)])
    session.screen.rows(["", *(name for name, _ in levels)], rows)


async def _credit(session: Session) -> int:
    total: Any = await session.connection.fetchval("SELECT sum(credit) FROM people")
    return total


async def _verify(session: Session, before: int, writes: int) -> None:
    """Every acknowledged write is there, once."""
    after = await _credit(session)
    session.screen.say(
        f"They cashed in {writes:,} coupons. The sum of all credit was {before:,} before and is {after:,} now: "
        f"{after - before:,} more."
    )
    if after - before != writes:
        raise PgherdError(
            f"{writes:,} writes were acknowledged, and {after - before:,} are there",
            hint="This is a bug in pgherd: please report it.",
        )


async def _why(scene: Scene) -> None:
    session = scene.session
    session.screen.chapter("Why did it do that?")
    session.screen.say("Every decision is written down with its reason:")
    made = await session.query(
        "SELECT shard, kind, code, reason FROM pgherd.decisions_log"
        f" WHERE id > {scene.decisions} AND workflow IS NOT NULL ORDER BY id"
    )
    if made:
        session.screen.say(
            "So is every reason why something was not done. About one shard, the latest first:"
        )
        await run_command(session.place, session.screen, "why", str(made[0]["shard"]), "--last", "3")
