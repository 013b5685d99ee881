"""The command `pgherd`. Each command is a module of its own with a function `register(app)`."""

from __future__ import annotations


def main() -> None:
    """Run the command line and leave with its exit code: 0, 1 for an error, 2 for wrong usage."""
    from pgherd.cli.app import run  # here: `import pgherd.cli` alone shall cost nothing

    raise SystemExit(run())
