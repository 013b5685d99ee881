"""`python -m pgherd.gateway --config FILE`: a gateway in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from pgherd.errors import PgherdError
from pgherd.gateway.server import serve
from pgherd.gateway.settings import load


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="pgherd.gateway", description="Run a pgherd gateway in the foreground."
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="JSON or TOML file with the gateway's settings"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = load(options.config)
        run(settings)
    except PgherdError as error:
        print(
            f"pgherd: {error.message}" + (f" ({error.hint})" if error.hint else ""),
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(1) from None


def run(settings: object) -> None:
    """Serve on uvloop where it is to be had (it is not on every platform)."""
    from pgherd.gateway.settings import GatewaySettings

    assert isinstance(settings, GatewaySettings)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(settings))
    else:
        uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
