import math
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from ollama_op.base.mailbox import Latest
from ollama_op.reconcile.supervise import RESTART, Supervisor


async def test_a_mailbox_holds_only_the_newest():
    """Who comes back after a while finds what is true now, and no backlog."""
    box = Latest(1)
    box.put(2)
    box.put(3)
    await box.news()
    assert box.item == 3
    with pytest.raises(TimeoutError), anyio.fail_after(1000):
        await box.news()


async def test_news_that_came_before_the_call_is_not_lost():
    """A put between two waits wakes the second one at once."""
    box = Latest(1)
    await box.news(within_s=5)
    box.put(2)
    began = anyio.current_time()
    await box.news()
    assert anyio.current_time() == began


async def test_a_poke_wakes_without_a_new_item():
    """Something besides the item has changed; the item is as it was."""
    box = Latest(1)
    box.poke()
    with anyio.fail_after(1):
        await box.news()
    assert box.item == 1


@pytest.mark.parametrize("within_s", [0, 7])
async def test_news_waits_no_longer_than_asked(within_s):
    """A due time is kept even when nothing happens."""
    began = anyio.current_time()
    await Latest(1).news(within_s)
    assert anyio.current_time() - began == within_s


async def test_one_task_per_key():
    """However often a key is offered, one task hears of it, and reads the newest item."""
    ran = []

    async def run(box: Latest[int]) -> None:
        ran.append(box)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        for number in range(10):
            supervisor.offer("a", number)
            await anyio.sleep(1)
        supervisor.offer("b", 0)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert [box.item for box in ran] == [9, 0]


async def test_a_retired_task_is_cancelled_and_forgotten():
    """Only that one; its cleaning up is waited for; and the key is free again."""
    log = []

    async def run(box: Latest[str]) -> None:
        log.append(f"start {box.item}")
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"end {box.item}")

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", "a1")
        supervisor.offer("b", "b1")
        await anyio.sleep(1)
        supervisor.retire("a")
        supervisor.retire("nobody")
        await anyio.sleep(1)
        assert (sorted(log[:2]), log[2:]) == (["start a1", "start b1"], ["end a1"])
        assert len(supervisor) == 1
        supervisor.offer("a", "a2")
        await anyio.sleep(1)
        assert (log[3:], len(supervisor)) == (["start a2"], 2)
        tasks.cancel_scope.cancel()


async def test_a_task_retired_before_it_ran_does_nothing():
    """Between the offer and the first step of the task, its object may be gone."""
    ran = []

    async def run(box: Latest[int]) -> None:
        await anyio.lowlevel.checkpoint()
        ran.append(box.item)

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", 1)
        supervisor.retire("a")
        await anyio.sleep(1)
        assert len(supervisor) == 0
    assert ran == []


async def test_a_task_that_ends_is_forgotten():
    """Its object is gone; another offer of the key begins anew."""
    ran = []

    async def run(box: Latest[int]) -> None:
        await anyio.lowlevel.checkpoint()
        ran.append(box.item)

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", 1)
        await anyio.sleep(1)
        assert len(supervisor) == 0
        supervisor.offer("a", 2)
    assert ran == [1, 2]


async def test_a_crashed_task_is_started_again_ever_more_slowly():
    """After 1, 2, 4, 8, 16, 32, 60 and then every 60 seconds, with the newest item."""
    starts = []

    async def run(box: Latest[int]) -> None:
        starts.append((anyio.current_time(), box.item))
        raise ZeroDivisionError

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", 1)
        await anyio.sleep(1.5)
        supervisor.offer("a", 2)
        await anyio.sleep(300)
        tasks.cancel_scope.cancel()
    times = [at for at, _ in starts]
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (RESTART.longest_s, [item for _, item in starts]) == (60, [1, 1, *[2] * 8])


async def test_one_tasks_crash_leaves_the_others_alone():
    """Its neighbour neither ends nor waits."""
    beats = []

    async def run(box: Latest[str]) -> None:
        if box.item == "poison":
            raise ExceptionGroup("bugs come in groups too", [ZeroDivisionError()])
        while True:
            beats.append(anyio.current_time())
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", "poison")
        supervisor.offer("b", "healthy")
        await anyio.sleep(9.5)
        tasks.cancel_scope.cancel()
    assert len(beats) == 10
    assert math.isclose(beats[-1] - beats[0], 9)


async def test_a_crashed_task_can_be_retired_while_it_waits():
    """No restart comes for an object that is gone."""
    starts = 0

    async def run(_box: Latest[int]) -> None:
        nonlocal starts
        starts += 1
        raise ZeroDivisionError

    async with anyio.create_task_group() as tasks:
        supervisor = Supervisor(tasks, run)
        supervisor.offer("a", 1)
        await anyio.sleep(0.5)
        supervisor.retire("a")
        await anyio.sleep(100)
        assert (starts, len(supervisor)) == (1, 0)
