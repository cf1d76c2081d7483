"""The pure parts of the benchmark: statistics, parsing, the comparison with a baseline. Nothing here is timed."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import baseline
from benchmarks.baseline import Figure
from benchmarks.children import cpu_of_stat, peak_of_status
from benchmarks.load.wrk import LoadFailed, parse
from benchmarks.micro.timing import Timing
from benchmarks.observations import CPU, RATE, VS_NGINX, Observations, spread
from benchmarks.report import Section, columns, table, write_json
from benchmarks.rig import OK_BODY
from benchmarks.session import counter_total


def rounds(observations: Observations, case: str, proxy: str, *costs: float) -> None:
    for number, cost in enumerate(costs, start=1):
        observations.add(case, proxy, number, CPU, cost)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([5.0], 0.0),
        ([5.0, 5.0, 5.0], 0.0),
        ([0.0, 0.0, 1.0], 0.0),
        ([9.0, 10.0, 11.0], 0.14826),
        ([9.0, 10.0, 1000.0], 0.14826),  # one disturbed round says nothing about the others
    ],
)
def test_spread_is_relative_and_robust(values: list[float], expected: float) -> None:
    assert spread(values) == pytest.approx(expected)


def test_a_ratio_is_taken_within_a_round() -> None:
    observations = Observations()
    rounds(observations, "hot", "nginx", 20.0, 40.0, 10.0)
    rounds(observations, "hot", "gateway", 40.0, 80.0, 20.0)
    observations.relate(CPU, VS_NGINX, ("hot", "nginx"))
    assert observations.values("hot", "gateway", VS_NGINX) == [2.0, 2.0, 2.0]
    assert observations.median("hot", "nginx", VS_NGINX) == 1.0


def test_a_ratio_leaves_out_rounds_that_one_side_lacks() -> None:
    observations = Observations()
    observations.add("hot", "nginx", 2, CPU, 20.0)
    observations.add("hot", "nginx", 3, CPU, 0.0)
    rounds(observations, "hot", "gateway", 10.0, 60.0, 70.0)
    observations.relate(CPU, VS_NGINX, ("hot", "nginx"))
    assert observations.values("hot", "gateway", VS_NGINX) == [3.0]


def test_a_ratio_may_be_taken_within_each_case() -> None:
    observations = Observations()
    for case, cost in (("1 KB", 10.0), ("64 KB", 100.0)):
        rounds(observations, case, "nginx", cost)
        rounds(observations, case, "gateway", 2 * cost)
    observations.relate(CPU, VS_NGINX, ("", "nginx"))
    assert [observations.median(case, "gateway", VS_NGINX) for case in ("1 KB", "64 KB")] == [2.0, 2.0]


def test_a_table_shows_medians_and_says_what_is_not_known() -> None:
    observations = Observations()
    rounds(observations, "hot", "nginx", 20.0, 22.0, 90.0)
    observations.add("hot", "haproxy", 1, RATE, 26_022.4)
    lines = table(observations).splitlines()
    assert lines[0].split() == ["case", "proxy", "CPU", "µs/req", "req/s"]
    assert lines[2].split() == ["hot", "nginx", "22.0", "-"]
    assert lines[3].split() == ["hot", "haproxy", "-", "26,022"]


def test_columns_are_aligned() -> None:
    assert columns([["a", "b"], ["long", "1.0"]], left=1) == "a       b\n---------\nlong  1.0"


def test_results_hold_every_round(tmp_path: Path) -> None:
    observations = Observations()
    rounds(observations, "hot", "nginx", 20.0, 22.0)
    path = tmp_path / "new" / "results.json"
    write_json(path, [Section("hot", "what?", observations)], {"quick": True})
    written = json.loads(path.read_text())
    assert written["quick"] is True
    assert written["workloads"]["hot"]["results"] == [
        {
            "case": "hot",
            "proxy": "nginx",
            "metrics": {
                "cpu_us": {"median": 21.0, "spread": pytest.approx(0.0706), "rounds": {"1": 20.0, "2": 22.0}},
            },
        }
    ]


RESULT = "RESULT requests=1000 seconds=1.001000 p50_us=2000 p90_us=3000 p99_us=12500 failed=2 status=10 bytes=999"


def test_the_result_of_wrk_is_found_among_its_output() -> None:
    result = parse(f"Running 1s test @ http://127.0.0.1\n  1 threads\nRequests/sec: 1\n{RESULT}\n")
    assert (result.requests, result.seconds, result.failed, result.refused) == (1000, 1.001, 2, 10)
    assert (result.p50_ms, result.p90_ms, result.p99_ms) == (2.0, 3.0, 12.5)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("unable to connect to 127.0.0.1:1 Connection refused", "unable to connect"),
        ("", "nothing"),
        (RESULT.replace("requests=1000", "requests=0"), "no request was answered"),
    ],
)
def test_a_load_without_answers_is_no_result(output: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        parse(output)


def test_cpu_time_is_user_and_system_whatever_the_name() -> None:
    fields = ["S", "1", "1", "1", "0", "-1", "0", "10", "0", "3", "0", "150", "50", "7", "9", "20"]
    tick = 1.0 / os.sysconf("SC_CLK_TCK")
    assert cpu_of_stat(f"42 (a ) b (c) {' '.join(fields)}") == pytest.approx(200 * tick)


def test_peak_memory_is_in_bytes() -> None:
    assert peak_of_status("Name:\tx\nVmPeak:\t 99 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 5 kB\n") == 2 * 1024 * 1024
    assert peak_of_status("Name:\tgone\n") == 0


def test_a_counter_is_summed_over_its_series() -> None:
    exposition = """# TYPE redis_commands counter
redis_commands_total{command="take"} 29
redis_commands_total{command="circuit_ops"} 5e1 1700000000
redis_commands_total_other 7
plain_total 3
"""
    assert counter_total(exposition, "redis_commands_total") == 79.0
    assert counter_total(exposition, "plain_total") == 3.0
    assert counter_total(exposition, "absent_total") == 0.0


def test_the_small_body_has_the_size_that_the_documentation_says() -> None:
    assert len(OK_BODY) == 261
    assert json.loads(OK_BODY)["status"] == "ok"


def test_worse_is_what_exceeds_both_the_floor_and_the_noise() -> None:
    old = {"quiet": Figure(2.0, 0.01), "noisy": Figure(2.0, 0.1), "same": Figure(2.0, 0.0), "faster": Figure(2.0, 0.0)}
    new = {"quiet": Figure(2.4, 0.01), "noisy": Figure(2.4, 0.1), "same": Figure(2.2, 0.0), "faster": Figure(1.5, 0.0)}
    changes = {change.name: change for change in baseline.compare(old, new, floor=0.15)}
    assert [name for name, change in changes.items() if change.worse] == ["quiet"]
    assert [name for name, change in changes.items() if change.better] == ["faster"]
    assert changes["quiet"].growth == pytest.approx(0.2)
    assert changes["noisy"].noise == pytest.approx(3 * 0.1 * 2**0.5)


def test_noise_does_not_excuse_everything() -> None:
    (change,) = baseline.compare({"x": Figure(1.0, 0.5)}, {"x": Figure(1.6, 0.5)})
    assert change.worse


def test_the_worst_comes_first() -> None:
    old = {"a": Figure(1.0, 0.0), "b": Figure(1.0, 0.0), "c": Figure(1.0, 0.0)}
    new = {"a": Figure(1.1, 0.0), "b": Figure(3.0, 0.0), "c": Figure(0.5, 0.0)}
    assert [change.name for change in baseline.compare(old, new)] == ["b", "a", "c"]


def test_figures_that_one_run_lacks_are_not_compared() -> None:
    assert baseline.compare({"gone": Figure(1.0, 0.0)}, {"new": Figure(9.0, 0.0)}) == []


def test_a_baseline_survives_being_written(tmp_path: Path) -> None:
    figures = baseline.of_timings([Timing("bucket: take", 553.2, 0.81234, 0.05678)])
    assert figures == {"micro/bucket: take": Figure(0.8123, 0.0568)}
    path = tmp_path / "baseline.json"
    baseline.write(path, figures, {"python": "3.11"})
    assert baseline.read(path) == figures


def test_a_baseline_holds_ratios_of_the_gateway_alone() -> None:
    hot, large = Observations(), Observations()
    for observations in (hot, large):
        rounds(observations, "case", "nginx", 20.0, 20.0)
        rounds(observations, "case", "gateway", 50.0, 52.0)
        observations.relate(CPU, VS_NGINX, ("", "nginx"))
    figures = baseline.of_sections([Section("hot", "", hot), Section("large", "", large)])
    assert figures == {"hot/case/gateway/vs_nginx": Figure(2.55, 0.0291)}


def test_the_committed_baseline_can_be_read() -> None:
    figures = baseline.read(Path(baseline.__file__).with_name("baseline.json"))
    assert any(name.startswith("micro/") for name in figures)
    assert any(name.startswith("hot/") for name in figures)
    assert all(figure.value > 0 for figure in figures.values())
