"""The savepoints of a distributed transaction: remembered, since branches that open later need them too."""

from __future__ import annotations

from pgherd.errors import ServerError


class Savepoints:
    """A stack of names, with PostgreSQL's rules: a name may occur again, and the latest one counts."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def opening(self) -> list[str]:
        """What a new branch must run to stand where the others stand."""
        return [self.sql_savepoint(name) for name in self.names]

    def add(self, name: str) -> None:
        self.names.append(name)

    def release(self, name: str) -> None:
        """Forget `name` and all after it."""
        del self.names[self._at(name) :]

    def rollback_to(self, name: str) -> None:
        """Forget all after `name`."""
        del self.names[self._at(name) + 1 :]

    def check(self, name: str) -> None:
        """Raises ServerError 3B001 if there is no such savepoint: also when no branch is open to say so."""
        self._at(name)

    def _at(self, name: str) -> int:
        for at in range(len(self.names) - 1, -1, -1):
            if self.names[at] == name:
                return at
        raise ServerError(
            {"S": "ERROR", "V": "ERROR", "C": "3B001", "M": f'savepoint "{name}" does not exist'}
        )

    @staticmethod
    def sql_savepoint(name: str) -> str:
        return f"SAVEPOINT {_quoted(name)}"

    @staticmethod
    def sql_release(name: str) -> str:
        return f"RELEASE SAVEPOINT {_quoted(name)}"

    @staticmethod
    def sql_rollback_to(name: str) -> str:
        return f"ROLLBACK TO SAVEPOINT {_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
