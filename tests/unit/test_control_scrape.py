"""The exposition in pieces, shared by whoever asks."""

import asyncio

import pytest

from gateway.control.scrape import Scrape
from gateway.control.serving.allowance import Allowance
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.exposition import OPENMETRICS, PIECE, TEXT

ROUTES = [f"route-{index}" for index in range(100)]
UPSTREAMS = [f"upstream-{index}" for index in range(50)]


def busy_metrics() -> Metrics:
    metrics = Metrics("gateway", ROUTES, UPSTREAMS, "1")
    for route in ROUTES:
        for method in ("GET", "POST", "PUT"):
            for status in (200, 201, 404, 429, 500, 502, 503):
                metrics.route(route).exchange(method, status, 0.01)
    return metrics


def samples(text: bytes) -> dict[str, str]:
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


@pytest.mark.parametrize(("accept", "kind"), [("", TEXT), ("application/openmetrics-text", OPENMETRICS)])
def test_the_pieces_are_the_whole(accept: str, kind: str) -> None:
    metrics = Metrics("gateway", ROUTES, UPSTREAMS, "1")
    # What the process itself uses changes between any two readings.
    pieces, content_type = metrics.pieces(accept)
    whole, _ = metrics.render(accept)
    made = b"".join(pieces)
    assert content_type == kind
    assert [line for line in made.splitlines() if b"process_" not in line] == [
        line for line in whole.splitlines() if b"process_" not in line
    ]


def test_no_piece_is_long() -> None:
    pieces, _ = busy_metrics().pieces(None)
    lengths = [piece.count(b"\n") for piece in pieces]
    # A head of two lines, and the series of one histogram, may come on top.
    assert max(lengths) <= 2 * PIECE + 40
    assert len(lengths) > 10


def test_what_happens_between_the_pieces_is_in_none_of_them() -> None:
    metrics = busy_metrics()
    pieces, _ = metrics.pieces(None)
    made = [next(pieces)]
    for route in ROUTES:
        metrics.route(route).exchange("GET", 500, 0.01)
        metrics.route(route).exchange("DELETE", 204, 0.01)
    found = samples(b"".join([*made, *pieces]))
    for route in ROUTES:
        labels = f'service="gateway",method="{{}}",route="{route}",status="{{}}"'
        of_500s = [f"http_requests_total{{{labels.format(method, 500)}}}" for method in ("GET", "POST", "PUT")]
        assert [found[name] for name in of_500s] == ["1"] * 3
        assert found[f'http_requests_5xx_total{{service="gateway",route="{route}"}}'] == "9"
        assert found[f'http_request_duration_seconds_count{{route="{route}"}}'] == "21"
        assert f"http_requests_total{{{labels.format('DELETE', 204)}}}" not in found


async def test_other_work_gets_its_turns_during_a_scrape() -> None:
    scrape = Scrape(busy_metrics())
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await scrape.text("")
    task.cancel()
    assert turns > 10


async def test_scrapes_at_once_are_one() -> None:
    metrics = Metrics("gateway", [], [], "1")
    reads = 0

    def read() -> list[tuple[tuple[str, ...], float]]:
        nonlocal reads
        reads += 1
        return [((), reads)]

    metrics.gauge("reads", "How often.", (), read)
    scrape = Scrape(metrics)
    answers = await asyncio.gather(*(scrape.text("") for _ in range(50)))
    assert reads == 1
    assert len(set(answers)) == 1
    await scrape.text("")
    assert reads == 2


async def test_without_allowance_the_last_one_must_do() -> None:
    metrics = Metrics("gateway", ["a"], [], "1")
    now = 0.0
    allowance = Allowance(share=0.05, burst=0.1, clock=lambda: now)
    scrape = Scrape(metrics, allowance)
    first, _ = await scrape.text("")
    allowance.spend(1.0)
    metrics.route("a").exchange("GET", 200, 0.1)
    assert (await scrape.text(""))[0] == first
    now = 21.0
    assert samples((await scrape.text(""))[0])['http_request_duration_seconds_count{route="a"}'] == "1"


async def test_a_scraper_that_leaves_does_not_end_it_for_the_others() -> None:
    scrape = Scrape(busy_metrics())
    leaving, staying = asyncio.create_task(scrape.text("")), asyncio.create_task(scrape.text(""))
    await asyncio.sleep(0)
    leaving.cancel()
    body, _ = await staying
    assert b"http_requests_total" in body
