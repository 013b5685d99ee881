"""A stream that has failed before it is asked for anything says so at once: nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from pgherd.backend.connection import Credentials
from pgherd.catalog.model import GroupId
from pgherd.errors import GroupDown
from pgherd.reshard.places import Places
from pgherd.reshard.stream import Course, SourceReplaced, Stream


def failed() -> Stream:
    """A stream to whose source a failover happened."""
    course = Course(name="w1_0_1", slot="s", publication="p", source=GroupId(0), target=GroupId(1), tables={})
    stream = Stream(Places([], Credentials(user="postgres")), course)
    stream.failure = SourceReplaced("group 0 has a new primary")
    return stream


def test_who_holds_a_failed_stream_is_told() -> None:
    async def story() -> None:
        stream = failed()
        stream._wake(GroupDown("the stream was ended"))  # as at the end of `run`  # pyright: ignore[reportPrivateUsage]
        stream.hold(0)
        async with asyncio.timeout(5):
            with pytest.raises(SourceReplaced):
                await stream.held()

    asyncio.run(story())


def test_who_waits_for_a_mark_of_a_failed_stream_is_told() -> None:
    async def story() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(SourceReplaced):
                await failed().passed("mark")

    asyncio.run(story())
