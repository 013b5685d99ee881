"""The fixtures are pgherd's own plugin, the one that applications can use as well."""

from __future__ import annotations

from hypothesis import settings

# No example fails for its time: what else the machine does is not the code's doing.
settings.register_profile("pgherd", deadline=None)
settings.load_profile("pgherd")

pytest_plugins = ["pgherd.testing.plugin"]
