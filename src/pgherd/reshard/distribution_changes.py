"""The short distributed transactions of a table's change of kind. Each is a cutover: it fits into its budget, or nothing has happened.

None of them copies a row. What makes readers and writers wait is done last, behind a lock on the table's real parts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pgherd.catalog.ddl.change import HOME, Change, begin
from pgherd.catalog.ddl.rules import check_foreign_keys, check_key
from pgherd.catalog.ddl.tables import registration, single_texts
from pgherd.catalog.ddl.views import rebuild_views
from pgherd.catalog.model import GroupId, KeyspaceId, Table, physical_schema
from pgherd.catalog.store import load
from pgherd.catalog.text import array, call, literal, qualified
from pgherd.engine.link import Link
from pgherd.errors import GroupsChanged, PgherdError, Refused, ServerError
from pgherd.reshard import records
from pgherd.reshard.cutover import COMMIT_PART, Changed, TooBusy, TryLater, commit, pause_after
from pgherd.reshard.distribution_model import Goal, Order, goal, pairs, same
from pgherd.reshard.model import Piece
from pgherd.reshard.passing import HINDERED
from pgherd.reshard.running import Run, no_point
from pgherd.transaction import deadlock
from pgherd.transaction.coordinator import Transaction
from pgherd.transaction.perform import nothing
from pgherd.transaction.snapshot import Gates
from pgherd.transaction.two_phase import Protocol

OUTER_LOCK_MS = 1000
SETTINGS = f"SET LOCAL lock_timeout = {OUTER_LOCK_MS}; SET LOCAL deadlock_timeout = '20ms'; SET LOCAL row_security = off; {deadlock.yielding()}"


class Cut:
    """One transaction under way: a `Workspace`. `fence` starts the clock, and everything after it is bounded by the budget."""

    def __init__(self, run: Run, transaction: Transaction) -> None:
        self.run, self.transaction = run, transaction
        self.began: float | None = None

    @property
    def groups(self) -> tuple[GroupId, ...]:
        return self.run.places.groups

    async def branch(self, group: GroupId, *, write: bool = True) -> Link:
        return await self.transaction.branch(group, write=write)

    def notice(self, text: str, /) -> None:
        del text

    def progress(self, what: str, done: int, total: int, /) -> None:
        del what, done, total

    @property
    def budget_s(self) -> float:
        return self.run.workflow.limits.max_pause_ms / 1000 * (1 - COMMIT_PART)

    async def fence(
        self, change: Change, tables: Mapping[GroupId, list[str]], whole: Mapping[GroupId, str] | None = None
    ) -> None:
        """Lock real tables. From here on writers wait. In between, when writers have gone, the texts of `whole` run: writers to a hash shard
        lock the whole table after it, readers of the whole table lock the shards after that, in other groups too."""
        await self.run.point("cutover: before the lock")
        self.began = self.began or time.monotonic()
        left = max(int((self.began + self.budget_s - time.monotonic()) * 500), 1)
        for mode in ("EXCLUSIVE", "ACCESS EXCLUSIVE"):
            for group, names in sorted(tables.items()):
                lock = f"LOCK TABLE {', '.join(f'ONLY {name}' for name in names)} IN {mode} MODE"
                await change.run(
                    (group,),
                    f"SET LOCAL lock_timeout = {left}; {lock}; SET LOCAL lock_timeout = {OUTER_LOCK_MS}",
                )
            if whole and mode == "EXCLUSIVE":
                await change.run(whole, lambda group: f"SET LOCAL lock_timeout = {left}; {whole[group]}")
        await self.run.point("cutover: locked")

    def check(self) -> None:
        """Raises TryLater when the budget is used up."""
        if self.began is not None and time.monotonic() - self.began > self.budget_s:
            raise TryLater("the switch took too long")


Body = Callable[[Cut, Change], Awaitable[dict[str, Any]]]


async def carry_out(run: Run, step: str, body: Body) -> None:
    """Run `body` in a distributed transaction with the map locked, which also records `step` as done, with the columns that `body` answers.

    Tried until it fits into the budget. Raises Stopped, TooBusy, Changed, Refused.
    """
    gates = Gates(run.places)
    try:
        for number in range(1, run.workflow.limits.tries + 1):
            run.check()
            try:
                pause_ms = await _attempt(run, step, body, gates)
            except TryLater as reason:
                await run.progress(now=True, tries=number, waiting_for=str(reason))
                await asyncio.sleep(pause_after(reason, number))
                continue
            async with run.places.link(HOME) as link:
                run.workflow = await records.load(link, run.workflow.id)
            worst = max(pause_ms, float(run.workflow.memory.get("pause_ms", 0)))
            await run.remember(pause_ms=worst)
            await run.note(pause_ms=worst)
            return
        raise TooBusy(f"no switch within {run.workflow.limits.max_pause_ms} ms was possible")
    finally:
        await gates.close()


async def _attempt(run: Run, step: str, body: Body, gates: Gates) -> float:
    cluster = await run.places.refresh()

    async def on_step(when: str, protocol: Protocol) -> None:
        await run.point(f"commit: {when} {protocol.phase.name.lower()}")

    transaction = Transaction(
        run.places, run.places.groups, gates=gates, on_step=nothing if run.point is no_point else on_step
    )
    cut = Cut(run, transaction)
    try:
        change = await begin(cut, None, cluster, ("public",))
        await change.everywhere(SETTINGS)
        found = await body(cut, change)
        await change.everywhere(
            f"DELETE FROM pgherd.moving WHERE workflow = {run.workflow.id}", change.new_epoch()
        )
        await change.run_home(records.update(run.workflow.id, step=step, **found))
        cut.check()
        await run.point("cutover: before the commit")
    except BaseException as error:
        await transaction.rollback()
        if isinstance(error, ServerError) and error.code in HINDERED:
            raise TryLater(error.message) from error
        if isinstance(error, GroupsChanged):  # the next try reads the map anew
            raise TryLater(error.message) from error
        raise
    await commit(run, transaction, step)
    return 0.0 if cut.began is None else round((time.monotonic() - cut.began) * 1000, 1)


# ---- single to distributed -------------------------------------------------------------------------------


async def shape_of(change_or_links: Any, order: Order, side: str) -> dict[str, Any]:
    """What pgherd.inspect() will say of the template: the table's own, with the strategy and key of the whole table of `side`."""
    ask = change_or_links
    root = qualified(physical_schema(side, order.schema), order.name)
    rows = await ask(
        f"SELECT pgherd.inspect(to_regclass({literal(order.full_name)})), pgherd.inspect(to_regclass({literal(root)}))"
    )
    mine, whole = (json.loads(value or "{}") for value in rows[0])
    if not mine or not whole:
        raise Changed(f"table {order.full_name} was changed meanwhile")
    return {**mine, "strategy": whole["strategy"], "key": whole["key"]}


def checked(goal_: Goal, change_map: Any, shape: dict[str, Any]) -> None:
    """Refuse what a distributed table cannot have. Raises Refused."""
    check_key(shape)
    me = Table(
        schema=shape["schema"],
        name=shape["name"],
        kind="distributed",
        key=goal_.first.key,
        keyspace=KeyspaceId(-1),
    )
    check_foreign_keys(change_map, shape, me)


async def text_of(ask: Any, order: Order) -> str:
    """The statements that make the template."""
    text = (await ask(call("table_text", order.both, literal(order.partition))))[0][0] or ""
    drop = f"ALTER TABLE {order.full_name} DROP CONSTRAINT IF EXISTS pgherd_bound"
    flags = await ask(
        f"SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = {literal(order.full_name)}::regclass"
    )
    for on, word in zip(flags[0], ("ENABLE", "FORCE"), strict=True):
        if on == "t":
            drop += f"; ALTER TABLE {order.full_name} {word} ROW LEVEL SECURITY"
    return f"SET LOCAL client_min_messages = warning; {text}; {drop}"


async def adopt(run: Run, order: Order, side: str) -> None:
    """The table becomes the only shard of a keyspace of its own, in group 0, where it is; a template takes its name."""

    async def body(cut: Cut, change: Change) -> dict[str, Any]:
        table = change.cluster.tables.get((order.schema, order.name))
        if table is None or table.kind != "single":
            raise Refused(f'"{order.name}" is not a single table any more')
        shape = await shape_of(change.run_home, order, side)
        aim = goal(change.cluster, shape, cut.groups, order.shards)
        checked(aim, change.cluster, shape)
        text = await text_of(change.run_home, order)
        if text != run.workflow.memory.get("text"):
            raise Changed(f"table {order.full_name} was changed meanwhile")
        shard = change.next_shard
        gone = call("drop_relation", literal(physical_schema("global", order.schema)), literal(order.name))
        register = registration(aim.first, change, shape)
        sync = call("sync_table", order.both)
        await change.elsewhere(gone, text, *register, sync)
        await change.run_home(gone)
        await cut.fence(change, {HOME: [order.full_name]})
        await change.run_home(call("become_shard", order.both, str(shard)), text, *register)
        await change.run_home(call("join_global", literal(side), order.both, str(shard)), sync)
        await change.run_home(call("veil", order.both))
        memory = {
            **run.workflow.memory,
            "keyspace": aim.first.keyspace,
            "joins": aim.joins,
            "layout": [piece.row() for piece in aim.layout],
        }
        return {"memory": memory, "keyspace": aim.first.keyspace}

    await carry_out(run, "adopt", body)


# ---- from one keyspace to another ----------------------------------------------------------------------------


async def pieces_of(ask: Any, keyspace: str) -> tuple[Piece, ...]:
    """The shards of a keyspace as they are."""
    rows = await ask(
        f"SELECT to_jsonb(s) FROM pgherd.shards s WHERE keyspace = {literal(keyspace)} ORDER BY id"
    )
    return tuple(Piece.read(json.loads(row[0] or "{}")) for row in rows)


class NotAlike(PgherdError):
    """The two keyspaces do not lie alike (any more): the shards have to be spread again."""

    sqlstate = "55006"


async def join(run: Run, order: Order, target: str) -> None:
    """The table's shards, which lie as those of the keyspace `target`, join it. Raises NotAlike."""

    async def body(cut: Cut, change: Change) -> dict[str, Any]:
        table = change.cluster.tables[order.schema, order.name]
        old = change.cluster.keyspace_of(table).name
        have, wanted = await pieces_of(change.run_home, old), await pieces_of(change.run_home, target)
        if not same(have, wanted):
            raise NotAlike(f"the shards of {target} have changed")
        await _rehome(cut, change, order, have, target, pairs(have, wanted))
        return {"keyspace": target}

    await carry_out(run, "join", body)


async def part(run: Run, order: Order) -> None:
    """A table that shares its keyspace gets one of its own, with the same bounds in the same groups."""

    async def body(cut: Cut, change: Change) -> dict[str, Any]:
        table = change.cluster.tables[order.schema, order.name]
        keyspace = change.cluster.keyspace_of(table)
        if not any(t.keyspace == table.keyspace and t is not table for t in change.cluster.tables.values()):
            return {"keyspace": keyspace.name}
        have = await pieces_of(change.run_home, keyspace.name)
        taken = {other.name for other in change.cluster.keyspaces.values()}
        name = next(
            name
            for name in (order.name, *(f"{order.name}_{number}" for number in range(2, 10_000)))
            if name not in taken
        )
        rows = [{**piece.row(), "id": change.next_shard + at} for at, piece in enumerate(have)]
        register = call(
            "register_keyspace", str(change.next_keyspace), literal(name), literal(keyspace.strategy),
            array(keyspace.key_types), f"{literal(json.dumps(rows))}::jsonb",
        )  # fmt: skip
        await change.everywhere(register)
        await _rehome(
            cut,
            change,
            order,
            have,
            name,
            [(int(piece.id), row["id"]) for piece, row in zip(have, rows, strict=True)],
        )
        return {"keyspace": name}

    await carry_out(run, "part", body)


async def _rehome(
    cut: Cut,
    change: Change,
    order: Order,
    have: tuple[Piece, ...],
    target: str,
    numbers: list[tuple[int, int]],
) -> None:
    whole = qualified(physical_schema("global", order.schema), order.name)
    view = qualified(physical_schema("here", order.schema), order.name)
    close = f"LOCK TABLE ONLY {whole} IN ACCESS EXCLUSIVE MODE; DROP VIEW IF EXISTS {view} CASCADE"
    mine: dict[GroupId, list[str]] = {}
    for piece in have:
        name = qualified(physical_schema(f"shard_{piece.id}", order.schema), order.name)
        mine.setdefault(piece.group, []).append(name)
    await cut.fence(change, mine, dict.fromkeys(cut.groups, close))
    await change.everywhere(
        call("rehome", order.both, literal(target), f"{literal(json.dumps(numbers))}::jsonb")
    )


# ---- distributed to single -------------------------------------------------------------------------------


async def release(run: Run, order: Order) -> None:
    """The only shard, in group 0, becomes the single table; the template goes. Raises NotAlike if there are more."""
    highest = await _highest(run, order)

    async def body(cut: Cut, change: Change) -> dict[str, Any]:
        table = change.cluster.tables[order.schema, order.name]
        shards = change.cluster.keyspace_of(table).shards
        if len(shards) != 1 or shards[0].group != HOME:
            raise NotAlike("the table has shards elsewhere again")
        shard = shards[0].id
        owner = (
            await change.run_home(
                f"SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = {literal(order.full_name)}::regclass"
            )
        )[0][0]
        whole = qualified(physical_schema("global", order.schema), order.name)
        view = qualified(physical_schema("here", order.schema), order.name)
        await change.elsewhere(call("forget", order.both))
        close = f"LOCK TABLE ONLY {whole} IN ACCESS EXCLUSIVE MODE; DROP VIEW IF EXISTS {view} CASCADE"
        name = qualified(physical_schema(f"shard_{shard}", order.schema), order.name)
        await cut.fence(change, {HOME: [name]}, {HOME: close})
        await change.run_home(
            call("become_single", order.both, str(shard), f"{literal(json.dumps(highest))}::jsonb")
        )
        shape = await change.inspect(name=order.full_name)
        await change.everywhere(*single_texts(shape))
        mine = f'"{(owner or "").replace(chr(34), chr(34) * 2)}"'
        await change.run_home(f"ALTER VIEW {whole} OWNER TO {mine}")
        await change.elsewhere(f"ALTER FOREIGN TABLE {whole} OWNER TO {mine}")
        change.cluster = await load(change.home)
        await rebuild_views(change)
        return {"keyspace": ""}

    await carry_out(run, "release", body)


async def _highest(run: Run, order: Order) -> dict[str, int]:
    """The highest values of columns that number themselves, so that a sequence can go on above them."""
    names = await run.places.ask(
        HOME,
        f"SELECT quote_ident(attname), attname FROM pg_attribute WHERE attrelid = {literal(order.full_name)}::regclass AND attnum > 0"
        " AND NOT attisdropped AND pgherd.is_generated_id(attrelid, attnum)",
    )
    whole = qualified(physical_schema("global", order.schema), order.name)
    found: dict[str, int] = {}
    for quoted, name in names:
        rows = await run.places.ask(HOME, f"SELECT max({quoted}) FROM {whole}")
        found[name or ""] = int(rows[0][0] or 0)
    return found
