"""Places that are taken in turn."""

from __future__ import annotations

import asyncio
import random

import pytest

from neon_mq_connector.aio.room import Room
from neon_mq_connector.errors import WaitTimeoutError


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    async def main() -> None:
        room = Room(2)
        assert room.take_now()
        assert room.take_now()
        assert not room.take_now()
        came: list[int] = []

        async def take(number: int) -> None:
            await room.take(10.0)
            came.append(number)

        tasks = [asyncio.create_task(take(number)) for number in range(5)]
        await asyncio.sleep(0)
        for _ in range(3):
            room.give_back()
        assert not room.take_now()
        await asyncio.wait(tasks[:3])
        assert came == [0, 1, 2]
        for _ in range(2):
            room.give_back()
        await asyncio.wait(tasks)
        assert came == [0, 1, 2, 3, 4]
        for _ in range(2):
            room.give_back()
        assert room.taken == 0

    asyncio.run(main())


def test_who_waits_too_long_is_told() -> None:
    async def main() -> None:
        room = Room(1)
        await room.take(1.0)
        with pytest.raises(WaitTimeoutError):
            await room.take(0.05)
        room.give_back()
        assert room.take_now()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_however_many_are_cancelled_no_place_is_lost(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        room = Room(3)

        async def use() -> None:
            await room.take(chance.choice((0.001, 10.0)))
            try:
                await asyncio.sleep(chance.random() / 500)
            finally:
                room.give_back()

        tasks = [asyncio.create_task(use()) for _ in range(200)]
        while pending := [task for task in tasks if not task.done()]:
            chance.choice(pending).cancel()
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            assert 0 <= room.taken <= 3
        assert room.taken == 0

    asyncio.run(main())
