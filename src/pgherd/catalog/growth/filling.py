"""Everything that a new group must have before anybody learns of it, made in one transaction of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from pgherd.catalog import nodes as catalog_nodes
from pgherd.catalog import store
from pgherd.catalog.admin.shards import stored
from pgherd.catalog.ddl.change import HOME, Change
from pgherd.catalog.ddl.tables import single_texts
from pgherd.catalog.ddl.views import global_view_texts
from pgherd.catalog.growth import dumped
from pgherd.catalog.growth.locks import lock_reference_tables
from pgherd.catalog.model import GroupId, Node
from pgherd.catalog.text import call, literal, qualified
from pgherd.engine.link import Link
from pgherd.errors import DeployError, ServerError

Report = Callable[[str], None]

BATCH: Final = 50  # texts sent at once
# A text that fails because group 0 alone has what it names belongs to group 0 alone.
_UNDEFINED: Final = frozenset({"42P01", "42704", "42703", "42883", "3F000"})
_DUPLICATE_ROLE: Final = frozenset({"42710"})
# The tables that every group has in full. (pgherd.cluster, pgherd.nodes and pgherd.this are written apart.)
_METADATA: Final = ("groups", "keyspaces", "shards", "tables", "server_options", "moving")


class Dump(Protocol):
    """Where texts come from that pg_dump and pg_dumpall write."""

    async def schema(self, group: GroupId, *, but_schemas: Sequence[str], but_tables: Sequence[str]) -> str:
        """`pg_dump --schema-only` of the group's database, without publications, subscriptions and security labels.

        Both lists are patterns of pg_dump. Raises DeployError.
        """
        ...

    async def roles(self, group: GroupId) -> str:
        """`pg_dumpall --roles-only` of the group's server. Raises DeployError."""
        ...


def silent(what: str) -> None:
    """Drop a report."""


class Filling:
    """The work on the new group, in one transaction there, and on the others in theirs."""

    def __init__(
        self, change: Change, new: Link, nodes: list[Node], dump: Dump, managed: bool, report: Report
    ) -> None:
        self.change, self.new, self.nodes, self.dump, self.report = change, new, nodes, dump, report
        self.number = nodes[0].group
        self.managed = managed
        self.source = change.others[0] if change.others else HOME  # what all groups have, any but 0 has alone

    async def run(self, lock_s: float) -> None:
        """Fill the new group and commit it; then tell the others, whose transaction is still open."""
        await self._require_empty()
        await self._require_fit()
        now = await catalog_nodes.arrangement(self.change)
        managed = now.managed | ({self.number} if self.managed else frozenset[GroupId]())
        target = catalog_nodes.arrange(now, [*now.nodes, *self.nodes], managed)
        texts = catalog_nodes.texts(target)
        await self.new.run(
            "BEGIN; SET LOCAL search_path = ''; SET LOCAL check_function_bodies = off; SET LOCAL row_security = off; SET LOCAL client_min_messages = warning"
        )
        self.report("copying roles and definitions")
        await self._copy_roles()
        await self._install()
        await self._copy_metadata()
        made = await self._copy_definitions()
        await self.new.run(texts)
        await self._make_physical()
        await self._run_all(made.defaults, ())
        await self._require_reach(self.new, self.change.work.groups)
        await self._copy_reference_rows(lock_s)
        await self.new.run("COMMIT")
        await self.change.everywhere(texts, self.change.new_epoch())
        await self._require_reach(self.change.home, [self.number])  # home is never prepared, so it may

    async def _require_empty(self) -> None:
        rows = await self.new.run(
            "SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^(pg_|information_schema$)' AND (n.nspname <> 'public' OR EXISTS ("
            "SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid)) LIMIT 1"
        )
        if rows:
            raise DeployError(
                f"the database of the new group is not empty: there is schema {rows[0][0]}",
                hint="Name an empty database, or drop this one and create it again.",
            )

    async def _require_fit(self) -> None:
        """The new server must be able to do what the others do. Raises DeployError with everything that is missing."""
        asked = (
            "SELECT pg_catalog.current_setting('server_version_num')::int / 10000, pg_catalog.pg_encoding_to_char(d.encoding), concat_ws(' ', d.datlocprovider,"
            " d.datcollate, d.datctype, j ->> 'datlocale', j ->> 'daticulocale'), pg_catalog.current_setting('wal_level'),"
            " pg_catalog.current_setting('max_prepared_transactions')::int > 0"
            " FROM pg_catalog.pg_database d, LATERAL pg_catalog.to_jsonb(d) AS j WHERE d.datname = pg_catalog.current_database()"
        )
        there = (await self.change.run_home(asked))[0]
        here = (await self.new.run(asked))[0]
        wrong = list[str]()
        if int(here[0] or 0) < int(there[0] or 0):
            wrong.append(f"PostgreSQL {here[0]} is older than the cluster's {there[0]}")
        for name, mine, wanted in zip(
            ("encoding", "locale", "wal_level"), here[1:4], there[1:4], strict=True
        ):
            if mine != wanted:
                wrong.append(f"{name} is {mine} instead of {wanted}")
        if here[4] != "t":
            wrong.append("max_prepared_transactions is 0")
        if wrong:
            raise DeployError(f"the server of the new group does not fit: {'; '.join(wrong)}")

    async def _require_reach(self, link: Link, groups: Iterable[GroupId]) -> None:
        """Groups read each other: try it before anybody relies on it."""
        for group in groups:
            try:
                await link.run(f"SELECT one FROM pgherd.probe_{group}")
            except ServerError as error:
                raise DeployError(
                    f"the server of group {link.group} cannot read from group {group}: {error.message}",
                    hint="Look at the hosts and ports of the nodes, at firewalls, and at pg_hba.conf.",
                ) from error

    async def _install(self) -> None:
        cluster_id = str((await self.change.run_home("SELECT id FROM pgherd.cluster"))[0][0])
        texts = store.install_sql(self.number, cluster_id=cluster_id, layout=None)
        await self.new.run("\n;\n".join(texts))

    async def _copy_metadata(self) -> None:
        texts = list[str]()
        for table in _METADATA:
            rows = (await self.change.run_home(f"SELECT jsonb_agg(to_jsonb(t)) FROM pgherd.{table} t"))[0][0]
            if rows is not None:
                texts.append(
                    f"INSERT INTO pgherd.{table} SELECT * FROM jsonb_populate_recordset(NULL::pgherd.{table}, {literal(rows)})"
                )
        row = (await self.change.run_home("SELECT next_shard, next_keyspace FROM pgherd.cluster"))[0]
        texts.append(f"UPDATE pgherd.cluster SET next_shard = {row[0]}, next_keyspace = {row[1]}")
        texts.append(self.change.new_epoch())
        await self.new.run(";\n".join(texts))

    # ---- the users' objects --------------------------------------------------------------------------

    async def _copy_roles(self) -> None:
        asked = (
            "SELECT system_identifier, pg_catalog.pg_postmaster_start_time(), pg_catalog.current_setting('data_directory')"
            " FROM pg_catalog.pg_control_system()"  # copied data directories have the same identifier
        )
        source = await self.change.branch(self.source)
        if await self.new.run(asked) == await source.run(asked):
            return  # groups of one server share its roles
        present = await self.new.run(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolreplication AND NOT rolsuper"
        )
        texts = dumped.roles(await self.dump.roles(self.source), (row[0] or "" for row in present))
        await self._run_all(texts, _DUPLICATE_ROLE)

    async def _copy_definitions(self) -> dumped.Definitions:
        names = "[]"
        if self.source == HOME:
            names = (await self.change.run_home("SELECT pg_catalog.to_jsonb(pgherd.only_home())"))[0][
                0
            ] or "[]"
        text = await self.dump.schema(
            self.source,
            but_schemas=dumped.OWN_SCHEMAS,
            but_tables=json.loads(names),
        )
        found = dumped.definitions(text, comments=self.source != HOME)
        await self._run_all(found.objects, _UNDEFINED if self.source == HOME else ())
        await self.new.run(
            "SELECT pgherd.exhaust(s.seqrelid::pg_catalog.regclass::text) FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid"
            " WHERE NOT pgherd.is_physical((SELECT nspname FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace))"
        )
        return found

    async def _run_all(self, texts: Sequence[str], forgiven: frozenset[str] | tuple[()]) -> None:
        """Run the texts in one go; if one fails that may, one by one."""
        if not texts:
            return
        mark, back = "SAVEPOINT pgherd_definition", "ROLLBACK TO SAVEPOINT pgherd_definition"
        await self.new.run(mark)
        try:
            await self.new.run("\n;\n".join(texts))
        except ServerError as error:
            if error.code not in forgiven:
                raise
            await self.new.run(back)
            for text in texts:
                await self._run_one(text, forgiven, mark, back)
        await self.new.run("RELEASE SAVEPOINT pgherd_definition")

    async def _run_one(self, text: str, forgiven: frozenset[str] | tuple[()], mark: str, back: str) -> None:
        await self.new.run(mark)
        try:
            await self.new.run(text)
        except ServerError as error:
            if error.code not in forgiven:
                raise
            await self.new.run(back)
        await self.new.run("RELEASE SAVEPOINT pgherd_definition")

    async def _make_physical(self) -> None:
        """global.*, here.* and shard_*: from the metadata, as in any other group."""
        self.report("making the tables that reach the other groups")
        tables = list(self.change.cluster.tables.values())
        texts = [
            call("sync_table", literal(t.schema), literal(t.name)) for t in tables if t.kind == "distributed"
        ]
        for table in tables:
            if table.kind == "single":
                shape = await self.change.inspect(name=qualified(table.schema, table.name))
                texts += single_texts(shape)[1:]
        texts += await global_view_texts(self.change)
        for at in range(0, len(texts), BATCH):
            await self.new.run(";\n".join(texts[at : at + BATCH]))
        source = await self.change.branch(self.source)
        rights = (await source.run("SELECT pgherd.global_rights()"))[0][0]
        await self.new.run(call("set_global_rights", literal(rights or "[]") + "::jsonb"))

    # ---- reference tables ----------------------------------------------------------------------------

    async def _copy_reference_rows(self, lock_s: float) -> None:
        """Lock out whoever writes reference tables, here and in every transaction still open, and copy the rows."""
        tables = await lock_reference_tables(self.change, lock_s)
        await self.new.run(
            "SET LOCAL session_replication_role = replica"
        )  # neither triggers nor the order of foreign keys
        for done, table in enumerate(tables):
            self.report(f"copying reference table {table.name} ({done + 1} of {len(tables)})")
            name, columns = qualified(table.schema, table.name), stored(table)
            chunks = self.change.home.copy_out(f"COPY {name} ({columns}) TO STDOUT")
            await self.new.copy_in(f"COPY {name} ({columns}) FROM STDIN", chunks)
        await self.new.run("SET LOCAL session_replication_role = origin")
