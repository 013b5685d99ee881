"""What a DSN says to pgherd itself, and which doors it names."""

from __future__ import annotations

import pytest

from pgherd.client import address
from pgherd.errors import BadSetting


@pytest.mark.parametrize(
    ("dsn", "bare", "own"),
    [
        (None, None, {}),
        ("postgresql://a/b", "postgresql://a/b", {}),
        ("postgresql://a/b?sslmode=require", "postgresql://a/b?sslmode=require", {}),
        ("postgresql://a/b?pgherd.read=session", "postgresql://a/b", {"read": "session"}),
        (
            "postgresql://u:p@a:1,b:2/c?sslmode=require&pgherd.read=bounded%205s&pgherd.zone=z&user=x",
            "postgresql://u:p@a:1,b:2/c?sslmode=require&user=x",
            {"read": "bounded 5s", "zone": "z"},
        ),
    ],
)
def test_split(dsn: str | None, bare: str | None, own: dict[str, str]) -> None:
    assert address.split(dsn) == (bare, own)


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(BadSetting, match=r"pgherd\.reed"):
        address.split("postgresql://a/b?pgherd.reed=session")
    with pytest.raises(BadSetting, match="soon"):
        address.seconds("soon")


@pytest.mark.parametrize(
    ("dsn", "doors"),
    [
        (None, [{}]),
        ("postgresql://a:1/b", [{}]),
        ("postgresql://u:p@a:1,b/c?x=y,z", [{"host": "a", "port": 1}, {"host": "b", "port": 5432}]),
    ],
)
def test_doors(dsn: str | None, doors: list[dict[str, object]]) -> None:
    assert address.doors(dsn) == doors
