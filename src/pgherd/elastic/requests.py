"""CALL pgherd.rebalance, drain, set_keyspace, set_balancing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pgherd.balance import sentence
from pgherd.balance.assemble import Seen, picture
from pgherd.balance.decision import Move
from pgherd.balance.settings import KeyspaceSettings, changed, changed_rules, read_rules
from pgherd.balance.spread import rebalance as plan_moves
from pgherd.catalog import store
from pgherd.catalog.admin.arguments import Arguments
from pgherd.catalog.model import ClusterMap, GroupId
from pgherd.catalog.text import literal
from pgherd.elastic.beginning import begin
from pgherd.elastic.reading import read
from pgherd.engine.link import Row
from pgherd.engine.work import Work
from pgherd.errors import BadSetting, Cancelled, PgherdError, ServerError, UndefinedTable, WrongState
from pgherd.reshard.asking import Asking, asking, truth
from pgherd.reshard.estimate import COPY_BYTES_S, SCAN_BYTES_S
from pgherd.reshard.watching import watch

EVERY_S: Final = 0.5
HOME: Final = GroupId(0)
_IN_TRANSACTION: Final = frozenset({"set_keyspace", "set_balancing"})


@dataclass(frozen=True, slots=True)
class Request:
    """Names of a procedure's parameters, and what carries it out."""

    parameters: tuple[str, ...]
    run: Callable[[Asking, Arguments], Awaitable[None]]
    more: tuple[str, ...] = ()


async def carry_out(
    work: Work, name: str, arguments: Arguments, cluster: ClusterMap, path: tuple[str, ...]
) -> None:
    """One of REQUESTS, with the caller's rights: settings in the caller's transaction, the rest on a connection beside it."""
    if name in _IN_TRANSACTION:
        home = await work.branch(HOME)
        session = Asking(work, home, await store.load(home), path)
        await REQUESTS[name].run(session, arguments)
        return
    async with asking(work, cluster, path, name) as session:
        session = replace(
            session, cluster=await store.load(session.home)
        )  # the caller's may be a little older
        await REQUESTS[name].run(session, arguments)


# ---- settings ----------------------------------------------------------------------------------------


async def set_keyspace(session: Asking, arguments: Arguments) -> None:
    """CALL pgherd.set_keyspace(table, setting, value); a value of NULL or 'default' forgets it. ALTER TABLE gives further ones after it."""
    try:
        table = await session.table(arguments)
    except UndefinedTable as error:
        if not truth(arguments, "if_exists"):
            raise
        session.work.notice(f"{error.message}, skipping")
        return
    keyspace = session.cluster.keyspace_of(table).name
    more = arguments.rest
    await _set_keyspace(session, keyspace, arguments.text("setting"), _value(arguments.values.get("value")))
    for name, value in zip(more[::2], more[1::2], strict=True):
        await _set_keyspace(session, keyspace, name, _value(value))


async def _set_keyspace(session: Asking, keyspace: str, name: str, value: str | None) -> None:
    name = name.strip().lower()
    rows = await session.ask(
        f"SELECT name, value FROM pgherd.keyspace_settings WHERE keyspace = {literal(keyspace)}"
    )
    settings = KeyspaceSettings()
    for known, text in rows:
        if known != name:
            settings = _kept(settings, known or "", text or "")
    if value is not None:
        changed(settings, name, value)
    await session.ask(
        f"SELECT pgherd.put_keyspace_setting({literal(keyspace)}, {literal(name)}, {literal(value)})"
    )


async def set_balancing(session: Asking, arguments: Arguments) -> None:
    """CALL pgherd.set_balancing(setting, value); a value of NULL or 'default' forgets it."""
    name = arguments.text("setting").strip().lower()
    rows = await session.ask("SELECT name, value FROM pgherd.balance_settings")
    rules = read_rules({known or "": text or "" for known, text in rows if known != name})
    value = _value(arguments.values.get("value"))
    if value is not None:
        changed_rules(rules, name, value)
    await session.ask(f"SELECT pgherd.put_balance_setting({literal(name)}, {literal(value)})")


# ---- rebalance ---------------------------------------------------------------------------------------


async def rebalance(session: Asking, arguments: Arguments) -> None:
    """CALL pgherd.rebalance(dry_run): the whole plan; then its moves, one after the other. Who gives up watching ends it after the present one."""
    seen = await _seen(session)
    moves = plan_moves(picture(seen))
    session.work.notice(_summary(moves))
    dry = truth(arguments, "dry_run")
    for number, move in enumerate(moves, 1):
        session.work.notice(f"{number}. shard {move.shard} to group {move.to_group}: {move.reason}")
        if not dry:
            await _move(session, move, seen)


def _summary(moves: tuple[Move, ...]) -> str:
    if not moves:
        return "nothing to move: no move for which there is room would leave the groups clearly more even"
    total = sum(move.bytes for move in moves)
    seconds = total / COPY_BYTES_S * 1.6 + total / SCAN_BYTES_S + 4 * len(moves)
    return f"{len(moves)} moves, {sentence.size(total)} in all, about {sentence.seconds(seconds)}; each pauses writers of its shard for at most 200 ms"


async def _move(session: Asking, move: Move, seen: Seen) -> None:
    """One move, to its end. A shard that another workflow holds is passed over."""
    settings = {"origin": "rebalance", "keep_for_s": seen.rules.keep_for_s}
    try:
        number = await begin(_ask(session), move, seen.cluster, settings)
    except WrongState as error:
        session.work.notice(f"shard {move.shard} is passed over: {error.message}")
        return
    except ServerError as error:
        if error.code != "55006":
            raise
        session.work.notice(f"shard {move.shard} is passed over: {error.message}")
        return
    await watch(session, number)


async def _seen(session: Asking) -> Seen:
    try:
        return await read(_ask(session))
    except ServerError as error:
        if error.code != "42501":
            raise
        raise WrongState(
            "only a superuser may balance the whole cluster",
            hint="An owner of tables moves their shards: CALL pgherd.move(shard, group).",
        ) from error


def _ask(session: Asking) -> Callable[[GroupId, str], Awaitable[list[Row]]]:
    return session.elsewhere


# ---- drain -------------------------------------------------------------------------------------------


async def drain(session: Asking, arguments: Arguments) -> None:
    """CALL pgherd.drain(group): its shards move to others, by the controller; watches until it is empty. `stop`: no longer."""
    group = GroupId(arguments.number("group"))
    if group not in session.cluster.groups:
        raise BadSetting(f"there is no group {group}", hint="SELECT * FROM pgherd.groups shows them.")
    stop = truth(arguments, "stop")
    if len(session.cluster.groups) < 2 and not stop:
        raise BadSetting("there is no other group that could take the shards", hint="Add a group first.")
    await session.ask(f"SELECT pgherd.put_draining({int(group)}, {literal(not stop)})")
    if stop or ("wait" in arguments.values and not truth(arguments, "wait")):
        return
    await _drained(session, group)


async def _drained(session: Asking, group: GroupId) -> None:
    """Until the group holds no shard. Raises Cancelled if the user gives up watching: it goes on."""
    total, said = 0, 0
    while True:
        rows = await session.ask(
            f"SELECT (SELECT count(*) FROM pgherd.shards WHERE group_id = {int(group)}),"
            " (SELECT max(id) FROM pgherd.workflows WHERE state IN ('waiting', 'running')), coalesce("
            f" (SELECT draining FROM pgherd.group_settings WHERE group_id = {int(group)}), false)"
        )
        left = int(rows[0][0] or 0)
        total = max(total, left)
        if left == 0 or rows[0][2] not in ("t", "true", "True"):
            break
        if getattr(session.work.tx, "cancel_asked", False):
            raise Cancelled(
                f"watching group {group} was given up; it goes on being emptied",
                hint=f"CALL pgherd.drain({group}, stop => true) ends it.",
            )
        if total - left > said:
            said = total - left
            session.work.notice(f"group {group}: {left} shard{'' if left == 1 else 's'} to go")
        session.work.progress(f"draining group {group}", total - left, total)
        await asyncio.sleep(EVERY_S)
    session.work.notice(
        f"group {group} is empty; it gets no shards until CALL pgherd.drain({group}, stop => true)"
        if left == 0
        else f"draining group {group} was stopped, {left} shards are left"
    )


# ---- small things ------------------------------------------------------------------------------------


def _value(value: str | None) -> str | None:
    return None if value is None or value.strip().lower() == "default" else value.strip()


def _kept(settings: KeyspaceSettings, name: str, text: str) -> KeyspaceSettings:
    try:
        return changed(settings, name, text)
    except PgherdError:
        return settings  # another version's


REQUESTS: Final[Mapping[str, Request]] = {
    "set_keyspace": Request(("table", "setting", "value"), set_keyspace, more=("if_exists",)),
    "set_balancing": Request(("setting", "value"), set_balancing),
    "rebalance": Request(("dry_run",), rebalance),
    "drain": Request(("group", "stop"), drain, more=("wait",)),
}
