"""The application: its commands, and how every error becomes one line, a hint and an exit code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence

import typer
from rich.markup import escape

from pgherd.cli.console import errors
from pgherd.errors import PgherdError, ServerError

COMMANDS = (
    "up",
    "down",
    "status",
    "shards",
    "psql",
    "explain",
    "admin",
    "workflows",
    "doctor",
    "node",
    "init",
    "add_group",
    "add_replica",
    "remove",
    "switchover",
    "restart",
    "stop_node",
    "gateway",
    "tx",
    "simulate",
    "record",
    "why",
    "version",
)

INTERRUPTED = 130


def build() -> typer.Typer:
    """The application with all commands that this installation has."""
    app = typer.Typer(
        name="pgherd",
        help="Many ordinary PostgreSQL servers as one distributed database.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        module = f"pgherd.cli.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).register(app)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line and answer the exit code; errors have been told on stderr."""
    try:
        code = build()(args=arguments, prog_name="pgherd", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough: pgherd shards | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        show = getattr(error, "show", None)
        if callable(show):  # typer's own: wrong usage
            show()
            return 2
        _tell(error)
        return 1


def _tell(error: Exception) -> None:
    if os.environ.get("PGHERD_DEBUG"):
        traceback.print_exc()
    message, hint = _lines(error)
    errors.print(f"[bold red]pgherd:[/] {escape(message)}", soft_wrap=True, highlight=False)
    if hint:
        errors.print(f"[bold]hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)


def _lines(error: Exception) -> tuple[str, str | None]:
    if isinstance(error, ServerError):
        return f"{error.message} (SQLSTATE {error.code})", error.hint or error.detail
    if isinstance(error, PgherdError):
        return " ".join(error.message.split()), error.hint
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), None
    text = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{type(error).__name__}: {text}",
        "This should not happen. Run it again with PGHERD_DEBUG=1 to see where.",
    )
