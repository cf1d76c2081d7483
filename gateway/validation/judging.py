"""A process that judges bodies, and nothing else: `python -m gateway.validation.judging`, the other end of
`gateway.validation.apart`.

It reads from standard input, and answers on standard output, one body after the other. Whoever has started it ends it
by closing the input, or by killing it where a body takes too long.

    first frame   [seconds, [[kind, file, {name: text}], …]]: what `Rules.source` says, for each of the rules
    then          [index of the rules, method, path, media type], and the body
    answer        [] for a valid body, [word] for one that is malformed, [[detail, pointer], …] behind "" for its faults

What is wrong with an invalid body of many values is found out by a child, which the kernel ends after `_MOST_TELLING`:
an invalid body must not have the whole process killed, for which others would have to wait.
"""

import os
import signal
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from gateway.validation.content import Content
from gateway.validation.faults import Fault, Malformed
from gateway.validation.kinds import rules_of
from gateway.validation.rules import BodyCheck, Rules, Unknown

LENGTHS: Final = struct.Struct("!II")
"""What stands before a frame: the bytes of its JSON, and those of the body that follows it."""
LENGTH: Final = struct.Struct("!I")
"""What stands before an answer."""
# Seconds of a processor, or the fourth part of the time that a body may take.
_MOST_TELLING: Final = 0.25
_UNTOLD: Final = ["does not satisfy the schema, and to say where would take too long", "#"]
# Beyond the time that a body may take: who should have killed this process is gone.
_GRACE: Final = 5


def frame(head: Any, body: bytes = b"") -> bytes:
    """One frame for this process."""
    written = orjson.dumps(head)
    return LENGTHS.pack(len(written), len(body)) + written + body


def judged(rules: Rules, method: str, path: bytes, media: str, raw: bytes, seconds: float) -> list[Any]:
    """The answer about one body, which may take so many seconds."""
    found = rules.find(method, path)
    body = None if isinstance(found, Unknown) else found[0].body
    check = None if body is None else body.check(Content(media))
    if check is None:
        return []
    try:
        faults = check.faults_at_once(raw)
    except Malformed as error:
        return [str(error)]
    if faults is None:
        return ["", *_told(check, raw, min(_MOST_TELLING, seconds / 4))]
    return ["", *_written(faults)] if faults else []


def _told(check: BodyCheck, raw: bytes, seconds: float) -> list[Any]:
    """What is wrong with an invalid body, as far as that can be said in so many seconds of a processor."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Not Python's handler but the kernel ends it: the library holds the interpreter.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            written = orjson.dumps(_written(check.faults(raw)))
            signal.setitimer(signal.ITIMER_PROF, 0)
            with open(writing, "wb") as told:  # noqa: PTH123 - a descriptor
                told.write(written)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:  # noqa: PTH123 - a descriptor
        answer = answers.read()
    os.waitpid(child, 0)
    found: list[Any] = orjson.loads(answer) if answer else []
    return found or [_UNTOLD]


def _written(faults: list[Fault]) -> list[list[str]]:
    return [[each.detail, each.pointer] for each in faults]


def serve(source: BinaryIO, answers: BinaryIO) -> None:
    """Until the input ends."""
    first = _read(source)
    if first is None:
        return
    seconds, written = first[0]
    rules = [rules_of(kind, file, _from(texts)) for kind, file, texts in written]
    _answer(answers, [])
    while (each := _read(source)) is not None:
        (index, method, path, media), raw = each
        signal.alarm(int(seconds) + _GRACE)
        answer = judged(rules[index], method, path.encode("latin-1"), media, raw, seconds)
        signal.alarm(0)
        _answer(answers, answer)


def _from(texts: Mapping[str, str]) -> Any:
    def read(path: Path) -> str:
        try:
            return texts[str(path)]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", str(path)) from None

    return read


def _read(source: BinaryIO) -> tuple[Any, bytes] | None:
    lengths = source.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head, body = LENGTHS.unpack(lengths)
    return orjson.loads(source.read(head)), source.read(body)


def _answer(answers: BinaryIO, answer: list[Any]) -> None:
    written = orjson.dumps(answer)
    answers.write(LENGTH.pack(len(written)) + written)
    answers.flush()


if __name__ == "__main__":
    # A Ctrl-C is for the gateway, which ends this process when it has no more use for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
