"""Every error that pgherd itself raises: its class, SQLSTATE, whether to retry, and what to do next.

Errors that PostgreSQL raised travel as `ServerError` with PostgreSQL's own fields, unchanged but
for names of physical schemas. Everything else is one of the classes below.
SQLSTATE classes: PostgreSQL manual, appendix A.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class PgherdError(Exception):
    """An error with a SQLSTATE and a hint. `message` is one line; `hint` says what to do next.

    `context` says where it happened, as PostgreSQL's CONTEXT does ("COPY users, line 3"); it may be set later.
    """

    sqlstate: ClassVar[str] = "XX000"
    retry: ClassVar[bool] = False
    hint: str | None = None
    partial = False  # part of an answer was sent before it: the statement cannot be repeated in silence
    context: str | None = None

    def __init__(
        self, message: str, *, hint: str | None = None, detail: str | None = None, position: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.position = position
        if hint is not None:
            self.hint = hint


class ServerError(PgherdError):
    """An ErrorResponse of a PostgreSQL server. `fields` maps the protocol's one-letter field codes to text.

    `sent` is the text that the server got, in which positions are counted, where it is known.
    """

    def __init__(self, fields: Mapping[str, str], *, sent: str | None = None) -> None:
        super().__init__(fields.get("M", "unknown error"), hint=fields.get("H"), detail=fields.get("D"))
        self.fields = dict(fields)
        self.sent = sent

    @property
    def code(self) -> str:
        """The SQLSTATE that the server gave."""
        return self.fields.get("C", "XX000")


class Refused(PgherdError):
    """pgherd does not do this (yet); the hint says what to do instead. The list is docs/refused.md."""

    sqlstate = "0A000"


class UndefinedProcedure(PgherdError):
    """pgherd has no such procedure, or not with these arguments."""

    sqlstate = "42883"


class UndefinedTable(PgherdError):
    """A table that a pgherd procedure was asked to change does not exist."""

    sqlstate = "42P01"


class NoSessionSetting(PgherdError):
    """A setting that does not exist, or belongs to a keyspace or the cluster and not to a session."""

    sqlstate = "42704"


class ReservedName(PgherdError):
    """A name that pgherd keeps for its own schemas."""

    sqlstate = "42939"


class SyntaxRefused(PgherdError):
    """The text is not PostgreSQL SQL; `position` counts characters from 1, as PostgreSQL does."""

    sqlstate = "42601"


class GroupDown(PgherdError):
    """The primary of a group did not answer within the bound; the message names the group."""

    sqlstate = "08006"
    retry = True


class EtcdDown(PgherdError):
    """etcd did not answer within the bound, or refused; PostgreSQL goes on without it for a while, commands that ask it do not."""

    sqlstate = "58030"
    retry = True


class ConnectionLost(GroupDown):
    """The connection broke while it was in use. `watched`: the group's primary can change, so that trying again may help;
    `replica`: it was not to the primary."""

    watched = False
    replica = False


class TransactionLost(PgherdError):
    """A server on which a transaction was open is no more, or a connection to it, before COMMIT was decided; nothing of it was committed."""

    sqlstate = "40001"
    retry = True
    hint = "Run the transaction again: nothing of it was committed."


class NeedsPrimary(PgherdError):
    """A transaction that reads from a replica runs a statement that may do more than read."""

    sqlstate = "25006"
    hint = "SET pgherd.read = 'strong' before the transaction."


class StaleMap(PgherdError):
    """The cluster map is older than the servers' metadata. Nothing was done: refresh, plan again, send again."""

    sqlstate = "PH001"
    retry = True


class GroupsChanged(StaleMap):
    """A group joined or left since the cluster map was read. Even the transaction may go on, with a new map."""


class NullKey(PgherdError):
    """A row of a distributed table needs a value in every column of its shard key."""

    sqlstate = "23502"


class NoShard(PgherdError):
    """No shard's range holds the key."""

    sqlstate = "23514"


class BadKey(PgherdError):
    """A shard key's value is not of the column's type."""

    sqlstate = "22P02"


class GeneratedAlways(PgherdError):
    """A value was given for a column that is GENERATED ALWAYS."""

    sqlstate = "428C9"


class OutOfRange(BadKey):
    """A shard key's value is a number that the column's type cannot hold."""

    sqlstate = "22003"


class BadCopy(PgherdError):
    """The data of a COPY FROM does not follow its format."""

    sqlstate = "22P04"


class OutcomeUnknown(PgherdError):
    """The connection broke during COMMIT: the transaction may or may not have committed. Ask by its id."""

    sqlstate = "08007"


class SnapshotBusy(PgherdError):
    """No consistent snapshot over the groups could be opened within the bound."""

    sqlstate = "40001"
    retry = True


class WindowShut(SnapshotBusy):
    """A window was shut before all snapshots were taken in it."""


class BadPassword(PgherdError):
    """Who logs in could not prove to be the role. The same words whether the role exists or not."""

    sqlstate = "28P01"


class ProtocolViolation(PgherdError):
    """The peer broke the wire protocol; the connection ends."""

    sqlstate = "08P01"


class BadEncoding(PgherdError):
    """A text from the peer is not UTF-8. As in PostgreSQL, the statement fails and the session goes on."""

    sqlstate = "22021"


class TooLarge(PgherdError):
    """A message or an intermediate result exceeds its bound."""

    sqlstate = "54000"


class BadSetting(PgherdError):
    """A setting's value is not allowed."""

    sqlstate = "22023"


class WrongState(PgherdError):
    """The session's transaction state does not allow this statement."""

    sqlstate = "25001"


class DeployError(PgherdError):
    """The local cluster cannot be started, stopped or read; one line that says what to do."""

    sqlstate = "58000"


class LoginRefused(PgherdError):
    """The role may not log in, or its password is wrong."""

    sqlstate = "28P01"


class UnknownDatabase(PgherdError):
    """The cluster is one database, and this is not its name."""

    sqlstate = "3D000"


class AbortedTransaction(PgherdError):
    """An earlier statement of the transaction failed; only its end is left."""

    sqlstate = "25P02"


class UnknownStatement(PgherdError):
    """No prepared statement has this name in the session."""

    sqlstate = "26000"


class UnknownCursor(PgherdError):
    """No cursor or portal has this name in the session."""

    sqlstate = "34000"


class TooManyClients(PgherdError):
    """The gateway serves as many clients as it may."""

    sqlstate = "53300"
    retry = True


class TooManyWaiting(PgherdError):
    """As many statements as may already wait for a group's primary."""

    sqlstate = "53300"
    retry = True
    hint = "Try again in a few seconds; pgherd status says which nodes are up."


class BadToken(PgherdError):
    """A session token that no session of pgherd made, or that was damaged on its way."""

    sqlstate = "22023"
    hint = "Hand on the text that pgherd.session_token() answered, whole and unchanged."


class Cancelled(PgherdError):
    """The client asked for its statement to be cancelled, or went away."""

    sqlstate = "57014"


class WorkflowFailed(PgherdError):
    """A workflow ended without what it was asked for; its hint says what is left, mostly nothing."""

    sqlstate = "55000"


class ShardMoved(PgherdError):
    """A shard was moved, split or merged after the transaction's snapshot was taken: its rows cannot be read as they were."""

    sqlstate = "40001"
    retry = True
