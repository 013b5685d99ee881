"""How fresh a read must be, and what a session has seen so far. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pgherd.errors import BadSetting

Level = Literal["strong", "session", "bounded", "eventual"]
_BOUNDED = re.compile(r"bounded\s+(\d+(?:\.\d+)?)\s*(ms|s|min)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, None: 1.0}
KEPT_S = 0.02  # so long a node that was chosen is taken again without choosing


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a read asks of the node that answers; `bound_s` seconds, for level bounded only."""

    level: Level = "strong"
    bound_s: float = 0.0

    def __str__(self) -> str:
        return f"bounded {self.bound_s:g}s" if self.level == "bounded" else self.level

    def kept(self) -> tuple[Freshness, float]:
        """What to choose a node by if the choice is then kept, and for how many seconds it may be: a bound is so much stricter."""
        if self.level != "bounded":
            return self, KEPT_S
        kept_s = min(KEPT_S, self.bound_s / 10)
        return Freshness("bounded", self.bound_s - kept_s), kept_s


STRONG = Freshness()
SESSION = Freshness("session")
EVENTUAL = Freshness("eventual")


def parse_freshness(text: str) -> Freshness:
    """`strong`, `session`, `bounded 5s` (ms, s, min) or `eventual`. Raises BadSetting."""
    word = text.strip().lower()
    if word in ("strong", "session", "eventual"):
        return Freshness(word)  # type: ignore[arg-type]
    found = _BOUNDED.fullmatch(word)
    if found is None:
        raise BadSetting(
            f"invalid value for pgherd.read: {text!r}",
            hint="Use strong, session, bounded 5s (or ms, min) or eventual.",
        )
    return Freshness("bounded", float(found[1]) * _UNIT_S[found[2]])
