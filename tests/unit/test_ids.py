from itertools import pairwise

import pytest

from pgherd.engine.ids import EPOCH_MS, IdSource, made_at_ms, origin_of
from pgherd.errors import BadSetting


def test_layout() -> None:
    source = IdSource(600, lambda: EPOCH_MS + 5)
    assert source.next() == 5 << 22 | 600 << 11
    number = source.next()
    assert number == 5 << 22 | 600 << 11 | 1
    assert (origin_of(number), made_at_ms(number)) == (600, EPOCH_MS + 5)


def test_borrows_from_the_next_millisecond_and_never_goes_back() -> None:
    clock = [10]
    source = IdSource(2047, lambda: EPOCH_MS + clock[0])
    ids = [source.next() for _ in range(5000)]
    assert made_at_ms(ids[-1]) == EPOCH_MS + 12
    clock[0] = 3  # the clock steps back
    ids += [source.next() for _ in range(10)]
    clock[0] = 50
    ids.append(source.next())
    assert all(one < two for one, two in pairwise(ids))
    assert made_at_ms(ids[-1]) == EPOCH_MS + 50
    assert {origin_of(number) for number in ids} == {2047}


def test_fits_a_bigint_until_2093() -> None:
    assert IdSource(2047, lambda: EPOCH_MS + 2**41 - 1).next() < 2**63


def test_origin_is_checked() -> None:
    with pytest.raises(BadSetting):
        IdSource(2048)
