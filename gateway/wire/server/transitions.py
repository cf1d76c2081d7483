"""The states of a client connection, and what moves it from one to another.

    HEAD    a request head is awaited, or has arrived in part
    BODY    the front has the head, and the body of the request is arriving
    WAIT    the whole request has arrived, and the response is not finished
    DRAIN   the response is finished; the little that is left of the request body is read and thrown away
    LINGER  our side is closed, or closes as soon as what is buffered has been written; what still arrives is thrown
            away for a moment, so that a reset cannot overtake the response (RFC 9112 section 9.6)
    GONE    closed, or given to another protocol

Requests alternate: HEAD, BODY if there is one, WAIT, and HEAD again. A response that comes before the end of the
request body leads through DRAIN, or through LINGER where too much of the body is still to come. An event that a state
does not list cannot happen in it. From GONE nothing leads back.

`TRANSITIONS` is the whole truth. The connection asks it for each move, except for those of a request without a body
(HEAD to WAIT and back): looking them up would cost as much as the rest of the move, so it names the result.
`tests/unit/test_transitions.py` takes a connection through every state and event, and compares.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class State(Enum):
    """What a client connection is doing."""

    HEAD = "head"
    BODY = "body"
    WAIT = "wait"
    DRAIN = "drain"
    LINGER = "linger"
    GONE = "gone"


class Event(Enum):
    """What moves a client connection to another state."""

    REQUEST = "request"
    """A head has arrived, and no body follows. A request that is refused for want of a place counts likewise."""
    UPLOAD = "upload"
    """A head has arrived, and a body follows."""
    UPLOADED = "uploaded"
    """The body has arrived to its end."""
    ANSWERED = "answered"
    """The response is written to its end, and the connection is kept."""
    DRAINED = "drained"
    """What was left of the request body has been read."""
    CLOSE = "close"
    """Our side is to be closed, behind what is buffered."""
    LEAVE = "leave"
    """The connection is lost, is aborted, or belongs to another protocol from here on."""


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        State.HEAD: {
            Event.REQUEST: State.WAIT,
            Event.UPLOAD: State.BODY,
            Event.CLOSE: State.LINGER,
            Event.LEAVE: State.GONE,
        },
        State.BODY: {
            Event.UPLOADED: State.WAIT,
            Event.ANSWERED: State.DRAIN,
            Event.CLOSE: State.LINGER,
            Event.LEAVE: State.GONE,
        },
        State.WAIT: {
            Event.ANSWERED: State.HEAD,
            Event.CLOSE: State.LINGER,
            Event.LEAVE: State.GONE,
        },
        State.DRAIN: {
            Event.DRAINED: State.HEAD,
            Event.LEAVE: State.GONE,
        },
        State.LINGER: {
            Event.LEAVE: State.GONE,
        },
        State.GONE: {},
    }
)
