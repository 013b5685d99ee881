"""CREATE TABLE: distributed (PARTITION BY RANGE or HASH) or single (everything else)."""

from __future__ import annotations

from typing import Any, Final

import postgast

from pgherd.catalog.ddl.change import Change, check_schema_name, dumps, name_of
from pgherd.catalog.ddl.rules import Placement, check_foreign_keys, check_key, place
from pgherd.catalog.model import KeyspaceId, Table
from pgherd.catalog.text import array, call, literal
from pgherd.errors import Refused, ServerError

_LIST: Final[int] = postgast.pg_query_pb2.PartitionStrategy.Value("PARTITION_STRATEGY_LIST")


async def create_table(change: Change) -> str:
    """CREATE TABLE, with the keyspace and the physical tables it needs."""
    tree = change.tree
    relation = tree.relation
    _refuse_shapes(tree)
    if relation.relpersistence == "t":
        await change.run_home(change.text)
        return "CREATE TABLE"
    if relation.schemaname:
        check_schema_name(relation.schemaname)
    before = await change.inspect(name=name_of(relation)) if tree.if_not_exists else {}
    shape = await run_and_inspect(change, name_of(relation))
    if before and before["schema"] == shape["schema"]:
        return "CREATE TABLE"  # there is one already; group 0 said so in a notice
    if shape["relkind"] == "p":
        await create_distributed(change, shape)
    else:
        await create_single(change, shape)
    return "CREATE TABLE"


async def run_and_inspect(change: Change, name: str) -> dict[str, Any]:
    """Run the user's text on group 0 and tell what the relation is now; refused unique constraints get a hint."""
    try:
        return await change.inspect(change.text, name=name)
    except ServerError as error:
        raise with_key_hint(error) from None


def with_key_hint(error: ServerError) -> ServerError:
    """Tell what to do about a unique or exclusion constraint that leaves the shard key out."""
    if error.code == "0A000" and "H" not in error.fields and "partition" in error.message:
        hint = "A unique constraint of a distributed table must include its shard key, as each shard can only check its own rows."
        return ServerError({**error.fields, "H": hint})
    return error


def _refuse_shapes(tree: Any) -> None:
    if tree.HasField("partbound"):
        raise Refused(
            "PARTITION OF is not supported",
            hint="pgherd makes the shards of a distributed table itself; CALL pgherd.split(...) cuts them.",
        )
    if tree.inh_relations:
        raise Refused(
            "table inheritance is not supported", hint="Use CREATE TABLE ... (LIKE parent INCLUDING ALL)."
        )
    if tree.HasField("partspec") and tree.partspec.strategy == _LIST:
        raise Refused(
            "PARTITION BY LIST is not supported for distributed tables",
            hint="Use PARTITION BY RANGE or PARTITION BY HASH.",
        )


def registration(placement: Placement, change: Change, shape: dict[str, Any]) -> list[str]:
    """The texts that put a distributed table, and its keyspace if that is new, into the map."""
    texts: list[str] = []
    if placement.shards:
        texts.append(_keyspace_text(placement, change))
    texts.append(
        call(
            "register_table",
            literal(shape["schema"]),
            literal(shape["name"]),
            "'distributed'",
            literal(placement.keyspace),
            array(placement.key),
        )
    )
    return texts


def _keyspace_text(placement: Placement, change: Change) -> str:
    shards = [
        {
            "id": change.next_shard + number, "group_id": shard.group, "range_start": shard.start,
            "range_end": shard.end, "modulus": shard.modulus, "remainder": shard.remainder,
        }
        for number, shard in enumerate(placement.shards)
    ]  # fmt: skip
    return call(
        "register_keyspace", str(change.next_keyspace), literal(placement.keyspace), literal(placement.strategy),
        array(placement.key_types), dumps(shards),
    )  # fmt: skip


async def create_distributed(change: Change, shape: dict[str, Any]) -> None:
    """Everything that follows once the template exists on group 0."""
    check_key(shape)
    placement = place(change.cluster, shape, change.work.groups)
    check_foreign_keys(change.cluster, shape, _as_table(change, shape, placement))
    sync = call("sync_table", literal(shape["schema"]), literal(shape["name"]))
    after = [*registration(placement, change, shape), sync, change.new_epoch()]
    await change.run_home(*after)
    template = await template_text(change, shape)
    await change.elsewhere(template, *after)


def _as_table(change: Change, shape: dict[str, Any], placement: Placement) -> Table:
    ids = {keyspace.name: keyspace.id for keyspace in change.cluster.keyspaces.values()}
    return Table(
        schema=shape["schema"], name=shape["name"], kind="distributed", key=placement.key,
        keyspace=ids.get(placement.keyspace, KeyspaceId(-1)),
    )  # fmt: skip


async def template_text(change: Change, shape: dict[str, Any]) -> str:
    """The text that makes the template in the other groups: the user's own, unless it copies a table that they may not have."""
    if any(element.HasField("table_like_clause") for element in change.tree.table_elts):
        rows = await change.run_home(call("table_text", literal(shape["schema"]), literal(shape["name"])))
        return rows[0][0] or ""
    return change.text


async def create_single(change: Change, shape: dict[str, Any]) -> None:
    """A table that exists on group 0: register it, and make it readable elsewhere as global.<name>."""
    me = Table(schema=shape["schema"], name=shape["name"], kind="single")
    check_foreign_keys(change.cluster, shape, me)
    await change.everywhere(*single_texts(shape), change.new_epoch())


def single_texts(shape: dict[str, Any]) -> list[str]:
    """The texts, for every group, that register a single table and make its global form."""
    schema, name = literal(shape["schema"]), literal(shape["name"])
    columns = [
        {key: column[key] for key in ("name", "type", "typmod", "collation", "not_null")}
        for column in shape["columns"]
    ]
    return [
        call("register_table", schema, name, "'single'", "NULL", "NULL", "false", "false"),
        call("sync_single", schema, name, dumps(columns)),
    ]
