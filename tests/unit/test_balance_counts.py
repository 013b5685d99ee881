"""How many shards a keyspace has in the eyes of a round: those that come count as well."""

from __future__ import annotations

from dataclasses import replace

from test_balance_decisions import ALPHABET, only, picture, rounds, shard

from pgherd.balance.picture import Running
from pgherd.catalog.model import GroupId, ShardId


def test_splits_that_run_count_as_shards() -> None:
    """Else a second one, begun meanwhile, would bring the keyspace beyond its bound."""
    running = Running(id=7, kind="split", shards=frozenset({ShardId(2)}), groups=frozenset({GroupId(1)}))
    seen = picture(
        shard(1, seconds=3.0, upper=("N",)), shard(2, 1, lower=("N",)), samples={1: ALPHABET}, shards_max=3
    )
    assert (
        only(rounds(replace(seen, running=(replace(running, groups=frozenset()),))).actions).kind == "split"
    )
    for seconds in (3.0, 0.6):  # for its load alone, and for the balance of the groups
        hot = (replace(seen.shards[0], seconds=seconds), seen.shards[1])
        made = rounds(replace(seen, shards=hot, running=(running,)))
        assert made.actions == ()
        (told,) = {nothing.reason for nothing in made.nothings if nothing.code == "shards_max"}
        assert told == "the keyspace has 3 shards, and shards_max is 3"
