"""The simulator: what it reports is what happened, recordings replay, charts and drawings show it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from pgherd.balance.settings import GIB, KeyspaceSettings
from pgherd.cli.app import run as command
from pgherd.cli.why import lines, query
from pgherd.errors import BadSetting
from pgherd.simulate import charts, workloads
from pgherd.simulate.recorded import Recorded
from pgherd.simulate.run import Report, run
from pgherd.simulate.world import World


def world(name: str, *, groups: int = 5, shards: int = 60, days: float = 1.0, load: float = 3.0) -> World:
    made = workloads.make(name, shards=shards, days=days, load=load * groups, chance=Random(3))
    return World(made, groups=groups, shards=shards, seed=3)


def covered(made: World) -> None:
    """Every cell is in one shard."""
    pieces = sorted((shard.start, shard.end) for shard in made.shards.values())
    assert pieces[0][0] == 0 and pieces[-1][1] == len(made.workload.keys)
    assert all(left[1] == right[0] for left, right in pairwise(pieces))


@pytest.mark.parametrize("name", workloads.NAMES)
def test_a_run_ends_more_even_than_it_began(name: str) -> None:
    made = world(name)
    report = run(made, days=0.9)  # before the hot spot wanders off
    covered(made)
    assert report.after["load_balance"] < report.before["load_balance"]
    assert sum(hour.moved_bytes for hour in report.hours) == pytest.approx(made.moved_bytes)
    assert len(report.hours) == 22


def test_growing_keys_are_split_at_the_end() -> None:
    made = workloads.make("growing", shards=20, days=4.0, load=1.0, chance=Random(1))
    grown = World(made, groups=2, shards=20, seed=1, settings=KeyspaceSettings(size_max=3 * GIB))
    report = run(grown, days=4.0)
    covered(grown)
    assert report.reasons["split grows"] >= 1, report.reasons


def test_surnames_that_become_busy_are_split() -> None:
    report = run(world("surnames", days=2.0, load=4.0), days=2.0)
    assert report.reasons["split too_hot"] > 0
    assert sum(hour.splits for hour in report.hours[24:36]) > 0
    assert report.hours[-1].load_balance < 1.25


# fmt: off
RECORDING = [
    json.dumps({"key_types": ["text"]}),
    *(
        json.dumps(
            {
                "at": 1000 + 60 * minute,
                "shard": shard,
                "range_start": [start] if start else None,
                "range_end": [end] if end else None,
                "bytes": GIB,
                "load": {
                    "n": 100.0,
                    "s": busy * 10,
                    "w": 0,
                    "k": 0,
                    "a": 0,
                    "t": 10.0,
                    "e": 0.01,
                    "m": [[3, start or "A"], [5, (start or "A") + "m"]],
                },
            }
        )
        for minute in range(2)
        for shard, start, end, busy in ((1, None, "H", 0.1), (2, "H", "P", 1.0 + minute), (3, "P", None, 0.1))
    ),
]
# fmt: on


def test_a_recording_is_replayed() -> None:
    made = Recorded(RECORDING)
    assert made.key_types == ("text",)
    bounds = [0, *made.bounds(3), len(made.keys)]
    use = made.use(70.0)
    parts = [use.load[end] - use.load[start] for start, end in pairwise(bounds)]
    assert parts == pytest.approx([0.1005, 2.0005, 0.1005])
    assert use.bytes[-1] == pytest.approx(3 * GIB)
    assert made.use(130.0).load == made.use(10.0).load  # from its beginning again
    replayed = World(made, groups=2, shards=3, seed=1)
    run(replayed, days=0.05)
    covered(replayed)


@pytest.mark.parametrize("spoilt", [[], ["nonsense"], [RECORDING[0], '{"at": 1}'], [RECORDING[0], "[]"]])
def test_what_is_no_recording_is_refused(spoilt: list[str]) -> None:
    with pytest.raises(BadSetting):
        Recorded(spoilt)


@pytest.fixture(scope="module")
def report() -> Report:
    return run(world("hotspot"), days=0.5)


def test_charts_show_each_series(report: Report) -> None:
    text = "\n".join(charts.lines(report))
    for title in ("load of the fullest group", "moved per hour", "splits per hour", "decisions"):
        assert title in text
    assert charts.blocks([1.0, 2.0, 3.0], 1.0) == " ▄█"
    assert charts.blocks([0.0, 0.0], 0.0) == "  "
    assert len(charts.blocks([1.0] * 1000, 0.0)) == charts.COLUMNS


def test_the_drawing_is_well_formed(report: Report) -> None:
    root = ElementTree.fromstring(charts.svg(report, "<5 groups> & more"))
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path[@fill='#3b6ea5']")) == len(
        charts.series(report)
    )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "simulate",
        "--groups",
        "3",
        "--shards",
        "20",
        "--days",
        "0.1",
        "--workload",
        "surnames",
        "--json",
    ]
    assert command([*words, "--plot", str(tmp_path / "plot.svg")]) == 0
    first = json.loads(capsys.readouterr().out)
    assert command(words) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    assert command([*words, "--round", "1800"]) == 0
    seldom = json.loads(capsys.readouterr().out)
    assert seldom["rounds"] < first["rounds"]
    recording = tmp_path / "recording"
    recording.write_text("\n".join(RECORDING))
    assert command(["simulate", "--days", "0.05", "--workload", "recorded", str(recording), "--json"]) == 0
    assert command(["simulate", "--workload", "nonsense"]) == 1
    assert "There are: zipf" in capsys.readouterr().err
    assert command(["simulate", "--set", "size_max=tiny"]) == 1


def test_why_tells_the_log() -> None:
    row = {"at": "2026-01-01 12:00:00", "kind": "nothing", "keyspace": "users", "shard": 7, "from_group": 1,
           "code": "hot_key", "reason": "one key takes 80 % of the load", "workflow": None}  # fmt: skip
    assert lines(7, [row]) == [
        "2026-01-01 12:00:00  shard 7 left as it is (hot_key)",
        "    one key takes 80 % of the load",
    ]
    assert lines(None, [row | {"shard": None, "kind": "move", "workflow": 3}])[0].endswith(
        "group 1 moved (hot_key, workflow 3)"
    )
    assert lines(7, [])[0].startswith("Nothing has been decided about shard 7 yet")
    assert "SELECT 7 UNION" in query(7, 5) and "LIMIT 5" in query(7, 5)
    assert "l.keyspace = 'it''s'" in query(None, 5, "it's")
