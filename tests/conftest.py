"""The fixtures are pgherd's own plugin, the one that applications can use as well."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No example fails for its time: what else the machine does is not the code's doing.
settings.register_profile("pgherd", deadline=None)
settings.load_profile("pgherd")

pytest_plugins = ["pgherd.testing.plugin"]


# Long runs of workflows under traffic and faults: on a machine that does other work as well some of them fail (docs/resharding.md).
ELASTIC: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make elastic` runs them."""
    if "PGHERD_ELASTIC" in os.environ:
        return
    skip = pytest.mark.skip(reason="long, or sensitive to load: make elastic")
    for item in items:
        if item.path.stem in ELASTIC:
            item.add_marker(skip)
