"""From a plan's key sources to the shard: the last, cheap step of routing, with the parameters at hand.

`locate` is pure and answers nearly always. A value that Python does not understand as PostgreSQL would
(`keys.Undecodable`) is put into canonical form by a server first: `locate_slowly`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.catalog import keys
from pgherd.catalog.model import Key, Keyspace, Shard
from pgherd.engine.link import Params
from pgherd.engine.work import Work, quoted
from pgherd.errors import BadKey, NoShard, NullKey
from pgherd.plan.plans import Const, Param, Single

KeyOf = Param | Const


def key_of(sources: Sequence[KeyOf], params: Params, keyspace: Keyspace) -> Key | None:
    """The canonical key, or None if a column of it is NULL. Raises keys.Undecodable, errors.BadKey."""
    values = tuple(
        _value(source, params, kind) for source, kind in zip(sources, keyspace.key_types, strict=True)
    )
    return None if None in values else values


def _value(source: KeyOf, params: Params, kind: str) -> object:
    if isinstance(source, Param):
        return params.key(source.number, kind)
    return None if source.text is None else keys.decode_text(kind, source.text)


def shard_of(key: Key | None, keyspace: Keyspace, *, inserts: bool) -> Shard:
    """The shard for a key. A read with a NULL key, or one outside all ranges, finds nothing in any shard: the first will do."""
    if key is None:
        if inserts:
            raise NullKey("null value in the shard key", hint="Give every column of the shard key a value.")
        return keyspace.shards[0]
    shard = keyspace.locate(key)
    if shard is not None:
        return shard
    if inserts:
        raise NoShard(f"no shard of keyspace {keyspace.name} holds key {shown(key, keyspace)}")
    return keyspace.shards[0]


def shown(key: Key, keyspace: Keyspace) -> str:
    """The key as people read it."""
    return (
        "("
        + ", ".join(
            keys.encode_text(kind, value) for kind, value in zip(keyspace.key_types, key, strict=True)
        )
        + ")"
    )


def locate(plan: Single, params: Params, keyspace: Keyspace) -> Shard:
    """The shard that a single-shard plan goes to. Raises keys.Undecodable, NullKey, NoShard, BadKey."""
    return shard_of(key_of(plan.key, params, keyspace), keyspace, inserts=plan.tag == "INSERT")


async def locate_slowly(plan: Single, params: Params, keyspace: Keyspace, work: Work) -> Shard:
    """As `locate`, but a server reads what Python cannot."""
    try:
        return locate(plan, params, keyspace)
    except keys.Undecodable:
        pass
    values: list[object] = []
    for source, kind in zip(plan.key, keyspace.key_types, strict=True):
        try:
            values.append(_value(source, params, kind))
        except keys.Undecodable:
            values.append(await _canonical(source, kind, params, work))
    key = None if None in values else tuple(values)
    return shard_of(key, keyspace, inserts=plan.tag == "INSERT")


async def _canonical(source: KeyOf, kind: str, params: Params, work: Work) -> object:
    if isinstance(source, Param):
        text = await evaluated(f"$1::{kind}", params.select((source.number,)), work)
    else:
        text = await evaluated(f"{quoted(source.text)}::{kind}", work.nothing, work)
    return canonical(kind, text)


def canonical(kind: str, text: str | None) -> object:
    """The canonical value of what a server printed, None for NULL."""
    try:
        return None if text is None else keys.decode_text(kind, text)
    except keys.Undecodable as error:
        raise BadKey(f"value {text!r} of type {kind} cannot be used as a shard key") from error


async def evaluated(sql: str, params: Params, work: Work) -> str | None:
    """What a server makes of an expression without columns, as text."""
    link = await work.tx.branch(work.somewhere, write=False)
    answer = await link.texts(f"SELECT ({sql})::text", params)
    return answer.rows[0][0]
