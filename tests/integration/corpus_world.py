"""The SQL corpus: statements of tests/sql, sent through a gateway and to one PostgreSQL with the same rows, and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import postgast
import psycopg
from psycopg import pq

FILES = Path(__file__).parent.parent / "sql"
_PARTITION = re.compile(r"\s*PARTITION BY (RANGE|HASH) \([^)]*\)", re.IGNORECASE)
_MARK = re.compile(r"^-- (refused|ties|values|params|only|differs)\b:?\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Case:
    """One message. `marks`: `refused` (pgherd says 0A000), `ties` (ORDER BY is not total), `values` (values may differ:
    their shape is compared), `params` (a JSON list of texts), `only` (a protocol), `differs` (why an error may differ)."""

    line: int
    text: str
    marks: dict[str, str]

    @property
    def params(self) -> list[str | None]:
        return json.loads(self.marks["params"]) if "params" in self.marks else []


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """`mode`: `reads`; `writes` (each also undone, and `tables` compared after it); `script` (as it stands)."""

    name: str
    mode: str
    tables: tuple[str, ...]
    cases: tuple[Case, ...]


def load(name: str) -> CorpusFile:
    """Read one file: blocks between empty lines; lines `-- mark: text` before a statement belong to it."""
    mode, tables, cases = "reads", (), []
    for line, block in blocks((FILES / name).read_text()):
        marks: dict[str, str] = {}
        rest: list[str] = []
        for row in block.split("\n"):
            if row.startswith("-- mode: "):
                mode = row.removeprefix("-- mode: ")
            elif row.startswith("-- tables: "):
                tables = tuple(row.removeprefix("-- tables: ").split())
            elif (found := _MARK.match(row)) is not None:
                marks[found[1]] = found[2]
            elif rest or not row.startswith("-- "):
                rest.append(row)
        if rest:
            cases.append(Case(line, "\n".join(rest), marks))
    return CorpusFile(name, mode, tables, tuple(cases))


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, each with its first line's number."""
    line = 1
    for paragraph in re.split(r"(\n{2,})", text):
        if paragraph.strip():
            yield line, paragraph.strip("\n")
        line += paragraph.count("\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side said to one statement of a message."""

    tag: str = ""
    columns: tuple[tuple[str, str, int], ...] = ()  # name, type, modifier
    rows: tuple[tuple[bytes | None, ...], ...] = ()
    error: str = ""  # SQLSTATE
    message: str = ""
    status: int = 0


class Side:
    """One connection, spoken to in both protocols."""

    def __init__(self, uri: str, *, plain: bool = False) -> None:
        self.plain = plain
        self.connection = psycopg.connect(uri, autocommit=True)
        self.pg = self.connection.pgconn
        self.types: dict[int, str] = {}

    def close(self) -> None:
        self.connection.close()

    def simple(self, sql: str) -> list[Answer]:
        """One Query message."""
        self.pg.send_query(sql.encode())
        return self._answers()

    def extended(self, sql: str, params: list[str | None]) -> list[Answer]:
        """Parse and Describe, then Bind and Execute."""
        self.pg.send_prepare(b"", sql.encode())
        made = self._answers()
        if made and made[-1].error:
            return made[-1:]
        described = self.pg.describe_prepared(b"")
        shape = self._shape(described)
        self.pg.send_query_prepared(b"", [None if one is None else one.encode() for one in params])
        answers = self._answers()
        told = bool(answers) and not answers[-1].error and described.status == pq.ExecStatus.COMMAND_OK
        if told and answers[-1].columns not in ((), shape):
            return [Answer(message=f"Describe says {shape}, Execute {answers[-1].columns}")]
        return answers

    def _answers(self) -> list[Answer]:
        found: list[Answer] = []
        while (result := self.pg.get_result()) is not None:
            if result.status in (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                found.append(Answer(tag="COPY", rows=tuple(self._copied())))
                continue
            if result.status == pq.ExecStatus.COPY_IN:
                self.pg.put_copy_end(b"none")
                continue
            found.append(self._answer(result))
        return found

    def _copied(self) -> Iterator[tuple[bytes | None, ...]]:
        while True:
            size, data = self.pg.get_copy_data(0)
            if size < 0:
                return
            yield (bytes(data),)

    def _answer(self, result: Any) -> Answer:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            code = result.error_field(pq.DiagnosticField.SQLSTATE) or b"?"
            message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            return Answer(error=code.decode(), message=message.decode())
        rows = tuple(
            tuple(result.get_value(row, column) for column in range(result.nfields))
            for row in range(result.ntuples)
        )
        tag = (result.command_status or b"").decode()
        return Answer(tag=tag, columns=self._shape(result), rows=rows)

    def _shape(self, result: Any) -> tuple[tuple[str, str, int], ...]:
        return tuple(
            ((result.fname(at) or b"").decode(), self.type_name(result.ftype(at)), result.fmod(at))
            for at in range(result.nfields)
        )

    def type_name(self, oid: int) -> str:
        """Built-in types by their OID, others by name: their OIDs differ from database to database."""
        return str(oid) if oid < 16384 else self.types.get(oid, f"?{oid}")

    def named(self, column: tuple[str, str, int]) -> tuple[str, str, int]:
        """A column whose type may have become known."""
        name, kind, modifier = column
        return name, self.type_name(int(kind[1:])) if kind.startswith("?") else kind, modifier

    def learn_types(self) -> None:
        """Read the names of the user's types."""
        rows = self.connection.execute("SELECT oid::int, typname FROM pg_type WHERE oid >= 16384").fetchall()
        self.types = dict(rows)


@dataclass(slots=True)
class Twins:
    """The cluster's gateway and the plain PostgreSQL."""

    herd: Side
    plain: Side

    def both(self, sql: str) -> None:
        """For preparations: the same on both sides, and no error."""
        for side, text in ((self.plain, _PARTITION.sub("", sql)), (self.herd, sql)):
            if text.startswith("CALL pgherd.") and side is self.plain:
                continue
            for answer in side.simple(text):
                assert not answer.error, (text, answer)

    def spread(self, groups: int) -> None:
        """Shards of range keyspaces over all groups, by turns."""
        rows = self.herd.connection.execute(
            "SELECT s.id FROM pgherd.shards s WHERE s.strategy = 'range' ORDER BY 1"
        ).fetchall()
        for number, (shard,) in enumerate(rows):
            self.herd.connection.execute(f"CALL pgherd.move({shard}, {number % groups})")


def make(herd: str, plain: str, groups: int = 3) -> Twins:
    """Both sides with the corpus' tables and rows."""
    twins = Twins(Side(herd), Side(plain, plain=True))
    for name in ("schema.sql", "placing.sql"):
        for case in load(name).cases:
            twins.both(case.text)
    twins.spread(groups)
    for case in load("rows.sql").cases:
        twins.both(case.text)
    twins.herd.learn_types()
    twins.plain.learn_types()
    return twins


def differences(corpus: CorpusFile, twins: Twins) -> Iterator[str]:
    """Run a file in both protocols; one line for every statement whose answers differ."""
    for protocol in ("simple", "extended"):
        for case in corpus.cases:
            if case.marks.get("only", protocol) != protocol or (case.params and protocol == "simple"):
                continue
            yield from _case(corpus, case, protocol, twins)
        if corpus.mode == "script":
            twins.both("ROLLBACK")


def _case(corpus: CorpusFile, case: Case, protocol: str, twins: Twins) -> Iterator[str]:
    where = f"{corpus.name}:{case.line} [{protocol}]"
    undone = corpus.mode == "writes" and (protocol == "simple" or "values" in case.marks)
    if undone:
        twins.both("BEGIN")
    plain, herd = ask(twins.plain, case, protocol), ask(twins.herd, case, protocol)
    refused = any(answer.error == "0A000" for answer in herd) and not any(a.error == "0A000" for a in plain)
    if refused and "refused" in case.marks:
        if undone:
            twins.both("ROLLBACK")
        elif corpus.mode == "writes":
            _even(corpus, twins)
        return
    if "refused" in case.marks:
        yield f"{where} is not refused any more: take the mark away\n  {case.text}"
    found = compare(case, plain, herd)
    if found:
        yield f"{where} {found}\n  {case.text}"
    if (
        corpus.mode == "writes"
        and "values" not in case.marks
        and not (undone and any(a.error for a in (*plain, *herd)))
    ):
        for table in corpus.tables:
            found = _table(table, twins)
            if found:
                yield f"{where} leaves {table} different: {found}\n  {case.text}"
                if not undone:
                    _even(corpus, twins)
    if undone:
        twins.both("ROLLBACK")


def _even(corpus: CorpusFile, twins: Twins) -> None:
    """The twin carried out what was refused: its tables are filled again from the cluster."""
    twins.plain.connection.execute("SET session_replication_role = replica")
    for table in corpus.tables:
        names = twins.plain.connection.execute(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        ).fetchone()
        assert names is not None
        with (
            twins.herd.connection.cursor().copy(f"COPY {table} ({names[0]}) TO STDOUT") as out,
        ):
            data = list(out)
        twins.plain.connection.execute(f"DELETE FROM {table}")
        with twins.plain.connection.cursor().copy(f"COPY {table} ({names[0]}) FROM STDIN") as into:
            for chunk in data:
                into.write(chunk)
    twins.plain.connection.execute("RESET session_replication_role")


def ask(side: Side, case: Case, protocol: str) -> list[Answer]:
    """One message's answers."""
    text = _PARTITION.sub("", case.text) if side.plain else case.text
    answers = side.simple(text) if protocol == "simple" else side.extended(text, case.params)
    if any(kind.startswith("?") for answer in answers for _, kind, _ in answer.columns):
        side.learn_types()
        return [replace(one, columns=tuple(map(side.named, one.columns))) for one in answers]
    return answers


def _table(table: str, twins: Twins) -> str:
    sql = f"SELECT * FROM {table}"
    plain, herd = twins.plain.simple(sql)[0], twins.herd.simple(sql)[0]
    if herd.error:
        return f"{herd.error} {herd.message}"
    more, less = _minus(herd.rows, plain.rows), _minus(plain.rows, herd.rows)
    return f"+{more[:2]} -{less[:2]} ({len(plain.rows)} rows)" if more or less else ""


def compare(case: Case, plain: list[Answer], herd: list[Answer]) -> str:
    """What differs, in words; empty if nothing does."""
    if len(plain) != len(herd):
        return f"{len(herd)} answers instead of {len(plain)}: {herd} / {plain}"[:600]
    for should, is_ in zip(plain, herd, strict=True):
        found = _answer_differs(case, should, is_)
        if found:
            return found
    return ""


def _answer_differs(case: Case, should: Answer, is_: Answer) -> str:
    if is_.message and not is_.error and is_.message != should.message:
        return is_.message
    if should.error != is_.error:
        return f"error {is_.error or 'none'} {is_.message!r} instead of {should.error or 'none'} {should.message!r}"
    if should.error:
        return (
            ""
            if should.message == is_.message or "differs" in case.marks
            else f"message {is_.message!r} instead of {should.message!r}"
        )
    if should.tag != is_.tag:
        return f"tag {is_.tag!r} instead of {should.tag!r}"
    if should.columns != is_.columns:
        return f"columns {is_.columns} instead of {should.columns}"
    if "values" in case.marks:
        return (
            "" if len(should.rows) == len(is_.rows) else f"{len(is_.rows)} rows instead of {len(should.rows)}"
        )
    if ordered(case):
        if should.rows != is_.rows:
            same = not _minus(should.rows, is_.rows) and not _minus(is_.rows, should.rows)
            return f"{'order' if same else 'rows'} {is_.rows[:4]} instead of {should.rows[:4]} ({len(is_.rows)}/{len(should.rows)})"
        return ""
    more, less = _minus(is_.rows, should.rows), _minus(should.rows, is_.rows)
    return f"rows +{more[:3]} -{less[:3]} ({len(is_.rows)}/{len(should.rows)})" if more or less else ""


def ordered(case: Case) -> bool:
    """Whether the order of the rows is said: ORDER BY, a VALUES list that answers, or what runs on a cursor of such."""
    if "ties" in case.marks:
        return False
    try:
        node = postgast.parse(case.text).stmts[-1].stmt
    except postgast.PgQueryError:
        return False
    kind = node.WhichOneof("node")
    if kind == "select_stmt":
        return bool(node.select_stmt.sort_clause or node.select_stmt.values_lists)
    if kind == "insert_stmt":
        source = node.insert_stmt.select_stmt.select_stmt
        return bool(source.values_lists or source.sort_clause)
    return kind in ("fetch_stmt", "execute_stmt")


def _minus(rows: Any, others: Any) -> list[Any]:
    left = list(others)
    found: list[Any] = []
    for row in rows:
        if row in left:
            left.remove(row)
        else:
            found.append(row)
    return found
