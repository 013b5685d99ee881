"""A cluster of bare groups with tables of every difficult kind, workflows carried out on it, and processes killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from catalog_world import World as CatalogWorld

from pgherd.backend.connection import Credentials
from pgherd.catalog.model import GroupId, Node, Shard
from pgherd.errors import PgherdError
from pgherd.reshard import doctor
from pgherd.reshard.engine import Engine
from pgherd.reshard.model import Piece
from pgherd.reshard.places import Places
from pgherd.reshard.running import Point, no_point

ADMIN = Credentials(user="postgres")

TABLES = """
CREATE TYPE mood AS ENUM ('glad', 'sad', 'so so');
CREATE TABLE codes (code int PRIMARY KEY, word text);
CREATE TABLE users (name text, id bigint, n int NOT NULL DEFAULT 0, m mood, moods mood[], body text, j jsonb, raw bytea, at timestamptz,
    code int, shout text GENERATED ALWAYS AS (upper(name)) STORED, PRIMARY KEY (name, id), UNIQUE (name, n, id), CHECK (n >= 0))
    PARTITION BY RANGE (name, id);
CREATE INDEX by_n ON users (n);
CREATE TABLE pets (name text, id bigint, pet int, PRIMARY KEY (name, id, pet), FOREIGN KEY (name, id) REFERENCES users ON DELETE CASCADE)
    PARTITION BY RANGE (name, id);
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n + 1; RETURN NEW; END $$;
CREATE TRIGGER up BEFORE UPDATE OF body ON users FOR EACH ROW EXECUTE FUNCTION count_up();
CREATE TABLE still (name text, id bigint, PRIMARY KEY (name, id)) PARTITION BY RANGE (name, id);
CREATE TABLE events (id uuid PRIMARY KEY, n int) PARTITION BY HASH (id);
"""

FILL = """
INSERT INTO {users} (name, id, m, moods, body, j, raw, at, code)
SELECT chr(65 + i % 26), i, (ARRAY['glad','sad','so so']::mood[])[1 + i % 3], ARRAY['sad','so so']::mood[],
    CASE WHEN i % 10 = 0 THEN (SELECT string_agg(md5((i * k)::text), E'\\t\\n\\\\') FROM generate_series(1, 200) k) WHEN i % 7 = 0 THEN NULL ELSE E'a\\tb\\n\\\\N' || i END,
    jsonb_build_object('i', i), decode(md5(i::text), 'hex'), '2024-01-01 00:00:00.123456+02'::timestamptz + i * interval '1 s', i % 5
FROM generate_series(1, {rows}) i;
INSERT INTO {pets} SELECT name, id, 1 FROM {users} WHERE id % 3 = 0;
"""


_WORKFLOWS = (
    "SELECT id, kind, state, going, step, phase, error, hint, progress FROM pgherd.workflows ORDER BY id"
)


class World(CatalogWorld):
    """`places()` are connections of workflows; `walk` carries one out in this process, `killed_at` in one that dies on the way."""

    async def fill(self, rows: int = 400) -> Shard:
        """The tables, with rows in users and pets; answers the only shard of users. Foreign keys to a reference table as well."""
        await self.do(TABLES)
        await self.rows(0, "INSERT INTO codes SELECT i, 'word ' || i FROM generate_series(0, 9) i")
        await self.call("reference", "codes")
        await self.do("ALTER TABLE users ADD FOREIGN KEY (code) REFERENCES codes")
        (shard,) = await self.shards("users")
        await self.rows(
            shard.group,
            FILL.format(users=f"shard_{shard.id}.users", pets=f"shard_{shard.id}.pets", rows=rows),
        )
        return shard

    def places(self) -> Places:
        return Places([node for node in self.nodes if node.group == 0], ADMIN)

    async def piece(self, shard: int) -> dict[str, Any]:
        return json.loads(
            await self.one(0, f"SELECT to_jsonb(s) FROM pgherd.shards s WHERE id = {shard}") or "{}"
        )

    async def ask(self, kind: str, old: Sequence[int], new: Sequence[dict[str, Any]], **settings: Any) -> int:
        """Record a workflow; answers its number. `new`: what differs from the first old shard."""
        pieces = [await self.piece(shard) for shard in old]
        after = [Piece.read({**pieces[0], **changes}).row() for changes in new]
        told = {"keep_for_s": 0, "max_pause_ms": 2000, "announce_s": 0, **settings}
        texts = [json.dumps(value).replace("'", "''") for value in (pieces, after, told)]
        numbered = "false" if kind == "move" else "true"
        sql = f"SELECT pgherd.request_workflow('{kind}', '{pieces[0]['keyspace']}', '{texts[0]}', '{texts[1]}', '{texts[2]}', {numbered})"
        return int(await self.one(0, sql) or 0)

    async def walk(self, point: Point = no_point, seconds: float = 45) -> None:
        """Carry out everything that is recorded."""
        places = self.places()
        try:
            async with asyncio.timeout(seconds):
                await self._walk(places, point)
        except TimeoutError:
            raise AssertionError(f"not done in time: {await places.ask(GroupId(0), _WORKFLOWS)}") from None
        finally:
            places.close()

    async def _walk(self, places: Places, point: Point) -> None:
        """As the process of workflows does: when group 0 is lost, begin again."""
        while True:
            try:
                await Engine(places, point=point).run(until_idle=True)
                return
            except (PgherdError, OSError):
                await asyncio.sleep(0.1)

    async def walking(self, until: str, number: int, job: Callable[[], Awaitable[None]]) -> None:
        """Carry a workflow out until its row meets the condition `until`; then do `job`, and go on until it ends."""
        places = self.places()
        task = asyncio.create_task(Engine(places).run(until_idle=True))
        try:
            async with asyncio.timeout(45):
                await self.until(0, f"SELECT FROM pgherd.workflows WHERE id = {number} AND ({until})", task)
                await job()
                await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            places.close()

    async def until(self, group: int, sql: str, task: asyncio.Task[Any] | None = None) -> None:
        """Wait until the query has a row."""
        while not await self.rows(group, sql):
            if task is not None and task.done():
                raise AssertionError(f"it ended before: {sql}; {await self.workflows()}")
            await asyncio.sleep(0.02)

    async def killed_at(self, point: str) -> bool:
        """Carry everything out in a process of its own that kills itself at `point`; answers whether it came there."""
        told = {"point": point, "nodes": [_told(node) for node in self.nodes if node.group == 0]}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__)), json.dumps(told), stdin=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            code = await process.wait()
        assert code in (0, -signal.SIGKILL)
        return code != 0

    async def workflows(self) -> list[Any]:
        return await self.rows(0, _WORKFLOWS)

    async def state(self, number: int) -> str | None:
        return await self.one(0, f"SELECT state FROM pgherd.workflows WHERE id = {number}")

    async def sums(self, table: str, columns: str = "x.*") -> list[list[Any]]:
        """What each group sees of the whole table."""
        return await self.everywhere(
            f"SELECT count(*), sum(hashtextextended(ROW({columns})::text, 0)::numeric) FROM global.{table} x"
        )

    async def sound(self) -> None:
        """Nothing is left behind, everything is in its place."""
        places = self.places()
        try:
            await places.refresh()
            found = await doctor.examine(places, places.groups)
        finally:
            places.close()
        assert found == [], found


def _told(node: Node) -> dict[str, Any]:
    return {"id": node.id, "host": node.host, "port": node.port, "database": node.database}


async def _die(told: dict[str, Any]) -> None:
    async def point(name: str) -> None:
        if name == told["point"]:
            os.kill(os.getpid(), signal.SIGKILL)

    places = Places([Node(group=GroupId(0), **node) for node in told["nodes"]], ADMIN)
    await Engine(places, point=point).run(until_idle=True)


if __name__ == "__main__":
    asyncio.run(_die(json.loads(sys.argv[1])))
