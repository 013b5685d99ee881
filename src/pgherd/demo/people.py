"""The demonstration's data: people with American surnames and first names at their real frequencies, and their orders.

Names and weights are Faker's (the surnames are the 1,000 most frequent of the US census). The same seed gives the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import accumulate
from typing import cast

from faker.providers.person.en_US import Provider

SEED = 1790  # the year of the first US census
NIGHT = date(2026, 6, 13)
QUIET_DAYS = 700  # for so long the shop was known to few
CREDIT = 100
CHUNK_ROWS = 10_000

PRODUCTS: Sequence[tuple[int, str, str, int]] = (  # id, name, price, weight
    (1, "Small elephant, grey", "14.00", 30),
    (2, "Small elephant, blue", "14.00", 22),
    (3, "Large elephant, grey", "39.00", 9),
    (4, "Elephant with hat", "19.50", 14),
    (5, "Mother and calf", "52.00", 6),
    (6, "The herd (seven elephants)", "120.00", 2),
    (7, "Elephant hat for people", "24.00", 12),
    (8, "Pattern to knit your own", "5.00", 5),
)


@dataclass(frozen=True)
class Crowd:
    """So many people, the first `early` of whom came before the night; and `orders` orders of theirs."""

    people: int
    early: int
    orders: int

    def draw(self) -> None:
        """Draw all names now, so that loading need not wait for it."""
        assert len(self.last_names) == len(self.first_names)

    @cached_property
    def last_names(self) -> list[str]:
        """The surname of person 1, 2, 3 …"""
        return _drawn("last names", cast(Mapping[str, float], Provider.last_names), self.people)

    @cached_property
    def first_names(self) -> list[str]:
        """The first name of person 1, 2, 3 …"""
        return _drawn("first names", cast(Mapping[str, float], Provider.first_names), self.people)

    def people_rows(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Persons `first` to `last` (numbers from 1) as chunks for COPY: how many rows, and their text."""
        chance = random.Random(f"{SEED} joined {first}")
        night = NIGHT.isoformat()
        quiet = [(NIGHT - timedelta(days=day)).isoformat() for day in range(1, QUIET_DAYS + 1)]
        for start in range(first, last + 1, CHUNK_ROWS):
            ids = range(start, min(start + CHUNK_ROWS, last + 1))
            at = slice(start - 1, ids.stop - 1)
            days = [night if person > self.early else chance.choice(quiet) for person in ids]
            text = "".join(
                f"{last_name}\t{person}\t{first_name}\t{day}\t{CREDIT}\n"
                for last_name, person, first_name, day in zip(
                    self.last_names[at], ids, self.first_names[at], days, strict=True
                )
            )
            yield len(ids), text.encode()

    def order_rows(self) -> Iterator[tuple[int, bytes]]:
        """The orders of the night as chunks for COPY: how many rows, and their text."""
        chance = random.Random(f"{SEED} orders")
        products = [product[0] for product in PRODUCTS]
        weights = list(accumulate(product[3] for product in PRODUCTS))
        for start in range(1, self.orders + 1, CHUNK_ROWS):
            count = min(CHUNK_ROWS, self.orders + 1 - start)
            bought = chance.choices(products, cum_weights=weights, k=count)
            quantities = chance.choices((1, 2, 3), cum_weights=(80, 95, 100), k=count)
            buyers = [int(chance.random() * self.people) for _ in range(count)]
            text = "".join(
                f"{self.last_names[buyer]}\t{buyer + 1}\t{start + row}\t{bought[row]}\t{quantities[row]}\n"
                for row, buyer in enumerate(buyers)
            )
            yield count, text.encode()


def _drawn(what: str, weights: Mapping[str, float], count: int) -> list[str]:
    return random.Random(f"{SEED} {what}").choices(
        list(weights), cum_weights=list(accumulate(weights.values())), k=count
    )
