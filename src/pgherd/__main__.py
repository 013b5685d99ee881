"""`python -m pgherd` is the command `pgherd`."""

from __future__ import annotations

from pgherd.cli import main

if __name__ == "__main__":
    main()
