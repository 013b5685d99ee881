"""`pgherd up`: start a local cluster and its gateway, in the foreground or the background."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from pgherd.cli.console import errors, output, print_json, steps
from pgherd.cli.place import JsonOption, StateOption, cluster
from pgherd.deploy.local import LocalCluster
from pgherd.deploy.state import State
from pgherd.deploy.wish import Wish
from pgherd.errors import DeployError, PgherdError

Profile = Annotated[
    Literal["fast", "conservative"] | None,
    typer.Option(help="How soon a silent primary is replaced: within 6 s (fast), or 30 s."),
]
WhenAlone = Annotated[
    Literal["auto", "go-on", "stop"] | None,
    typer.Option(help="A primary without standbys goes on with writes, or stops (auto: see pgherd status)."),
]
LOOK_EVERY_S = 1.0
RESTARTS_MAX = 5
CALM_S = 300.0  # after so long without one, restarts are counted anew


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    embedded: Annotated[
        bool | None, typer.Option("--embedded", help="One PostgreSQL server; its databases are the groups.")
    ] = None,
    groups: Annotated[int | None, typer.Option(min=1, max=64, help="How many groups (2).")] = None,
    replicas: Annotated[
        int | None, typer.Option(min=0, max=6, help="How many standbys each group has (1).")
    ] = None,
    regions: Annotated[
        str | None, typer.Option(metavar="A,B", help="Regions, given to the nodes of each group in turn.")
    ] = None,
    etcd: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,…", help="An etcd that runs already (one of its own).")
    ] = None,
    profile: Profile = None,
    when_alone: WhenAlone = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The gateway's port (6432, or the next free one).")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST", help="The gateway's address (127.0.0.1).")
    ] = None,
    auth: Annotated[
        Literal["trust", "scram"] | None, typer.Option(help="How clients log in (trust: on loopback only).")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="The gateway's certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="The certificate's key.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it running in the background.")
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Start the cluster (made first if it is new) and its gateway."""
    wish = Wish(
        embedded=embedded,
        groups=groups,
        auth=auth,
        listen=listen,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        replicas=replicas,
        regions=_listed(regions),
        etcd=_listed(etcd),
        profile=profile,
        when_alone=when_alone,
    )
    with steps() as report:
        local = cluster(state, report)
        before = local.state()
        already = before is not None and local.running(before)
        started = time.monotonic()
        current = local.up(wish)
    if before is None or not before.installed:
        _doubt(local, current)
    _tell(local, current, already, time.monotonic() - started, json)
    if not detach and not already:
        watch(local)


def _doubt(local: LocalCluster, current: State) -> None:
    """Say once what a new cluster should not be relied on for."""
    if doubts := local.doubts(current):
        errors.print(doubts, highlight=False, soft_wrap=True)


def _tell(local: LocalCluster, current: State, already: bool, seconds: float, json: bool) -> None:
    if json:
        print_json({"dsn": local.dsn(current), "state": str(local.directory), "already_running": already})
        return
    servers = len(current.nodes) or len(current.servers)
    kind = "one server" if current.embedded else _counted(servers, "node" if current.managed else "server")
    what = f"{_counted(len(current.groups), 'group')} on {kind}"
    done = "is already running" if already else f"started in {seconds:.1f} s"
    output.print(f"[bold green]pgherd[/] {done}: {what}, state in {local.directory}", highlight=False)
    output.print(f"\n  {local.dsn(current)}\n", highlight=False, style="bold")
    if current.auth == "scram":
        output.print(f"The password of postgres is in {local.directory}/admin_password.\n", highlight=False)
    output.print("Try next:  pgherd psql      pgherd status      pgherd shards", highlight=False)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


class Asked:
    """Whether somebody asked for the end: by Ctrl-C, SIGTERM or SIGHUP. An exception alone may get lost, in a destructor for one."""

    def __init__(self) -> None:
        self.yes = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (
                number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
            ):  # a script's background
                signal.signal(number, self._note)

    def _note(self, *_signal: object) -> None:
        self.yes = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt."""
        if self.yes:
            raise KeyboardInterrupt


def watch(local: LocalCluster) -> None:
    """Stay until Ctrl-C, SIGTERM, SIGHUP or a `pgherd down` elsewhere; start again what dies, a few times. Then stop everything."""
    asked = Asked()
    errors.print("Ctrl-C stops it.", highlight=False)
    try:
        with steps() as report:
            _keep_alive(local, report, asked)
        errors.print("stopped by another command", highlight=False)
        return
    except KeyboardInterrupt:
        errors.print("stopping …", highlight=False)
    _stop(local)


def _keep_alive(local: LocalCluster, report: Callable[[str], None], asked: Asked) -> None:
    """Look every second, until another command has asked for an end."""
    restarts, since, last = 0, time.monotonic(), 0.0
    while (current := local.existing()).wanted == "up":
        asked.check()
        parts = local.parts(current)
        dead = [part.name for part in parts if part.pid is None]
        if dead and local.existing().wanted == "up":
            restarts = 1 if time.monotonic() - last > CALM_S else restarts + 1
            last = time.monotonic()
            if restarts > RESTARTS_MAX:
                raise DeployError(
                    f"{dead[0]} ended again and again",
                    hint=f"Read the logs in {local.directory}; then pgherd down.",
                )
            errors.print(f"{', '.join(dead)} ended: starting again", highlight=False)
            _revive(local)
        running = (
            f"{len(parts)} processes, up for {datetime.timedelta(seconds=int(time.monotonic() - since))}"
        )
        report(f"running: {running}")
        time.sleep(LOOK_EVERY_S)


def _revive(local: LocalCluster) -> None:
    try:
        local.up()
    except PgherdError as error:  # another command may be at work: look again in a second, a few times
        errors.print(f"pgherd: {error.message}", highlight=False, markup=False)


def _stop(local: LocalCluster) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C shall not leave half of it running
    try:
        local.down()
    except PgherdError as error:
        raise DeployError(f"not everything stopped: {error.message}", hint="Run: pgherd down") from error
