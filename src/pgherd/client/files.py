"""copy_to_table, copy_from_table, copy_from_query: COPY between files (or streams) and the cluster, as in asyncpg."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgherd.engine.copying import copy_in, copy_out
from pgherd.engine.work import name_text, quoted
from pgherd.errors import Refused
from pgherd.plan.plans import CopyIn, CopyOut

if TYPE_CHECKING:
    from pgherd.client.transaction import Transaction

CHUNK = 512 * 1024
_TRUTHS = frozenset({"freeze", "header"})
_LISTS = frozenset({"force_quote", "force_not_null", "force_null"})


def options_text(options: dict[str, Any]) -> str:
    """asyncpg's keyword arguments (format, delimiter, null, header, quote, escape, encoding ...) as a WITH clause."""
    shown: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if name in _TRUTHS:
            shown.append(f"{name} {'true' if value else 'false'}")
        elif name in _LISTS and not isinstance(value, bool | str):
            shown.append(f"{name} ({', '.join(map(name_text, value))})")
        elif name in _LISTS:
            shown.append(f"{name} *")
        else:
            shown.append(f"{name} {quoted(str(value))}")
    return f" WITH ({', '.join(shown)})" if shown else ""


def table_text(table: str, schema: str | None, columns: Sequence[str] | None) -> str:
    """schema.table (columns)."""
    prefix = "" if schema is None else name_text(schema) + "."
    listed = "" if columns is None else f" ({', '.join(map(name_text, columns))})"
    return prefix + name_text(table) + listed


async def copy_to(transaction: Transaction, sql: str, source: Any) -> str:
    """COPY FROM STDIN; `source`: a path, a binary file, bytes, or an async iterable of bytes. The command tag."""
    plan = await transaction.planned(sql)
    if not isinstance(plan, CopyIn):
        raise Refused("COPY into this relation is not possible", hint="COPY into a table.")
    count = await copy_in(plan, _chunks(source), await transaction.work())
    return f"COPY {count}"


async def copy_from(transaction: Transaction, sql: str, output: Any) -> str:
    """COPY TO STDOUT; `output`: a path, a binary file, or a coroutine function that takes bytes. The command tag."""
    plan = await transaction.planned(sql)
    if not isinstance(plan, CopyOut):
        raise Refused("this cannot be copied out")
    work = await transaction.work()
    if isinstance(output, str | os.PathLike):
        with await asyncio.to_thread(Path(output).open, "wb") as file:
            await _write(copy_out(plan, work), file.write)
    elif hasattr(output, "write"):
        await _write(copy_out(plan, work), output.write)
    else:
        await _write(copy_out(plan, work), output)
    return "COPY"


async def _write(chunks: AsyncIterator[bytes], write: Any) -> None:
    async for chunk in chunks:
        done = write(chunk)
        if inspect.isawaitable(done):
            await done


async def _chunks(source: Any) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for chunk in source:
            yield bytes(chunk)
        return
    if isinstance(source, str | os.PathLike):
        file: Any = await asyncio.to_thread(Path(source).open, "rb")
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
        return
    file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
    while chunk := file.read(CHUNK):
        yield chunk
