"""Work beside the requests: it begins and ends as told, and no error of it goes unnoticed."""

import asyncio
import logging

import pytest

from gateway.background import Background, Ticker, repeat


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_work_is_broken_off_and_has_ended_when_stop_returns() -> None:
    ended = []

    async def work() -> None:
        try:
            await for_ever()
        finally:
            ended.append(True)

    background = Background(work, "work")
    assert await background.stop() is False
    background.start()
    background.start()
    await asyncio.sleep(0)
    assert await background.stop() is True
    assert ended == [True]
    assert await background.stop() is False


async def test_work_that_ends_by_an_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise RuntimeError("broken")

    background = Background(work, "the work")
    background.start()
    for _ in range(3):
        await asyncio.sleep(0)
    await background.stop()
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.CRITICAL, "the work has ended, which it must not")
    ]


async def test_who_is_cancelled_while_stopping_notices() -> None:
    release = asyncio.Event()

    async def work() -> None:
        try:
            await for_ever()
        finally:
            await release.wait()

    background = Background(work, "work")
    background.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(background.stop())
    for _ in range(3):
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_an_error_is_logged_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    results = iter([False, True, True, False, True])
    enough = asyncio.Event()

    async def act() -> None:
        fails = next(results, None)
        if fails is None:
            enough.set()
        elif fails:
            raise ValueError("not now")

    background = Background(lambda: repeat(act, 0.0, "it has failed"), "work")
    background.start()
    await enough.wait()
    await background.stop()
    assert [each.getMessage() for each in caplog.records] == ["it has failed", "it has failed"]


async def test_a_ticker_goes_on_after_an_error_until_it_is_stopped() -> None:
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    calls = 0
    enough = asyncio.Event()

    def act() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not now")
        enough.set()
        ticker.stop()

    ticker = Ticker(act, 0.0)
    ticker.start()
    await enough.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert calls == 2
    assert [str(each) for each in errors] == ["not now"]
