"""A group joins a running cluster and leaves it again: what it then has, what others notice, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from catalog_world import World, run

from pgherd.backend.connection import Credentials, ServerLink, connect
from pgherd.catalog import growth
from pgherd.catalog.model import GroupId, Node
from pgherd.deploy.catalog import Programs
from pgherd.deploy.server import Server
from pgherd.engine.link import Link
from pgherd.errors import DeployError, GroupDown, ServerError
from pgherd.testing.servers import Yard
from pgherd.transaction import recovery
from pgherd.transaction.two_phase import Protocol

SCHEMA = r"""
CREATE ROLE growth_ann LOGIN PASSWORD 'secret' CONNECTION LIMIT 7;
CREATE ROLE growth_ben LOGIN;
CREATE ROLE growth_team NOLOGIN;
GRANT growth_team TO growth_ann WITH ADMIN OPTION;
ALTER ROLE growth_ann SET work_mem = '8MB';
CREATE SCHEMA sales;
CREATE SCHEMA "Odd name" AUTHORIZATION growth_ann;
GRANT USAGE ON SCHEMA sales TO growth_ben;
CREATE EXTENSION citext WITH SCHEMA sales;
CREATE EXTENSION pg_trgm;
ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO growth_ben;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO growth_team;
CREATE TYPE mood AS ENUM ('glad', 'sad');
ALTER TYPE mood ADD VALUE 'so-so';
CREATE TYPE place AS (street text, "number" int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE COLLATION plainest FROM "C";
CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := upper(NEW.note); RETURN NEW; END $$;
CREATE PROCEDURE nothing() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE AGGREGATE total(int) (SFUNC = plus, STYPE = int, INITCOND = 0);
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = plus);
CREATE CAST (place AS text) WITH INOUT;
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple);
CREATE SEQUENCE counter START 100 INCREMENT 5;
ALTER SEQUENCE counter OWNER TO growth_ann;
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, seen timestamptz DEFAULT now());
CREATE TABLE cities (id bigserial PRIMARY KEY, code text REFERENCES countries, name text, len int GENERATED ALWAYS AS (length(name)) STORED);
CREATE INDEX ON cities (lower(name));
ALTER TABLE cities ADD COLUMN gone int;
ALTER TABLE cities DROP COLUMN gone;
GRANT SELECT, UPDATE (name) ON cities TO growth_ben;
REFERENCE countries;
REFERENCE cities;
CREATE TABLE users (name text, id bigserial, mood mood DEFAULT 'glad', n positive, home place, gone int, PRIMARY KEY (name, id)) PARTITION BY RANGE (name);
ALTER TABLE users DROP COLUMN gone;
ALTER TABLE users ADD COLUMN country text REFERENCES countries;
CREATE TABLE orders (name text, id bigint, at timestamptz DEFAULT now(), note text, CONSTRAINT who FOREIGN KEY (name, id) REFERENCES users) PARTITION BY RANGE (name);
CREATE INDEX orders_note ON orders USING gin (note gin_trgm_ops);
CREATE STATISTICS orders_stats ON name, id FROM orders;
CREATE TRIGGER loud BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION loud();
CREATE TABLE sales.deals (id bigint GENERATED ALWAYS AS IDENTITY, who text, secret int CHECK (secret > 0), tag sales.citext, doubled int GENERATED ALWAYS AS (secret * 2) STORED, PRIMARY KEY (id)) PARTITION BY HASH (id);
ALTER TABLE sales.deals OWNER TO growth_ann;
ALTER TABLE sales.deals ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON sales.deals USING (who = current_user);
GRANT SELECT (id, who) ON sales.deals TO growth_ben;
CREATE TABLE "Odd name"."odd ""t"" able" ("the key" int, v numeric(10, 2), PRIMARY KEY ("the key")) PARTITION BY HASH ("the key");
CREATE TABLE notes (id serial PRIMARY KEY, text text, m mood);
CREATE TABLE more_notes (note int REFERENCES notes, at timestamptz);
ALTER TABLE more_notes OWNER TO growth_ann;
CREATE FUNCTION of_notes(n notes) RETURNS text LANGUAGE sql AS 'SELECT n.text';
CREATE MATERIALIZED VIEW kept AS SELECT id FROM notes;
CREATE VIEW seen AS SELECT u.name, c.name AS country FROM users u JOIN countries c ON c.code = u.country;
CREATE VIEW seen_again WITH (security_barrier = true) AS SELECT * FROM seen WHERE name > 'a';
CREATE VIEW sales.codes AS SELECT code FROM public.countries;
CREATE VIEW noted AS SELECT n.text, u.name FROM notes n, users u;
GRANT SELECT ON seen TO growth_ben;
COMMENT ON TABLE users IS 'who';
"""


class Grown:
    """A `Lender` over the nodes of a cluster, with those of the groups to come. Connections are made as they are asked for."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.group: node for node in nodes}
        self.out: set[Link] = set()

    async def lend(self, group: GroupId) -> Link:
        if group not in self.nodes:
            raise GroupDown(f"there is no group {group}")
        link = await connect(self.nodes[group], Credentials(user="postgres"), timeout=10)
        self.out.add(link)
        return link

    def give_back(self, link: Link, *, reusable: bool) -> None:
        self.out.discard(link)
        assert isinstance(link, ServerLink)
        link.close()

    async def place(self, group: GroupId) -> Node:
        return self.nodes[group]

    @property
    def dump(self) -> Programs:
        return Programs(self.place)


async def define(world: World, text: str = SCHEMA) -> None:
    """Carry out definitions, one a line; REFERENCE makes a reference table."""
    for statement in text.strip().removesuffix(";").split(";\n"):
        if statement.startswith("REFERENCE "):
            await world.call("reference", statement.split()[1])
            continue
        try:
            await world.do(statement)
        except ServerError as error:
            if error.code != "42710":  # roles, by another test on the same server
                raise


def dumped(server: Server, node: Node, *more: str) -> str:
    """The whole database's definitions, pgherd's own as well, without what differs in name only."""
    words = [
        str(server.binaries.path("pg_dump")),
        "--schema-only",
        "--restrict-key=k",
        *more,
        server.uri(node.database),
    ]
    return subprocess.run(words, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout


def parts(dump: str) -> list[str]:
    """A dump as its entries, without the numbers of groups 1 and 3 and where they are; sorted: the order of making does not count."""
    for pattern, instead in (
        (r"\b(group|probe)_[13]\b", r"\1_x"),
        (r"\b(RETURN|22 \| \(|port|dbname) '?\w+", r"\1 x"),
        (r"\([13]::bigint", "(x::bigint"),
        (r"\bpgherd_epoch_\d+", "pgherd_epoch_x"),
    ):
        dump = re.sub(pattern, instead, dump)
    return sorted(re.split(r"\n--\n-- Name: ", dump))


@contextlib.contextmanager
def servers(yard: Yard, *names: str) -> Iterator[list[Server]]:
    found = [yard.server(name) for name in names]
    try:
        yield found
    finally:
        for server in found:
            server.stop(immediate=True)


def placed(server: Server, group: int, database: str) -> Node:
    return Node(id=-1, group=GroupId(group), host="127.0.0.1", port=server.port, database=database)


def assert_alike(old: str, made: str) -> None:
    difference = list(difflib.unified_diff(parts(old), parts(made), "old", "new", n=0))
    assert not difference, "\n".join(difference)


def test_a_new_group_is_like_the_others(yard: Yard) -> None:
    """On a server of its own: roles too. What is not compared: the shards that the other group holds itself."""
    with servers(yard, "growth_a", "growth_b") as (first, second):
        groups = yard.groups(first, 3)
        new = placed(second, 3, "d")
        yard.databases(second, ["d"])

        async def job() -> None:
            async with await World.open(groups) as world:
                await define(world)
                await world.do("ALTER VIEW noted OWNER TO growth_ann; GRANT SELECT ON noted TO growth_ben")
                await world.rows(0, "INSERT INTO notes (text) VALUES ('x')")
                lender = Grown([*groups, new])
                assert await growth.next_group(lender) == 3
                assert await growth.add_group(lender, [new], dump=lender.dump)
                assert not await growth.add_group(lender, [new], dump=lender.dump)
                cluster = await world.map()
                assert sorted(cluster.groups) == [0, 1, 2, 3]
                shards = [shard for keyspace in cluster.keyspaces.values() for shard in keyspace.shards]
                own = [f"--exclude-schema=shard_{shard.id}*" for shard in shards if shard.group == 1]
            own.append("--exclude-schema=here*")
            assert_alike(dumped(first, groups[1], *own), dumped(second, new, *own))
            asked = "SELECT rolname, rolpassword, rolconnlimit FROM pg_authid WHERE rolname ~ '^growth|^postgres' ORDER BY 1"
            assert first.ask(asked) == second.ask(asked)
            async with await World.open([*groups, new]) as world:
                assert (
                    len({str(rows) for rows in await world.everywhere("SELECT epoch FROM pgherd.cluster")})
                    == 1
                )
                assert await world.rows(3, "SELECT text FROM global.notes") == [("x",)]
                for name in (
                    "global.users",
                    "here.users",
                    "global_sales.deals",
                    "global.noted",
                    "public.countries",
                ):
                    assert await world.one(3, f"SELECT count(*) FROM {name}") == "0"
                await world.do("CREATE TABLE spread (k uuid PRIMARY KEY) PARTITION BY HASH (k)")
                assert {shard.group for shard in await world.shards("spread")} == {0, 1, 2, 3}
                assert (
                    await world.rows(0, "SELECT * FROM pgherd.probe_3"),
                    await world.rows(3, "SELECT * FROM pgherd.probe_0"),
                ) == ([("1",)],) * 2

        run(job())


def test_the_second_group_of_a_cluster_is_like_one_that_was_born_with_it(yard: Yard, server: Server) -> None:
    """There is only group 0 to copy from, which has single tables, and what belongs to them, of its own."""
    born, grown = yard.groups(server, 2), yard.groups(server, 1)
    new = placed(server, 1, "growth_second")
    yard.databases(server, ["growth_second"])

    async def job() -> None:
        for groups in (born, grown):
            async with await World.open(groups) as world:
                await define(world)
        lender = Grown([*grown, new])
        assert await growth.add_group(lender, [new], dump=lender.dump)
        but = ["--exclude-schema=here*", "--exclude-schema=shard_*"]
        assert_alike(dumped(server, born[1], *but), dumped(server, new, *but))

    run(job())


def test_a_database_that_is_not_empty_is_refused(
    fresh_groups: Callable[[int], list[Node]], yard: Yard, server: Server
) -> None:
    groups = fresh_groups(1)
    new = placed(server, 1, "growth_full")
    yard.databases(server, ["growth_full"])
    server.ask("CREATE TABLE mine (a int)", "growth_full")

    async def job() -> None:
        lender = Grown([*groups, new, replace(new, group=GroupId(5))])
        with pytest.raises(DeployError, match="not empty"):
            await growth.add_group(lender, [new], dump=lender.dump)
        with pytest.raises(DeployError, match="next group"):
            await growth.add_group(lender, [replace(new, group=GroupId(5))], dump=lender.dump)
        async with await World.open(groups) as world:
            assert sorted((await world.map()).groups) == [0]
            await world.do("CREATE TABLE still_works (a int)")

    run(job())


def test_a_server_that_does_not_fit_or_cannot_be_reached_is_refused(
    fresh_groups: Callable[[int], list[Node]], yard: Yard, server: Server
) -> None:
    groups = fresh_groups(2)
    unfit = yard.server("growth_unfit", settings={"max_prepared_transactions": "0", "wal_level": "replica"})
    elsewhere = placed(unfit, 2, "d")
    unfit.ask("CREATE DATABASE d TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    new = placed(server, 2, "growth_unreached")

    async def job() -> None:
        lender = Grown([*groups, elsewhere])
        with pytest.raises(
            DeployError, match=r"LATIN1.*locale is.*wal_level is replica.*max_prepared_transactions is 0"
        ):
            await growth.add_group(lender, [elsewhere], dump=lender.dump)
        lender = Grown([*groups, new])
        for _ in range(2):  # once more: what an attempt leaves is found and replaced
            await asyncio.to_thread(yard.databases, server, ["growth_unreached"])
            with pytest.raises(DeployError, match="group 0 cannot read from group 2"):
                await growth.add_group(lender, [replace(new, port=1)], dump=lender.dump)
        async with await World.open(groups) as world:
            assert sorted((await world.map()).groups) == [0, 1]
            assert await world.rows(0, "SELECT to_regclass('pgherd.probe_2') IS NULL") == [("t",)]

    try:
        run(job())
    finally:
        unfit.stop(immediate=True)


def test_a_group_leaves_and_its_number_with_it(
    fresh_groups: Callable[[int], list[Node]], yard: Yard, server: Server
) -> None:
    groups = fresh_groups(3)
    again = placed(server, 3, "growth_again")
    yard.databases(server, ["growth_again"])

    async def job() -> None:
        async with await World.open(groups) as world:
            await world.do(
                "CREATE TABLE t (id bigint PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE c (id int PRIMARY KEY)"
            )
            await world.call("reference", "c")
            lender = Grown([*groups, again])
            for number, match in (
                (0, "group 0"),
                ((await world.shards("t"))[0].group, "holds 1 shards|group 0"),
            ):
                with pytest.raises(DeployError, match=match):
                    await growth.remove_group(lender, GroupId(number))
            assert await growth.remove_group(lender, GroupId(2))
            assert not await growth.remove_group(lender, GroupId(2))
            cluster = await world.map()
            assert (sorted(cluster.groups), cluster.coming_group) == ([0, 1], 3)
            assert await world.rows(1, "SELECT srvname FROM pg_foreign_server") == [("group_0",)]
            assert await growth.add_group(lender, [again], dump=lender.dump)
            assert sorted((await world.map()).groups) == [0, 1, 3]

    run(job())


class Killed(BaseException):
    """Whoever adds the group dies here."""


async def killed(nodes: Sequence[Node], new: Node, fatal: int) -> str:
    """Add a group and be killed at the step of that number; which one it was, "" if there are not so many."""
    lender, count = Grown([*nodes, new]), 0

    def step(what: str) -> None:
        nonlocal count
        count += 1
        if count == fatal:
            for link in lender.out:
                link.abort()
            raise Killed(what)

    async def on_step(when: str, protocol: Protocol) -> None:
        step(f"{when} {protocol.phase.value}")

    try:
        await growth.add_group(lender, [new], dump=lender.dump, report=step, on_step=on_step)
    except Killed as error:
        return str(error)
    return ""


async def works(nodes: Sequence[Node], fatal: int) -> None:
    """Once recovery has looked, the cluster of these nodes defines and writes, and all its groups are alike."""
    lender = Grown(nodes)
    known = tuple(sorted(lender.nodes))
    async with asyncio.timeout(20):
        while await recovery.in_doubt(lender, known):
            await recovery.recover(lender, known)
    async with await World.open(nodes) as world:
        assert sorted((await world.map()).groups) == list(known)
        entered = "SELECT pgherd.enter_reference('public', 'c', '{}', 99)"
        await world.everywhere(f"SET lock_timeout = '10s'; {entered}; INSERT INTO c VALUES ({fatal})")
        await world.do(f"CREATE TABLE t{fatal} (id bigint PRIMARY KEY) PARTITION BY RANGE (id)")
        for asked in ("SELECT epoch FROM pgherd.cluster", "SELECT id FROM c ORDER BY 1"):
            assert len({str(rows) for rows in await world.everywhere(asked)}) == 1


async def in_map(nodes: Sequence[Node], group: GroupId) -> bool:
    """Whether the cluster knows the group."""
    async with await World.open(nodes) as world:
        return group in (await world.map()).groups


async def is_complete(new: Node, cluster_id: str) -> bool:
    """Whether the new group's own transaction was committed."""
    link = await connect(new, Credentials(user="postgres"), timeout=10)
    try:
        return await growth.is_leftover(link, cluster_id)
    finally:
        link.close()


def test_a_kill_at_any_step_leaves_a_cluster_that_works_and_the_group_can_be_added_again(
    fresh_groups: Callable[[int], list[Node]], yard: Yard, server: Server
) -> None:
    groups = fresh_groups(2)
    seen: list[str] = []

    async def job() -> None:
        async with await World.open(groups) as world:
            await world.do("CREATE TABLE c (id int PRIMARY KEY)")
            await world.call("reference", "c")
            cluster_id = str(await world.one(0, "SELECT id FROM pgherd.cluster"))
        for fatal in range(1, 99):
            new = placed(server, await growth.next_group(Grown(groups)), f"growth_killed_{len(groups)}")
            await asyncio.to_thread(yard.databases, server, [new.database])
            step = await killed(groups, new, fatal)
            decided = await in_map(groups, new.group)
            assert await is_complete(new, cluster_id) or not decided
            if decided:
                groups.append(new)
            await works(groups, fatal)
            if not step:
                assert decided
                break
            seen.append(step)
        phases = ("preparing", "deciding", "finishing")
        assert {f"{when} {phase}" for phase in phases for when in ("before", "after")} <= set(seen)
        assert len(seen) >= 9, seen

    run(job(), 170)
