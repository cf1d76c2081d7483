import random

import pytest

from gateway.wire.websocket import FrameTracker, close_frame


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
