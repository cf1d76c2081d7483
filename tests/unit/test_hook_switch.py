"""When a hook is switched off, and when it is called again."""

import pytest

from gateway.policy.hook_switch import Change, HookSwitch


def switch() -> HookSwitch:
    return HookSwitch(failures=3, window=10.0, pause=30.0)


def calls(of: HookSwitch, now: float, *bad: bool, seconds: float = 0.001) -> list[Change]:
    return [of.ended(now, seconds, bad=each) for each in bad]


def test_so_many_bad_calls_switch_it_off() -> None:
    one = switch()
    assert calls(one, 1.0, True, True) == ["", ""]
    assert one.off_until == 0.0
    assert calls(one, 2.0, True) == ["off"]
    assert one.off_until == 32.0
    assert one.words == "3 of 3 calls were slow or failed, and took 0.003 s"


def test_but_not_while_most_calls_are_good() -> None:
    """Else who sends requests that it cannot take would switch it off for everybody."""
    one = switch()
    calls(one, 1.0, *[False] * 10)
    assert calls(one, 2.0, *[True] * 9) == [""] * 9
    assert calls(one, 2.0, True) == ["off"]


def test_a_window_begins_anew() -> None:
    one = switch()
    calls(one, 1.0, True, True)
    assert calls(one, 11.0, True, True) == ["", ""]
    assert calls(one, 11.5, True) == ["off"]


@pytest.mark.parametrize(("seconds", "change"), [(1.9, ""), (2.0, "off")])
def test_a_fifth_of_the_time_is_too_much(seconds: float, change: Change) -> None:
    one = switch()
    calls(one, 1.0, *[False] * 100)
    assert calls(one, 2.0, True, seconds=seconds) == [change]


def test_good_calls_take_their_time_unjudged() -> None:
    """What counts as slow is the caller's to say."""
    assert calls(switch(), 1.0, *[False] * 50, seconds=1.0) == [""] * 50


def test_the_first_call_after_the_pause_is_a_trial() -> None:
    one = switch()
    calls(one, 1.0, True, True, True)
    assert calls(one, 31.0, True) == ["off"]
    assert one.off_until == 61.0
    assert calls(one, 61.0, False, False) == ["on", ""]
    assert calls(one, 62.0, True, True) == ["", ""]
