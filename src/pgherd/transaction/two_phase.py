"""Two-phase commit with the decision in the data: the pure protocol, as a table of transitions.

A `Protocol` value knows where one transaction stands; `effects` says what to do next (all of them at once);
`advance` takes what came of each and gives the next value. No I/O, no clock, no chance: the coordinator,
recovery and the simulation drive the same table.

    preparing --all done--> deciding --done--> finishing --all done--> committed
        |                      |                   +------some lost--> pending   (decided, not yet everywhere)
        | refused, lost        | refused           ^
        v                      v                   | committed
      undoing <-------------- (aborted) -------- asking  <-- deciding lost its connection
        |                                          |            (recovery starts here)
        v                                          +--nobody answers--> unknown
      aborted

The decision is home's own commit, which carries a row in pgherd.decisions. Whoever asks inserts the same id as
'aborted' there: if that succeeds the transaction is aborted for good, else the row tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pgherd.catalog.model import GroupId

AGE_LIMIT_S = (
    3000  # an id older than this, without a row, may have been cleaned up: no answer instead of a wrong one
)
KEPT_S = 3600  # decisions are kept at least so long


# Commits of this connection wait for the standby from now on, whatever role, database or session had set. It outlasts the
# transaction, so that COMMIT PREPARED, which stands alone, waits as well.
DURABLY = (
    "SELECT pg_catalog.set_config('synchronous_commit', CASE pg_catalog.current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
# A commit that writes nothing but a mark: when it is answered, all that was committed here before is on the standby.
BARRIER = f"{DURABLY}; SELECT pg_catalog.pg_logical_emit_message(true, 'pgherd', '')"


class Phase(Enum):
    """Where a transaction stands. The last four are final."""

    PREPARING = "preparing"
    DECIDING = "deciding"
    ASKING = "asking"
    FINISHING = "finishing"
    UNDOING = "undoing"
    COMMITTED = "committed"
    PENDING = "pending"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


FINAL = frozenset({Phase.COMMITTED, Phase.PENDING, Phase.ABORTED, Phase.UNKNOWN})


class Result(Enum):
    """What came of one effect. LOST: nobody knows whether it happened."""

    DONE = "done"
    REFUSED = "refused"
    LOST = "lost"
    SAYS_COMMITTED = "says committed"
    SAYS_ABORTED = "says aborted"


TRANSITIONS: Mapping[tuple[Phase, Result], Phase] = {
    (Phase.PREPARING, Result.DONE): Phase.DECIDING,
    (Phase.PREPARING, Result.REFUSED): Phase.UNDOING,
    (Phase.PREPARING, Result.LOST): Phase.UNDOING,
    (Phase.DECIDING, Result.DONE): Phase.FINISHING,
    (Phase.DECIDING, Result.REFUSED): Phase.UNDOING,
    (Phase.DECIDING, Result.LOST): Phase.ASKING,
    (Phase.ASKING, Result.SAYS_COMMITTED): Phase.FINISHING,
    (Phase.ASKING, Result.SAYS_ABORTED): Phase.UNDOING,
    (Phase.ASKING, Result.LOST): Phase.UNKNOWN,
    (Phase.FINISHING, Result.DONE): Phase.COMMITTED,
    (Phase.FINISHING, Result.LOST): Phase.PENDING,
    (Phase.UNDOING, Result.DONE): Phase.ABORTED,
    (
        Phase.UNDOING,
        Result.LOST,
    ): Phase.ABORTED,  # what is left prepared, recovery rolls back: no decision can come
}

# Of several results of one step, the one that counts: anything lost outweighs a refusal, which outweighs success.
WEIGHT = (Result.LOST, Result.REFUSED, Result.SAYS_COMMITTED, Result.SAYS_ABORTED, Result.DONE)


@dataclass(frozen=True, slots=True)
class Gid:
    """The name of a prepared transaction: `pgherd:<id>:<group>:<pid of home's branch, or 0>`.

    The group is in it since names are unique per server, not per database. The pid tells a recovering process
    whether home's branch still lives, and with it the coordinator.
    """

    id: str
    group: GroupId
    home_pid: int

    def __str__(self) -> str:
        return f"pgherd:{self.id}:{self.group}:{self.home_pid}"


_ID = re.compile(r"(\d{1,9})-([0-9a-f]{8,12})-([0-9a-f]{16})")
_GID = re.compile(r"pgherd:(\d{1,9}-[0-9a-f]{8,12}-[0-9a-f]{16}):(\d{1,9}):(\d{1,10})")


def make_id(home: GroupId, born_s: int, noise: int) -> str:
    """A transaction's id: home's group, the second it was born (Unix time) and 64 bits of chance."""
    return f"{home}-{born_s:08x}-{noise:016x}"


def home_of(transaction_id: str) -> GroupId | None:
    """The group that holds the decision, None if this is no transaction id."""
    found = _ID.fullmatch(transaction_id)
    return GroupId(int(found[1])) if found else None


def born_of(transaction_id: str) -> int:
    """The Unix second in which the id was made (its maker's clock)."""
    found = _ID.fullmatch(transaction_id)
    assert found is not None, transaction_id
    return int(found[2], 16)


ID_TAG = 0x7068 << 48  # advisory lock keys that say "the transaction with this id is still running"


def running_key(transaction_id: str) -> int:
    """The advisory lock that an announced transaction's home branch holds while it runs."""
    return ID_TAG | int(transaction_id.rsplit("-", 1)[-1], 16) & ((1 << 48) - 1)


def parse_gid(text: str) -> Gid | None:
    """The parts of a prepared transaction's name, None if it is not one of pgherd's."""
    found = _GID.fullmatch(text)
    return Gid(found[1], GroupId(int(found[2])), int(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class Prepare:
    """PREPARE TRANSACTION in a participant's branch, after taking the gate."""

    group: GroupId
    gid: Gid

    @property
    def sql(self) -> str:
        return f"{DURABLY}; LOCK TABLE pgherd.gate IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION '{self.gid}'"


@dataclass(frozen=True, slots=True)
class Decide:
    """Home's commit with the decision in it."""

    group: GroupId
    id: str
    participants: tuple[GroupId, ...]

    @property
    def sql(self) -> str:
        decision = insert_decision(self.id, "committed", self.participants)
        return f"LOCK TABLE pgherd.home_gate IN ROW EXCLUSIVE MODE; {decision}; COMMIT"


@dataclass(frozen=True, slots=True)
class Ask:
    """Find out the decision in home, on any connection; if there is none, this makes it 'aborted'.

    It writes the row in either case: a decision that a crash or a cancelled wait has left unreplicated is on the standby
    when this is answered, and only then may anybody act on it. `seen`: where it was seen prepared, which proves that it had not ended, and so that 'aborted' is true for ever.
    """

    group: GroupId
    id: str
    seen: tuple[GroupId, ...] = ()

    @property
    def sql(self) -> str:
        return (
            f"SET LOCAL lock_timeout = '1s'; {insert_decision(self.id, 'aborted', self.seen)} ON CONFLICT (id) "
            "DO UPDATE SET outcome = pgherd.decisions.outcome RETURNING outcome, groups::text"
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """COMMIT PREPARED. "Does not exist" means that somebody else has done it."""

    group: GroupId
    gid: Gid

    @property
    def sql(self) -> str:
        return f"COMMIT PREPARED '{self.gid}'"


@dataclass(frozen=True, slots=True)
class Undo:
    """Roll a participant back. `prepared`: False if its PREPARE was refused, so that plain ROLLBACK does it."""

    group: GroupId
    gid: Gid
    prepared: bool

    @property
    def sql(self) -> str:
        return f"ROLLBACK PREPARED '{self.gid}'" if self.prepared else "ROLLBACK"


@dataclass(frozen=True, slots=True)
class UndoHome:
    """Roll back home's own branch."""

    group: GroupId

    @property
    def sql(self) -> str:
        return "ROLLBACK"


Effect = Prepare | Decide | Ask | Finish | Undo | UndoHome


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One transaction's commit. `gids`: the participants' (home is not prepared).

    `refused`: participants whose PREPARE was refused. `home_open`: home's branch is ours and still open.
    """

    id: str
    home: GroupId
    gids: tuple[Gid, ...]
    phase: Phase = Phase.PREPARING
    refused: frozenset[GroupId] = field(default_factory=frozenset[GroupId])
    home_open: bool = True

    @property
    def final(self) -> bool:
        return self.phase in FINAL

    def effects(self) -> tuple[Effect, ...]:
        """What to do next, all at once. Empty if final, or if there is nothing to do in this phase."""
        match self.phase:
            case Phase.PREPARING:
                return tuple(Prepare(gid.group, gid) for gid in self.gids)
            case Phase.DECIDING:
                return (Decide(self.home, self.id, tuple(gid.group for gid in self.gids)),)
            case Phase.ASKING:
                return (Ask(self.home, self.id, tuple(gid.group for gid in self.gids)),)
            case Phase.FINISHING:
                return tuple(Finish(gid.group, gid) for gid in self.gids)
            case Phase.UNDOING:
                undo = tuple(Undo(gid.group, gid, gid.group not in self.refused) for gid in self.gids)
                return (UndoHome(self.home), *undo) if self.home_open else undo
            case _:
                return ()

    def advance(self, results: Mapping[Effect, Result]) -> Protocol:
        """The next value, given what came of each effect of `effects()`."""
        seen = set(results.values())
        result = Result.DONE
        if seen - {Result.DONE}:
            result = next(kind for kind in WEIGHT if kind in seen)
        refused = self.refused
        if self.phase is Phase.PREPARING and result is not Result.DONE:
            refused = frozenset(effect.group for effect, each in results.items() if each is Result.REFUSED)
        return Protocol(
            id=self.id,
            home=self.home,
            gids=self.gids,
            phase=TRANSITIONS[self.phase, result],
            refused=refused,
            # A refused decision leaves home's branch open, though failed; a lost one ends with its connection
            home_open=self.home_open and (self.phase is Phase.PREPARING or result is Result.REFUSED),
        )


def begin(transaction_id: str, home: GroupId, home_pid: int, participants: tuple[GroupId, ...]) -> Protocol:
    """The protocol of a coordinator about to commit; `participants` are the other writing groups."""
    return Protocol(
        id=transaction_id,
        home=home,
        gids=tuple(Gid(transaction_id, group, home_pid) for group in participants),
    )


def recover(transaction_id: str, gids: tuple[Gid, ...]) -> Protocol:
    """The protocol of a recovering process that met these prepared transactions of one id."""
    home = home_of(transaction_id)
    assert home is not None, transaction_id
    return Protocol(id=transaction_id, home=home, gids=gids, phase=Phase.ASKING, home_open=False)


def insert_decision(transaction_id: str, outcome: str, groups: tuple[GroupId, ...]) -> str:
    """The INSERT of a decision row (no semicolon)."""
    listed = ",".join(str(group) for group in groups)
    return f"INSERT INTO pgherd.decisions (id, outcome, groups) VALUES ('{transaction_id}', '{outcome}', '{{{listed}}}')"
