"""A group in memory for properties of `pgherd.topology`: one primary, standbys, failovers that keep Patroni's promise, and watchers.

The dumb twin: a node's data is a plain list of writes, so what a node holds is never in doubt. Patroni's promise is that nobody
is promoted before every lease given to the one before has run out, and that only a standby that holds all acknowledged writes is promoted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pgherd.catalog.model import GroupId, Node
from pgherd.topology.choose import Candidate, Place, Trust, candidates, trusted_primary
from pgherd.topology.history import History
from pgherd.topology.positions import Position
from pgherd.topology.views import Answer, NodeView

GROUP = GroupId(1)


@dataclass
class Server:
    """`log` is what it has received (on a primary: written), `replayed` how much of it reads see."""

    node: Node
    log: list[int] = field(default_factory=list)
    replayed: int = 0
    timeline: int = 1
    in_recovery: bool = True
    lease_until: float = 0.0
    cut_off: bool = False  # from etcd and from the other servers, not from clients
    born: int = 0  # counts restarts: connections do not survive them

    @property
    def visible(self) -> list[int]:
        return self.log[: self.replayed] if self.in_recovery else self.log

    @property
    def at(self) -> Position:
        return Position(self.timeline, len(self.visible))

    def answer(self, sent: float, now: float) -> Answer:
        return Answer(
            sent=sent,
            rtt_s=0.0,
            in_recovery=self.in_recovery,
            timeline=self.timeline,
            position=len(self.visible),
            lease_ms=max(int((self.lease_until - now) * 1000), 0),
        )


@dataclass
class Question:
    """On its way to a server, then (with an answer) on its way back."""

    server: Server
    sent: float
    born: int
    answer: Answer | None = None


@dataclass
class Watcher:
    """What one asker knows, by the pure parts alone; one question to each node at a time."""

    views: dict[int, NodeView]
    history: History = field(default_factory=History)
    questions: dict[int, Question] = field(default_factory=dict)

    def trust(self, now: float) -> Trust:
        trust = trusted_primary(tuple(self.views.values()), now)
        if trust.view is not None and trust.view.answer is not None:
            self.history.note(trust.view.answer.sent, trust.view.answer.at)
        return trust

    def candidates(self, now: float) -> tuple[Candidate, ...]:
        return candidates(tuple(self.views.values()), self.trust(now), self.history, Place())


class World:
    """Four servers and two watchers. Times are seconds; nothing happens by itself."""

    LEASE_S = 2.0

    def __init__(self) -> None:
        self.now = 100.0
        self.servers = [
            Server(node=Node(id=number, group=GROUP, host="h", port=number, database="d"))
            for number in range(4)
        ]
        self.leader = self.servers[0]
        self.leader.in_recovery = False
        self.sync = self.servers[1]  # acknowledges, and is the only one that may be promoted
        self.acknowledged: dict[int, float] = {}  # write: when
        self._writes = 0
        self.watchers = [
            Watcher({server.node.id: NodeView(node=server.node) for server in self.servers}) for _ in range(2)
        ]

    # ---- servers ---------------------------------------------------------------------------------------

    def write(self, server: Server) -> int:
        """A commit on `server`, if it takes writes; acknowledged later, or never."""
        self._writes += 1
        if not server.in_recovery:
            server.log.append(self._writes)
        return self._writes

    def stream(self, server: Server, count: int) -> None:
        """`server` receives up to `count` writes of the leader, unless its own log has branched off."""
        leader = self.leader
        if not server.in_recovery or server.cut_off or leader.cut_off or server is leader:
            return
        if leader.log[: len(server.log)] != server.log:
            return
        server.timeline = leader.timeline
        server.log += leader.log[len(server.log) : len(server.log) + count]
        if server is self.sync:
            for write in server.log:
                self.acknowledged.setdefault(write, self.now)

    def replay(self, server: Server, count: int) -> None:
        if server.in_recovery:
            server.replayed = min(server.replayed + count, len(server.log))

    def renew(self) -> None:
        if not self.leader.cut_off:
            self.leader.lease_until = self.now + self.LEASE_S

    def fail_over(self) -> None:
        """The synchronous standby takes over, once no lease of the old primary is left (it may still run, cut off)."""
        old, new = self.leader, self.sync
        if self.now < old.lease_until or new.cut_off or not self.acknowledged.keys() <= set(new.log):
            return  # a standby that just joined has not caught up
        old.cut_off = True
        new.in_recovery, new.timeline, new.lease_until = False, old.timeline + 1, 0.0
        self.leader = new
        others = [server for server in self.servers if server is not new and server is not old]
        self.sync = others[0]
        # whatever is acknowledged from now on is acknowledged by this one: it has to follow first
        if new.log[: len(self.sync.log)] != self.sync.log:
            self._rewind(self.sync)

    def take_over(self) -> None:
        """The leader is cut off, and replaced in the very moment in which that is allowed."""
        self.leader.cut_off = True
        self.now = max(self.now, self.leader.lease_until)
        self.fail_over()

    def rejoin(self, server: Server) -> None:
        """A former primary, or a standby that branched off, comes back as a standby of the leader."""
        if server is not self.leader:
            self._rewind(server)

    def _rewind(self, server: Server) -> None:
        common = 0
        while common < min(len(server.log), len(self.leader.log)):
            if server.log[common] != self.leader.log[common]:
                break
            common += 1
        server.log = server.log[:common]
        server.replayed = min(server.replayed, common) if server.in_recovery else common
        server.in_recovery, server.cut_off, server.timeline = True, False, self.leader.timeline
        server.born += 1
        for watcher in self.watchers:  # the connection is lost, and that is seen at once
            watcher.questions.pop(server.node.id, None)
            view = watcher.views[server.node.id]
            watcher.views[server.node.id] = view.failed("lost", refused=False)

    # ---- watchers --------------------------------------------------------------------------------------

    def ask(self, watcher: Watcher, server: Server) -> None:
        """The next step of the question to `server`: it leaves, it is answered there, the answer arrives."""
        key = server.node.id
        question = watcher.questions.get(key)
        if question is None:
            watcher.questions[key] = Question(server, self.now, server.born)
        elif question.answer is None:
            question.answer = server.answer(question.sent, self.now)
        else:
            watcher.views[key] = watcher.views[key].answered(question.answer)
            del watcher.questions[key]

    # ---- truth -----------------------------------------------------------------------------------------

    def lacks_since(self, server: Server) -> float | None:
        """When the first acknowledged write that reads on `server` do not see was acknowledged; None: it lacks nothing."""
        visible = set(server.visible)
        return min((when for write, when in self.acknowledged.items() if write not in visible), default=None)
