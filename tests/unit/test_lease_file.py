"""The lease's file: whole or not at all, 0 when there is none, and never in an empty data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.deploy.lease import Lease


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    (tmp_path / "PG_VERSION").write_text("18\n")
    return Lease(tmp_path)


def test_it_ends_when_it_says(lease: Lease) -> None:
    assert lease.until() == 0
    lease.extend(1_800_000_000.25)
    assert lease.until() == 1_800_000_000.25
    assert lease.path.read_text() == "1800000000250\n"
    lease.end()
    assert lease.until() == 0
    assert lease.path.read_text() == "0000000000000\n"  # node_state() tells 0 from no file at all


def test_an_empty_directory_stays_empty(tmp_path: Path) -> None:
    Lease(tmp_path).extend(1_800_000_000)
    Lease(tmp_path).end()
    assert list(tmp_path.iterdir()) == []


def test_without_space_for_a_new_file_it_is_written_in_place(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease.extend(1_800_000_000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    lease.extend(1_800_000_001)
    assert lease.until() == 1_800_000_001
