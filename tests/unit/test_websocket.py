import random

import pytest

from gateway.wire.websocket import FrameTracker, close_frame
from tests.support.lines_run import lines_run


def frame(size: int, *, masked: bool) -> bytes:
    mask = 0x80 if masked else 0
    if size < 126:
        head = bytes([0x82, mask | size])
    elif size < 65_536:
        head = bytes([0x82, mask | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x82, mask | 127]) + size.to_bytes(8)
    return head + (b"abcd" if masked else b"") + bytes(size)


@pytest.mark.parametrize("masked", [True, False])
def test_boundaries_under_any_cut(masked: bool) -> None:
    rng = random.Random(1)
    sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 0, 3]
    frames = [frame(size, masked=masked) for size in sizes]
    ends = {sum(map(len, frames[: n + 1])) for n in range(len(frames))} | {0}
    raw = b"".join(frames)
    for _ in range(30):
        tracker = FrameTracker()
        at = 0
        while at < len(raw):
            step = rng.choice([1, 2, 3, 7, 1000, 50_000])
            tracker.feed(raw[at : at + step])
            at = min(len(raw), at + step)
            assert tracker.between_frames == (at in ends)


def test_close_frames() -> None:
    assert close_frame(masked=False) == b"\x88\x02\x03\xe9"
    made = close_frame(masked=True)
    assert made[:2] == b"\x88\x82"
    assert bytes(a ^ b for a, b in zip(made[6:], made[2:6], strict=False)) == b"\x03\xe9"


def _boundaries(raw: bytes) -> list[int]:
    """Where frames end, one byte at a time: the way without any run."""
    tracker = FrameTracker()
    ends = []
    for at in range(len(raw)):
        tracker.feed(raw[at : at + 1])
        if tracker.between_frames:
            ends.append(at + 1)
    return ends


# Lengths in a longer form than they need are wrong, and pass: the peers are to judge them.
_LONG_FORMS = [
    b"\x82\x7e\x00\x00",
    b"\x82\xfe\x00\x05abcd12345",
    b"\x82\x7f" + bytes(7) + b"\x03abc",
    b"\x82\x7f" + bytes(8),
]


@pytest.mark.parametrize(
    "unit",
    [
        b"\x80\x00",
        b"\x00\x80abcd",
        b"\x81\x81abcd1",
        b"\x89\x00\x8a\x00",
        *_LONG_FORMS,
    ],
    ids=[
        "empty",
        "empty continuation, masked",
        "one byte, masked",
        "ping and pong",
        "126",
        "126 masked",
        "127",
        "127 empty",
    ],
)
def test_a_read_full_of_tiny_frames_is_little_work(unit: bytes) -> None:
    tracker = FrameTracker()
    # Beginning within a header, ending within one.
    raw = unit * (256_000 // len(unit)) + unit[:1]
    tracker.feed(raw[:1])
    assert lines_run(lambda: tracker.feed(raw[1:])) < 500
    assert not tracker.between_frames
    tracker.feed(unit[1:])
    assert tracker.between_frames


def test_runs_of_small_frames_change_no_boundary() -> None:
    rng = random.Random(2)
    for _ in range(40):
        frames = [
            rng.choice(_LONG_FORMS)
            if rng.random() < 0.2
            else frame(rng.choice([0, 1, 7, 31, 32, 40, 130]), masked=rng.random() < 0.5)
            for _ in range(30)
        ]
        raw = b"".join(frames)
        ends = _boundaries(raw)
        assert ends[-1] == len(raw)
        for cut in rng.sample(range(len(raw)), 20):
            tracker = FrameTracker()
            tracker.feed(raw[:cut])
            assert tracker.between_frames == (cut in ends or cut == 0)
            tracker.feed(raw[cut:])
            assert tracker.between_frames


@pytest.mark.parametrize(
    "around", [b"", b"\x81\x02hi" * 50, b"\x82\x83abcd\x88\x89\x8a" * 50], ids=["alone", "text", "bytes"]
)
@pytest.mark.parametrize(
    ("control", "seen"),
    [
        (b"", (False, False, False)),
        (b"\x88\x02\x03\xe8", (True, False, False)),
        (b"\x89\x80abcd", (False, True, False)),
        (b"\x8a\x00", (False, False, True)),
        (b"\x8a\x00\x89\x00\x88\x00", (True, True, True)),
    ],
)
def test_control_frames_are_noticed(around: bytes, control: bytes, seen: tuple[bool, bool, bool]) -> None:
    raw = around + control + around
    for step in (1, 5, 1000):
        tracker = FrameTracker()
        for at in range(0, len(raw), step):
            tracker.feed(raw[at : at + step])
        assert (tracker.closed, tracker.pinged, tracker.ponged) == seen
        assert tracker.between_frames


def test_where_a_pong_begins() -> None:
    frames = [b"\x82\x83abcd\x8a\x8a\x8a" * 9, b"\x8a\x00", b"\x82\x7e\x00\xff" + b"\x8a" * 255, b"\x8a\x82abcdab"]
    raw = b"".join(frames)
    tracker = FrameTracker()
    first = tracker.feed_to_pong(raw, 0)
    assert first == len(frames[0])
    behind = tracker.feed_frame(raw, first)
    assert behind == first + 2
    second = tracker.feed_to_pong(raw, behind)
    assert second == len(raw) - len(frames[3])
    assert tracker.feed_frame(raw[:-1], second) == len(raw) - 1
    assert not tracker.between_frames
