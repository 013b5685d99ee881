"""Which etcd a local cluster uses: the newest that is found; the doubtful versions are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgherd.deploy import etcd
from pgherd.errors import DeployError


def _program(directory: Path, version: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "etcd"
    path.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("version", "from_path"), [("3.6.4", True), ("3.4.20", False)])
def test_the_one_on_path_is_used_if_it_is_newer_than_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, from_path: bool
) -> None:
    monkeypatch.delenv("PGHERD_ETCD", raising=False)
    path = _program(tmp_path / version, version)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    assert (etcd.find().path == path) is from_path


def test_the_one_that_is_named_is_used_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _program(tmp_path / "old", "3.3.1")
    monkeypatch.setenv("PGHERD_ETCD", str(path))
    with pytest.raises(DeployError, match=r"is no etcd of version 3\.4 or later"):
        etcd.find()
    path = _program(tmp_path / "named", "3.5.21")
    monkeypatch.setenv("PGHERD_ETCD", str(path))
    assert etcd.find() == etcd.EtcdProgram(path, (3, 5, 21))


@pytest.mark.parametrize(
    ("version", "doubtful"), [((3, 4, 20), False), ((3, 5, 1), True), ((3, 5, 2), True), ((3, 5, 3), False)]
)
def test_versions_with_the_inconsistency_are_doubtful(version: etcd.Version, doubtful: bool) -> None:
    assert etcd.EtcdProgram(Path("etcd"), version).doubtful is doubtful
