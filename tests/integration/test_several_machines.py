"""A cluster over several machines: certificates and passwords everywhere, nodes that come, move, burn and go, another group."""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from machines_world import MACHINES, SECRETS, Machines, machines, until

import pgherd
from pgherd.testing import tls_postgres
from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(yard: Yard) -> Iterator[Machines]:
    """See machines_world. Skipped where no PostgreSQL speaks TLS."""
    postgres = tls_postgres.find()
    if postgres is None:
        pytest.skip("no PostgreSQL with TLS: set PGHERD_TLS_PG_BIN, or run tools/tls-postgres.sh")
    with machines(yard, postgres) as made:
        asyncio.run(fill(made))
        yield made


async def fill(world: Machines) -> None:
    """A table over both groups, a reference table, and a role that logs in with a password."""
    connection = await world.at_gateway()
    await connection.execute("CREATE TABLE people (id int PRIMARY KEY, town int) PARTITION BY HASH (id)")
    await connection.execute("CREATE TABLE towns (id int PRIMARY KEY, name text)")
    await connection.execute("CALL pgherd.reference('towns')")
    await connection.execute("INSERT INTO people SELECT n, n % 3 FROM generate_series(1, 300) n")
    await connection.execute("INSERT INTO towns VALUES (0, 'Ulm'), (1, 'Bern'), (2, 'Linz')")
    await connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'opensesame-clerk'")
    await connection.execute("GRANT SELECT ON people, towns TO clerk")
    await connection.close()


def nodes(world: Machines) -> dict[str, tuple[int, str, int]]:
    """Group, host and port of each registered node."""

    async def ask() -> dict[str, tuple[int, str, int]]:
        connection = await world.at_gateway()
        rows = await connection.fetch("SELECT name, group_id, host, port FROM pgherd.nodes")
        await connection.close()
        return {row["name"]: (row["group_id"], row["host"], row["port"]) for row in rows}

    return asyncio.run(ask())


def patroni(world: Machines, machine: int, path: str, offset: int = 0, method: str = "GET") -> int:
    """The status of an answer of a machine's Patroni, asked without a password."""
    url = f"https://{MACHINES[machine]}:{world.ports[3] + offset}{path}"
    request = urllib.request.Request(url, data=b"{}" if method != "GET" else None, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10, context=world.context()) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:  # it does not answer yet
        return 0


def test_a_role_reads_over_groups_with_its_own_password(world: Machines) -> None:
    asyncio.run(_a_role_reads_over_groups_with_its_own_password(world))


async def _a_role_reads_over_groups_with_its_own_password(world: Machines) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await world.at_gateway("clerk", "wrong")
    connection = await world.at_gateway("clerk", "opensesame-clerk")
    rows = await connection.fetch(
        "SELECT t.name, count(*) FROM people a JOIN people b USING (town) JOIN towns t ON t.id = a.town GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("Bern", 10000), ("Linz", 10000), ("Ulm", 10000)]
    await connection.close()


def test_the_client_library_reaches_all_nodes_over_tls(world: Machines) -> None:
    asyncio.run(_the_client_library_reaches_all_nodes_over_tls(world))


async def _the_client_library_reaches_all_nodes_over_tls(world: Machines) -> None:
    hosts = ",".join(f"{host}:{world.ports[2]}" for host in MACHINES)
    dsn = f"postgresql://clerk:opensesame-clerk@{hosts}/pgherd"
    async with pgherd.connect(dsn, ssl=world.context()) as db:
        assert await db.fetchval("SELECT count(*) FROM people") == 300
        assert await db.fetchval("SELECT count(*) FROM people a JOIN people b USING (town)") == 30000


def test_servers_talk_to_nobody_in_plain_text(world: Machines) -> None:
    asyncio.run(_servers_talk_to_nobody_in_plain_text(world))


async def _servers_talk_to_nobody_in_plain_text(world: Machines) -> None:
    for machine in range(3):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
            await world.at_node(machine, tls=False)
        connection = await world.at_node(machine)
        rows = await connection.fetch(
            # who has no name yet is just connecting, and nothing is known of its encryption either
            "SELECT a.usename, a.application_name, s.ssl FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
            " WHERE a.client_addr IS NOT NULL AND a.usename IS NOT NULL"
        )
        await connection.close()
        assert rows and all(row["ssl"] for row in rows), rows


def test_groups_reach_each_other_with_checked_certificates(world: Machines) -> None:
    asyncio.run(_groups_reach_each_other_with_checked_certificates(world))


async def _groups_reach_each_other_with_checked_certificates(world: Machines) -> None:
    gateway = await world.at_gateway()
    await gateway.fetchval("SELECT count(*) FROM people a JOIN people b USING (town)")
    found: list[str] = []
    for machine in range(3):
        connection = await world.at_node(machine)
        found += (
            await connection.fetchval(
                "SELECT array_agg(s.version) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE application_name LIKE '%fdw%' AND ssl"
            )
            or []
        )
        await connection.close()
    await gateway.close()
    assert found, "no foreign server's connection was seen"
    environments = [
        environment for name in ("g0-n1", "g0-n2", "g1-n1") for environment in environments_of(world, name)
    ]
    assert environments and all(b"PGSSLMODE=verify-full" in environment for environment in environments)


def environments_of(world: Machines, name: str) -> list[bytes]:
    """The environment of a node's postmaster: what libpq inside it is told."""
    pid = int((world.directory / f"node-{name}" / "data" / "postmaster.pid").read_text().split()[0])
    return [Path(f"/proc/{pid}/environ").read_bytes()]


def test_etcd_and_patroni_want_a_certificate_and_a_password(world: Machines) -> None:
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        urllib.request.urlopen(f"https://{world.etcd[0]}/version", timeout=10, context=world.context())
    assert patroni(world, 0, "/patroni") == 200
    assert patroni(world, 0, "/config", method="PATCH") == 401
    assert patroni(world, 0, "/restart", method="POST") == 401


def test_no_password_is_in_a_log_or_a_command_line(world: Machines) -> None:
    told = {path: path.read_text(errors="replace") for path in world.directory.glob("*.log")}
    told |= {path: path.read_text(errors="replace") for path in world.directory.glob("node-*/data/log/*")}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told[entry] = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
    assert len(told) > 10
    loud = [str(path) for path, text in told.items() if any(secret in text for secret in SECRETS.values())]
    assert not loud
    for path in world.directory.glob("node-*/patroni.json"):
        assert path.stat().st_mode & 0o077 == 0


def test_settings_and_certificates_are_taken_up_without_a_restart(world: Machines) -> None:
    before = asyncio.run(certificate_and_work_mem(world))
    world.make_certificates()
    config = world.config("g1-n1")
    config.write_text(config.read_text().replace('"r2"', '"far"') + 'work_mem = "7MB"\n')
    world.reload("g1-n1")

    def changed() -> bool:
        now = asyncio.run(certificate_and_work_mem(world))
        return now[0] != before[0] and now[1] == "7MB"

    until(changed, "the new certificate is shown, and the setting counts")
    until(lambda: asyncio.run(region(world, "g1-n1")) == "far", "its new region is known")


async def region(world: Machines, name: str) -> str:
    """A node's region as the catalog has it."""
    connection = await world.at_gateway()
    found = await connection.fetchval(f"SELECT region FROM pgherd.nodes WHERE name = '{name}'")
    await connection.close()
    return found


async def certificate_and_work_mem(world: Machines) -> tuple[bytes, str]:
    """What the third machine's PostgreSQL shows and says."""
    connection = await world.at_node(2)
    shown = connection._transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    told = await connection.fetchval("SHOW work_mem")
    await connection.close()
    return shown, told


def test_a_node_comes_and_goes(world: Machines) -> None:
    world.start_node("g1-n2", 0, offset=1)
    until(lambda: nodes(world).get("g1-n2") == (1, MACHINES[0], world.ports[2] + 1), "g1-n2 is registered")
    world.stop("g1-n2")
    config = str(world.config("g0-n1"))
    assert world.pgherd("remove", "g1-n2", "--config", config) == {"removed": "g1-n2", "group": 1}
    assert sorted(nodes(world)) == ["g0-n1", "g0-n2", "g1-n1"]
    assert asyncio.run(slots(world, 2)) == []


async def slots(world: Machines, machine: int) -> list[str]:
    """The replication slots on a machine."""
    connection = await world.at_node(machine)
    rows = await connection.fetch("SELECT slot_name FROM pg_replication_slots")
    await connection.close()
    return [row["slot_name"] for row in rows]


def test_a_burnt_primary_is_replaced_and_comes_back_elsewhere(world: Machines) -> None:
    found = world.pgherd("status", "--config", str(world.config("g1-n1")))
    primary = next(group["primary"] for group in found["groups"] if group["id"] == 0)
    machine = int(primary[-1]) - 1
    world.burn(primary)
    asyncio.run(write(world, 1000))
    world.start_node(primary, machine, offset=2)
    until(lambda: patroni(world, machine, "/replica", offset=2) == 200, "it follows the new primary")
    until(lambda: nodes(world)[primary][2] == world.ports[2] + 2, "its new port is known")
    asyncio.run(write(world, 2000))


async def write(world: Machines, first: int) -> None:
    """A hundred rows over all shards, and back again; the gateway waits for a primary if need be."""
    connection = await world.at_gateway()
    await connection.execute(f"INSERT INTO people SELECT n, 0 FROM generate_series({first}, {first + 99}) n")
    assert await connection.fetchval(f"SELECT count(*) FROM people WHERE id >= {first}") == 100
    await connection.execute(f"DELETE FROM people WHERE id >= {first}")
    await connection.close()


def test_another_group_joins(world: Machines) -> None:
    world.start_node("g2-n1", 1, offset=3)
    answer = world.pgherd("add-group", "--config", str(world.config("g0-n1")))
    assert answer == {"added": [2]}
    assert nodes(world)["g2-n1"] == (2, MACHINES[1], world.ports[2] + 3)
    asyncio.run(use_new_group(world))


async def use_new_group(world: Machines) -> None:
    connection = await world.at_gateway("clerk", "opensesame-clerk")
    assert await connection.fetchval("SELECT count(*) FROM people JOIN towns ON towns.id = town") == 300
    await connection.close()
    there = await world.at_node(1, 3)
    assert await there.fetchval("SELECT count(*) FROM towns") == 3
    await there.close()
    connection = await world.at_gateway()
    await connection.execute("CREATE TABLE later (name text PRIMARY KEY) PARTITION BY HASH (name)")
    groups = await connection.fetch(
        "SELECT DISTINCT group_id FROM pgherd.shards JOIN pgherd.tables USING (keyspace) WHERE name = 'later'"
    )
    assert {row["group_id"] for row in groups} == {0, 1, 2}
    await move_a_shard(connection)
    await connection.close()


async def move_a_shard(connection: asyncpg.Connection) -> None:
    """From group 0 to the new group: the workflow's process has to prove itself to all servers as well."""
    place = "SELECT group_id FROM pgherd.shards WHERE id = {}"
    shard = await connection.fetchval("SELECT min(id) FROM pgherd.shards WHERE group_id = 0")
    await connection.execute(f"CALL pgherd.move({shard}, 2)")
    assert await connection.fetchval(place.format(shard)) == 2
    assert await connection.fetchval("SELECT count(*) FROM people") == 300


def test_init_again_changes_nothing(world: Machines) -> None:
    before = nodes(world)
    world.pgherd("init", "--config", str(world.config("g1-n1")))
    assert nodes(world) == before
    assert os.environ.get("PGPASSWORD") is None
