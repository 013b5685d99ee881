"""The fixtures are pgherd's own plugin, the one that applications can use as well."""

pytest_plugins = ["pgherd.testing.plugin"]
