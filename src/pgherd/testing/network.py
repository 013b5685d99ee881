"""Hosts on one machine: network namespaces with addresses of their own on a bridge, and what can go wrong between them.

Needs root and iproute2 (`missing` says what is not there). Faults use what every kernel has: a neighbour entry that leads
nowhere loses packets in one direction without a word, a classic BPF filter loses some of them, and a relay of our own (`network_delay`) delays them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgherd.deploy import processes

NOWHERE = "02:de:ad:00:00:01"  # a hardware address that nobody has
_ALL_BITS = 2**32 - 1
_RANDOM = _ALL_BITS - 4096 + 56 + 1  # SKF_AD_OFF + SKF_AD_RANDOM, see the kernel's filter.txt
_PREFIX = "pgherd"


def missing() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"{program} (iproute2) is not installed"
    probe = f"{_PREFIX}{os.getpid()}probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "del", probe)
    except NetworkError as error:
        return f"no network namespaces here: {error}"
    return None


class NetworkError(Exception):
    """A command of iproute2 failed."""


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip()}")


def _ip(*words: str) -> None:
    _run("ip", *words)


@dataclass(slots=True, eq=False)
class Host:
    """One host: `address` is its IPv4 address, `space` its namespace. Made by `Network.host`."""

    name: str
    address: str
    space: str
    network: Network
    cuts: set[str] = field(default_factory=set[str])

    def start(self, command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process on this host."""
        words = ["ip", "netns", "exec", self.space, *(os.fspath(word) for word in command)]
        return subprocess.Popen[bytes](words, stdin=subprocess.DEVNULL, start_new_session=True, **options)

    def pids(self) -> list[int]:
        """All processes of this host."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.space], capture_output=True, text=True, timeout=30, check=False
        )
        return [int(word) for word in done.stdout.split()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the host."""
        for pid in self.pids():
            processes.send(pid, number)

    def burn(self) -> None:
        """Kill everything on it at once, as a power cut would."""
        deadline = time.monotonic() + 10
        while (left := self.pids()) and time.monotonic() < deadline:
            for pid in left:
                processes.send(pid, signal.SIGKILL)
            processes.wait_gone(left, 2)

    def freeze(self) -> None:
        """Stop every process where it is; the kernel goes on acknowledging packets."""
        for _ in range(2):  # a second time for those that were being born
            self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self.signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Take its cable out."""
        _ip("-n", self.space, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Put it back."""
        _ip("-n", self.space, "link", "set", "eth0", "up")

    def lose(self, share: float) -> None:
        """Lose this share (0 to 1) of the packets that it sends, by chance; 0: none."""
        subprocess.run(
            ["tc", "-n", self.space, "qdisc", "del", "dev", "eth0", "clsact"],
            capture_output=True,
            check=False,
        )
        if share > 0:
            limit = int(_ALL_BITS * (1 - share))  # random > limit: drop (2 is TC_ACT_SHOT), else go on
            code = f"4,32 0 0 {_RANDOM},37 0 1 {limit},6 0 0 2,6 0 0 {_ALL_BITS}"
            _run("tc", "-n", self.space, "qdisc", "add", "dev", "eth0", "clsact")
            _run(
                "tc", "-n", self.space, "filter", "add", "dev", "eth0", "egress", "bpf", "da", "bytecode", code
            )  # fmt: skip

    def cut(self, other: Host) -> None:
        """Lose every packet from here to `other`, silently; the other direction stays as it is."""
        self.network.neighbour(self, other, "replace", "lladdr", NOWHERE, "nud", "permanent")
        self.cuts.add(other.name)

    def heal(self, other: Host) -> None:
        """Undo `cut`."""
        if other.name in self.cuts:
            self.cuts.discard(other.name)
            try:
                self.network.neighbour(self, other, "del")
            except NetworkError as error:  # a link that was down meanwhile has forgotten it by itself
                if "No such file" not in str(error):
                    raise


@dataclass(slots=True, eq=False)
class Network:
    """A bridge with hosts. This process is on it as well, as the host `here`. Goes with the process (also `close`)."""

    number: int  # of the subnet 10.<number>.0.0/24
    hosts: dict[str, Host] = field(default_factory=dict[str, Host])
    _relays: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    @classmethod
    def open(cls) -> Network:
        """A network of its own for this process; what dead processes left is swept away."""
        _sweep()
        number = 64 + os.getpid() % 128
        network = cls(number)
        _ip("link", "add", network.bridge, "type", "bridge")
        atexit.register(network.close)
        _ip("addr", "add", f"10.{number}.0.1/24", "dev", network.bridge)
        _ip("link", "set", network.bridge, "up")
        network.hosts["here"] = Host("here", f"10.{number}.0.1", "", network)
        return network

    @property
    def bridge(self) -> str:
        return f"ph{os.getpid()}"

    @property
    def here(self) -> Host:
        """This process's own end: address and cuts; it has no namespace."""
        return self.hosts["here"]

    def host(self, name: str, *, delay_ms: float = 0.0) -> Host:
        """A new host. With `delay_ms`, everything to it and from it takes so long, each way."""
        number = len(self.hosts) + 1
        space = f"{_PREFIX}{os.getpid()}-{name}"
        host = Host(name, f"10.{self.number}.0.{number}", space, self)
        _ip("netns", "add", space)
        self.hosts[name] = host
        if delay_ms:
            self._delayed(host, number, delay_ms)
        else:
            outside = f"{self.bridge}v{number}"
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", outside, "master", self.bridge)
            _ip("link", "set", outside, "up")
        for device in ("lo", "eth0"):
            _ip("-n", space, "link", "set", device, "up")
        _ip("-n", space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        return host

    def _delayed(self, host: Host, number: int, delay_ms: float) -> None:
        outside, inside = f"{self.bridge}t{number}", f"{self.bridge}i{number}"
        words = [sys.executable, "-m", "pgherd.testing.network_delay", outside, inside, str(delay_ms)]
        relay = subprocess.Popen[bytes](words, stdin=subprocess.DEVNULL)
        self._relays.append(relay)
        deadline = time.monotonic() + 10
        while not all(Path(f"/sys/class/net/{name}").exists() for name in (outside, inside)):
            if relay.poll() is not None or time.monotonic() > deadline:
                raise NetworkError("the delaying relay does not start")
            time.sleep(0.02)
        _ip("link", "set", outside, "master", self.bridge)
        _ip("link", "set", outside, "up")
        _ip("link", "set", inside, "netns", host.space)
        _ip("-n", host.space, "link", "set", inside, "name", "eth0")

    def neighbour(self, source: Host, target: Host, verb: str, *words: str) -> None:
        """Change what `source` knows of where `target` is."""
        space = ["-n", source.space] if source.space else []
        device = "eth0" if source.space else self.bridge
        _ip(*space, "neigh", verb, target.address, "dev", device, *words)

    def part(self, one: Iterable[Host], other: Iterable[Host]) -> None:
        """A partition: nothing between the two sides, in either direction."""
        for a in one:
            for b in list(other):
                a.cut(b)
                b.cut(a)

    def heal(self) -> None:
        """All cables in, all cuts and losses gone, everybody awake."""
        for host in self.hosts.values():
            for other in self.hosts.values():
                host.heal(other)
            if host.space:
                host.lose(0)
                host.plug()
                host.thaw()

    def close(self) -> None:
        """Kill everything on the hosts and remove them. Again is fine."""
        atexit.unregister(self.close)
        for host in self.hosts.values():
            if host.space:
                host.thaw()
                host.burn()
                subprocess.run(["ip", "netns", "del", host.space], capture_output=True, check=False)
        self.hosts.clear()
        for relay in self._relays:
            relay.kill()
            relay.wait()
        self._relays.clear()
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


def _sweep() -> None:
    """Remove the namespaces and bridges of processes that are gone."""
    spaces = Path("/run/netns")
    for path in spaces.glob(f"{_PREFIX}*-*") if spaces.is_dir() else ():
        owner = path.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not processes.alive(int(owner)):
            Host(path.name, "", path.name, Network(0)).burn()
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)
    for path in Path("/sys/class/net").glob("ph[0-9]*"):
        owner = path.name[2:]
        if owner.isdigit() and not processes.alive(int(owner)):
            subprocess.run(["ip", "link", "del", path.name], capture_output=True, check=False)
