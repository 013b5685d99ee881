"""Whether and where to split one shard that is too large, too hot, or in the way of balance."""

from __future__ import annotations

from typing import Any, Final

from pgherd.balance import sentence
from pgherd.balance.decision import Nothing, Split, SplitCode, left_alone
from pgherd.balance.picture import KeySample, KeyspacePicture, Picture, ShardPicture
from pgherd.balance.points import Cut, cut_hash, cut_range, end_point, mixed
from pgherd.catalog.model import Key

GROWS: Final = 0.8  # so much of the written keys above all before: keys only grow
_EMPTY: Final = KeySample()


def grows(shard: ShardPicture) -> bool:
    """Whether the shard is the one at the end of keys that only grow."""
    return shard.upper is None and shard.modulus == 0 and shard.appended >= GROWS


def split(picture: Picture, shard: ShardPicture, *, balance: str = "") -> Split | Nothing:
    """What a split would do for a shard above a limit, or (`balance` is "load" or "bytes") of a group that has too much.

    Whether it may be split now (settings, window, cool-down, busy groups) is not asked here.
    """
    keyspace = picture.keyspaces[shard.keyspace]
    limits = keyspace.settings
    figures: dict[str, Any] = {
        "bytes": shard.bytes,
        "size_max": limits.size_max,
        "load": round(shard.load, 4),
    }
    figures |= {"load_max": limits.load_max, "statements": round(shard.statements, 1)}
    large, hot = shard.bytes > limits.size_max, shard.load > limits.load_max
    code: SplitCode = "too_large" if large else "too_hot" if hot else "to_balance"
    if grows(shard):
        if large:
            return _at_end(keyspace, shard, figures)
        at_end = shard.write_share * shard.appended
        if at_end >= 0.5 and (hot or balance == "load"):
            return _hot_end(shard, figures, at_end)
    by_load = balance == "load" or (hot and not large)
    factor = _load_factor(keyspace, shard, by_load=by_load, by_size=balance == "bytes")
    if keyspace.strategy == "hash":
        return _split_hash(picture, shard, code, figures, by_load=by_load)
    return _split_range(picture, shard, code, figures, factor)


def _load_factor(keyspace: KeyspacePicture, shard: ShardPicture, *, by_load: bool, by_size: bool) -> float:
    """How much halving the load counts, against halving the rows: 1 for a shard that is only hot."""
    if by_load or by_size:
        return 1.0 if by_load else 0.0
    load = shard.load / keyspace.settings.load_max
    size = shard.bytes / keyspace.settings.size_max
    return load / (load + size) if load + size > 0 else 0.0


def _above(keyspace: KeyspacePicture, shard: ShardPicture, code: SplitCode) -> str:
    limits = keyspace.settings
    parts: list[str] = []
    if shard.bytes > limits.size_max:
        parts.append(f"{sentence.size(shard.bytes)} is more than {sentence.size(limits.size_max)}")
    if shard.load > limits.load_max:
        parts.append(f"a load of {sentence.load(shard.load)} is more than {sentence.load(limits.load_max)}")
    return " and ".join(parts) or "its group has more than its part, and no whole shard of it fits elsewhere"


def _split_range(
    picture: Picture, shard: ShardPicture, code: SplitCode, figures: dict[str, Any], factor: float
) -> Split | Nothing:
    keyspace = picture.keyspaces[shard.keyspace]
    load = picture.load_samples.get(shard.id, _EMPTY)
    rows = picture.row_samples.get(shard.id, _EMPTY)
    least = picture.rules.sample_min
    use_load, use_rows = len(load.keys) >= least, len(rows.keys) >= 2
    if factor == 1.0 and not use_load:
        return left_alone(shard, "thin_sample", _thin(len(load.keys), least), figures)
    if not use_load and not use_rows:
        text = "no sample of its keys is known yet, so no point to split at"
        return left_alone(shard, "no_sample", f"{_above(keyspace, shard, code)}, but {text}", figures)
    factor = 1.0 if not use_rows else factor if use_load else 0.0
    cut = cut_range(shard, mixed(((load, factor), (rows, 1.0 - factor)), shard))
    figures |= _cut_figures(keyspace, cut)
    of = "load" if factor >= 0.5 else "rows"
    if cut.at is None or cut.side > picture.rules.side_max:
        return _helpless(keyspace, shard, cut, figures, of)
    shown = sentence.key(keyspace.key_types, cut.at)
    side = sentence.percent(cut.side)
    reason = f"{_above(keyspace, shard, code)}: split at {shown}, which leaves {side} of the {of} on the heavier side"
    return _split(shard, cut.at, cut.right, code, reason, figures)


def _split_hash(
    picture: Picture, shard: ShardPicture, code: SplitCode, figures: dict[str, Any], *, by_load: bool
) -> Split | Nothing:
    keyspace = picture.keyspaces[shard.keyspace]
    sample, right = picture.load_samples.get(shard.id, _EMPTY), 0.5
    if by_load and len(sample.keys) < picture.rules.sample_min:
        return left_alone(shard, "thin_sample", _thin(len(sample.keys), picture.rules.sample_min), figures)
    if by_load:
        cut = cut_hash(shard, keyspace.key_types, sample)
        figures |= _cut_figures(keyspace, cut)
        right = cut.right
        if cut.side > picture.rules.side_max:
            return _helpless(keyspace, shard, cut, figures, "load")
    figures["modulus"] = 2 * shard.modulus
    reason = f"{_above(keyspace, shard, code)}: its modulus goes from {shard.modulus} to {2 * shard.modulus}, which halves it"
    return _split(shard, None, right, code, reason, figures)


def _at_end(keyspace: KeyspacePicture, shard: ShardPicture, figures: dict[str, Any]) -> Split | Nothing:
    at = end_point(shard, keyspace.key_types)
    if at is None:
        return left_alone(shard, "no_point", "keys only grow, but none of them was seen lately", figures)
    shown = sentence.key(keyspace.key_types, at)
    figures |= {"at": shown, "appended": round(shard.appended, 3)}
    reason = (
        f"{sentence.size(shard.bytes)} is more than {sentence.size(keyspace.settings.size_max)} and keys only grow: "
        f"split at the end, at {shown}; the right part is empty and takes the new rows"
    )
    return _split(shard, at, 0.0, "grows", reason, figures)


def _hot_end(shard: ShardPicture, figures: dict[str, Any], at_end: float) -> Nothing:
    text = (
        f"keys only grow, and {sentence.percent(at_end)} of the statements write at the end: "
        "a split would move that load, not divide it; a hash keyspace divides it"
    )
    return left_alone(shard, "hot_end", text, figures | {"at_end": round(at_end, 3)})


def _helpless(
    keyspace: KeyspacePicture, shard: ShardPicture, cut: Cut, figures: dict[str, Any], of: str
) -> Nothing:
    if cut.hottest is None or (cut.at is not None and cut.hottest_share < 0.5):
        text = f"the best point leaves {sentence.percent(cut.side)} of the {of} on one side: a split does not help"
        return left_alone(shard, "no_point", text, figures)
    way_out = (
        "use a composite key, so that it can be divided by the next column"
        if len(keyspace.key_types) == 1
        else "its rows cannot be divided further; spread what the statements do over more keys"
    )
    shown = sentence.key(keyspace.key_types, cut.hottest)
    text = f"one key, {shown}, takes {sentence.percent(cut.hottest_share)} of the {of}: a split cannot help; {way_out}"
    return left_alone(shard, "hot_key", text, figures)


def _thin(count: int, least: int) -> str:
    return f"only {count} keys were sampled of the {least} that a point needs: waits for more statements"


def _cut_figures(keyspace: KeyspacePicture, cut: Cut) -> dict[str, Any]:
    def shown(key: Key | None) -> str | None:
        return None if key is None else sentence.key(keyspace.key_types, key)

    found: dict[str, Any] = {"at": shown(cut.at), "side": round(cut.side, 4)}
    return found | {"hottest": shown(cut.hottest), "hottest_share": round(cut.hottest_share, 4)}


def _split(
    shard: ShardPicture, at: Key | None, right: float, code: SplitCode, reason: str, figures: dict[str, Any]
) -> Split:
    return Split(
        keyspace=shard.keyspace, shard=shard.id, group=shard.group, to_group=shard.group, at=at, right_share=round(right, 4),
        code=code, reason=reason, figures=figures,
    )  # fmt: skip
