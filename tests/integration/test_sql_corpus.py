"""Every statement of tests/sql through a gateway, in both protocols, compared with one PostgreSQL that holds the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from corpus_world import Twins, differences, load, make

from pgherd.testing.servers import Yard

pytestmark = pytest.mark.timeout(120)

# Order matters: what is written stays, and the later files have less to read.
FILES = (
    "reads",
    "aggregates",
    "joins",
    "orm",
    "sessions",
    "definitions",
    "more",
    "updates",
    "inserts",
    "truncates",
)


@pytest.fixture(scope="module")
def twins(yard: Yard) -> Iterator[Twins]:
    """Three groups behind a gateway, and the twin."""
    herd = yard.cluster("corpus", embedded=True, groups=3)
    twins = make(herd.dsn(herd.existing()), yard.server("corpus-twin").uri())
    yield twins
    twins.herd.close()
    twins.plain.close()


@pytest.mark.parametrize("name", FILES)
def test_answers_are_what_one_postgresql_gives(name: str, twins: Twins) -> None:
    corpus = load(f"{name}.sql")
    assert corpus.cases
    found = list(differences(corpus, twins))
    assert not found, f"{len(found)} of {len(corpus.cases)} statements differ\n" + "\n".join(found)
