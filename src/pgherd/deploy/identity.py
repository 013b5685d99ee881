"""As whom servers run. PostgreSQL refuses to run as root, so root has to become somebody else.

In order: an unprivileged account, if it can reach programs and data; else a user namespace, inside which root's files
stay readable although the id is not 0.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pgherd.deploy.binaries import Binaries
from pgherd.errors import DeployError

NOBODY = 65534
Kind = Literal["self", "account", "namespace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`self`: as we are. `account`: as user `uid`, group `gid`. `namespace`: as root, seen as `uid` from inside."""

    kind: Kind
    uid: int
    gid: int

    def command(self, words: Sequence[str | os.PathLike[str]]) -> list[str]:
        """The command that runs `words` as this identity (together with `options`)."""
        plain = [os.fspath(word) for word in words]
        if self.kind != "namespace":
            return plain
        return ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--", *plain]

    def options(self) -> dict[str, Any]:
        """Further arguments for subprocess."""
        if self.kind != "account":
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a file or directory to this identity."""
        if self.kind == "account":
            os.chown(path, self.uid, self.gid)


def choose(binaries: Binaries, directory: Path, *, python: bool = False) -> Identity:
    """The identity for servers whose data lies in `directory` (which exists); `python`: that can run pgherd as well.

    Raises DeployError if this process is root and can become nobody else.
    """
    if os.geteuid() != 0:
        return Identity(kind="self", uid=os.geteuid(), gid=os.getegid())
    account = _account()
    if account is not None and _reaches(account, binaries, directory, python):
        return account
    if _namespaces_work():
        return Identity(kind="namespace", uid=0, gid=0)
    raise DeployError(
        f"PostgreSQL does not run as root, user namespaces are not allowed here, "
        f"and no unprivileged user can reach both {binaries.directory} and {directory}",
        hint="Run pgherd as an ordinary user, or put the virtual environment and --state where any user may read, such as /opt and /var/lib.",
    )


def _account() -> Identity | None:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(kind="account", uid=entry.pw_uid, gid=entry.pw_gid)
    return None


def _reaches(account: Identity, binaries: Binaries, directory: Path, python: bool) -> bool:
    words = ["sh", "-c", '"$0" -V >/dev/null && test -x "$1"', str(binaries.path("postgres")), str(directory)]
    if python:
        words[2] += ' && "$2" -c "import patroni, pgherd"'
        words.append(sys.executable)
    try:
        done = subprocess.run(
            words, capture_output=True, cwd="/", timeout=30, check=False, **account.options()
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


@cache
def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = Identity(kind="namespace", uid=0, gid=0).command(["sh", "-c", 'test "$(id -u)" != 0'])
    try:
        return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def of_existing(data: Path) -> Identity | None:
    """The identity that an existing data directory belongs to; None if it does not exist.

    Raises DeployError if it is somebody's whom this process cannot become.
    """
    try:
        owner = data.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if owner.st_uid == os.geteuid():
        kind: Kind = "self" if owner.st_uid else "namespace"
        return Identity(kind=kind, uid=owner.st_uid, gid=owner.st_gid)
    if os.geteuid() == 0:
        return Identity(kind="account", uid=owner.st_uid, gid=owner.st_gid)
    raise DeployError(
        f"the data directory {data} belongs to another user (id {owner.st_uid})",
        hint="Run the command as that user, or choose another directory with --state.",
    )
