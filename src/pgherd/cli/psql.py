"""`pgherd psql`: PostgreSQL's own client, connected to the gateway."""

from __future__ import annotations

import os

import typer

from pgherd.cli.place import StateOption, cluster
from pgherd.deploy import binaries


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]}
    app.command("psql", context_settings=settings)(psql)


def psql(context: typer.Context, state: StateOption = None) -> None:
    """Run psql on the gateway; all further arguments are psql's own."""
    local = cluster(state)
    current = local.existing()
    host = current.gateway.reached_at
    environment = os.environ | {
        "PGHOST": host,
        "PGPORT": str(current.gateway.port),
        "PGCONNECT_TIMEOUT": "10",
    }
    environment.setdefault("PGUSER", "postgres")
    environment.setdefault("PGDATABASE", "pgherd")
    password = local.password()
    if password and environment["PGUSER"] == "postgres":
        environment.setdefault("PGPASSWORD", password)
    program = binaries.find().path("psql")
    os.execve(program, [str(program), *context.args], environment)
