"""Whose fault an error is, whoever asks."""

import errno
import socket
import ssl

import pytest

from gateway.wire.client.fault import FAULTS, Fault, fault_of, why_not


@pytest.mark.parametrize(
    "number",
    [
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EACCES,
        errno.EPERM,
    ],
)
def test_what_this_host_lacks_or_forbids(number: int) -> None:
    error = OSError(number, "x")
    assert fault_of(error) is Fault.LOCAL
    assert why_not(error)


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EAFNOSUPPORT, 9999])
def test_what_lies_between(number: int) -> None:
    assert fault_of(OSError(number, "x")) is Fault.NETWORK


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE])
def test_what_the_peer_did(number: int) -> None:
    assert fault_of(OSError(number, "x")) is Fault.UPSTREAM


def test_numbers_that_are_not_of_the_system() -> None:
    assert fault_of(ssl.SSLError(errno.EPERM, "handshake failure")) is Fault.UPSTREAM
    assert fault_of(socket.gaierror(socket.EAI_AGAIN, "try again")) is Fault.NETWORK
    assert fault_of(socket.gaierror(socket.EAI_MEMORY, "no memory")) is Fault.LOCAL
    assert fault_of(TimeoutError()) is Fault.NETWORK
    assert fault_of(MemoryError()) is Fault.LOCAL
    assert fault_of(None) is Fault.NETWORK


def test_a_look_up_for_which_there_was_no_file() -> None:
    failed = socket.gaierror(socket.EAI_NONAME, "a: too many open files")
    failed.__cause__ = OSError(errno.EMFILE, "too many open files")
    assert fault_of(failed) is Fault.LOCAL
    assert why_not(failed) == "no more files may be open"


def test_every_number_has_one_fault() -> None:
    assert set(FAULTS.values()) == set(Fault)
