"""The benchmarks run: two cheap items, quickly. What they find means nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.contest import ratios
from bench.figures import Aim, Reached

ROOT = Path(__file__).parents[2]


def test_quick_run(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    words = ["--quick", "--seconds", "0.1", "--only", "client", "--only", "memory", "--json", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(target.read_text())
    names = {(figure["item"], figure["name"]) for figure in report["figures"]}
    assert {("client", "point read"), ("client", "point update"), ("memory", "per idle connection")} <= names
    read = report["figures"][0]
    assert read["ratios"]["asyncpg prepared"] > 0
    for reached in read["reached"].values():
        assert reached["median"] > 0
        assert reached["cpu_us"]["server"] > 0
    assert "point read" in done.stdout
    assert report["machine"]["postgresql"]


def test_ratios_pair_the_rounds() -> None:
    ours = Reached(median=20, rounds=(10, 20, 90))
    other = Reached(median=20, rounds=(20, 20, 30))
    assert ratios({"ours": ours, "other": other}) == {"other": 1.0}


def test_an_aim_is_met_at_its_bound() -> None:
    assert Aim(against="x", least=0.8).met(0.8)
    assert not Aim(against="x", least=0.8).met(0.79)
    assert Aim(against="x", most=1.0).met(1.0)
    assert not Aim(against="x", most=1.0).met(1.01)
