"""psql, pg_dump and SQLAlchemy through the gateway see the tables as their user declared them, and nothing of pgherd's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, inspect

from pgherd.deploy import binaries
from pgherd.deploy.server import Server

TABLES = """
CREATE SCHEMA tools;
CREATE TYPE tools.mood AS ENUM ('glad', 'sad');
CREATE TABLE tools.people (name text, id bigserial, m tools.mood DEFAULT 'sad', n int CHECK (n > 0), PRIMARY KEY (name, id)) PARTITION BY RANGE (name);
CREATE TABLE tools.pets (owner text, id bigint, pet text NOT NULL, FOREIGN KEY (owner, id) REFERENCES tools.people ON DELETE CASCADE) PARTITION BY RANGE (owner);
CREATE INDEX by_pet ON tools.pets (lower(pet));
CREATE TABLE tools.notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body varchar(20) UNIQUE);
CREATE VIEW tools.glad AS SELECT name FROM tools.people WHERE m = 'glad';
CREATE FUNCTION tools.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
COMMENT ON TABLE tools.people IS 'who they are';
CALL pgherd.split('tools.people', 'N');
"""


def psql(dsn: str, sql: str) -> str:
    """psql's answer, unaligned; it stops at the first error."""
    command = [binaries.find().path("psql"), dsn, "-XAtq", "-v", "ON_ERROR_STOP=1"]
    return subprocess.run(command, input=sql, capture_output=True, text=True, check=True, timeout=60).stdout


def dump(dsn: str) -> str:
    """pg_dump of the schema `tools`, without the lines that differ from run to run."""
    command = [binaries.find().path("pg_dump"), dsn, "--schema-only", "-n", "tools"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not found.stderr
    lines = found.stdout.splitlines()
    return "\n".join(
        line for line in lines if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))
    )


@pytest.fixture(scope="module")
def tools(gateway: str) -> Iterator[str]:
    """The gateway's DSN, with the tables there."""
    psql(gateway, TABLES)
    yield gateway
    psql(gateway, "DROP SCHEMA tools CASCADE")


def test_a_dump_restores_into_one_postgresql_and_into_pgherd(tools: str, server: Server) -> None:
    text = dump(tools)
    for word in ("shard_", "global", "here", "pgherd", "postgres_fdw"):
        assert word not in text
    psql(server.uri(), "DROP SCHEMA IF EXISTS tools CASCADE;\n" + text)
    assert dump(server.uri()) == text
    psql(tools, "DROP SCHEMA tools CASCADE;\n" + text)
    assert dump(tools) == text
    assert psql(tools, "SELECT name, kind FROM pgherd.tables WHERE schema = 'tools' ORDER BY 1").split() == [
        "glad|view",
        "notes|single",
        "people|distributed",
        "pets|distributed",
    ]
    assert (
        psql(tools, "SELECT count(DISTINCT keyspace) FROM pgherd.tables WHERE schema = 'tools'").strip()
        == "1"
    )


def test_psql_shows_what_was_declared(tools: str) -> None:
    assert psql(tools, "\\dn").splitlines()[-2:] == ["public|pg_database_owner", "tools|postgres"]
    shown = psql(tools, "\\t off\n\\d tools.people")
    assert "n|integer|||" in shown
    assert '"people_pkey" PRIMARY KEY, btree (name, id)' in shown
    assert 'TABLE "tools.pets" CONSTRAINT' in shown
    assert "shard_" not in shown
    assert [line.split("|")[1] for line in psql(tools, "\\dt *.pets").splitlines()] == ["pets"]
    assert "postgres_fdw" not in psql(tools, "\\dx")
    assert psql(tools, "\\des") == ""


def test_sqlalchemy_reflects_what_was_declared(tools: str) -> None:
    engine = create_engine(tools.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        seen = inspect(connection)
        assert seen.get_schema_names() == ["information_schema", "public", "tools"]
        assert sorted(seen.get_table_names("tools")) == ["notes", "people", "pets"]
        assert seen.get_view_names("tools") == ["glad"]
        assert [column["name"] for column in seen.get_columns("people", "tools")] == ["name", "id", "m", "n"]
        assert seen.get_pk_constraint("people", "tools")["constrained_columns"] == ["name", "id"]
        assert seen.get_foreign_keys("pets", "tools")[0]["referred_table"] == "people"
        assert [index["name"] for index in seen.get_indexes("pets", "tools")] == ["by_pet"]
        assert seen.get_table_comment("people", "tools") == {"text": "who they are"}
        assert [enum["name"] for enum in seen.get_enums("tools")] == ["mood"]
    engine.dispose()
