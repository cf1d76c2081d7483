"""The listening sockets of the supervisor: who gets which, and what is left when there are fewer workers."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from gateway.supervisor.sockets import Sockets
from tests.support.ports import free_port

HERE = "127.0.0.1"


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HERE, port)) == 0


def serve(sockets: Sockets, addresses: dict[str, tuple[str, int]], slots: int) -> None:
    arrangement = sockets.arrange(addresses, slots)
    arrangement.listen()
    arrangement.settle()


def test_each_slot_has_a_socket_of_its_own_on_the_same_port(sockets: Sockets) -> None:
    addresses = {"listener": (HERE, free_port())}
    sockets.arrange(addresses, 3).settle()
    given = [sockets.of(addresses, slot, 3)["listener"] for slot in range(3)]
    assert [len(each) for each in given] == [1, 1, 1]
    assert len({sock.fileno() for each in given for sock in each}) == 3
    assert {sock.getsockname() for each in given for sock in each} == {addresses["listener"]}


def test_what_is_left_over_goes_to_those_that_stay(sockets: Sockets) -> None:
    addresses = {"listener": (HERE, free_port())}
    sockets.arrange(addresses, 4).settle()
    before = {sock.fileno() for slot in range(4) for sock in sockets.of(addresses, slot, 4)["listener"]}
    sockets.arrange(addresses, 2).settle()
    after = [[sock.fileno() for sock in sockets.of(addresses, slot, 2)["listener"]] for slot in range(2)]
    assert [len(each) for each in after] == [2, 2]
    assert {fd for each in after for fd in each} == before


def test_more_slots_open_more_sockets_beside_those_there_are(sockets: Sockets) -> None:
    addresses = {"listener": (HERE, free_port())}
    sockets.arrange(addresses, 1).settle()
    (first,) = sockets.of(addresses, 0, 1)["listener"]
    sockets.arrange(addresses, 2).settle()
    assert sockets.of(addresses, 0, 2)["listener"] == [first]


def test_another_port_closes_the_old_one_when_it_is_settled(sockets: Sockets) -> None:
    old, new = free_port(), free_port()
    serve(sockets, {"listener": (HERE, old)}, 1)
    arrangement = sockets.arrange({"listener": (HERE, new)}, 1)
    # A client that came now would wait for workers that may never be.
    assert (listens(old), listens(new)) == (True, False)
    arrangement.listen()
    assert (listens(old), listens(new)) == (True, True)
    arrangement.settle()
    assert (listens(old), listens(new)) == (False, True)


def test_what_was_opened_in_vain_is_closed_again(sockets: Sockets) -> None:
    old, new = free_port(), free_port()
    serve(sockets, {"listener": (HERE, old)}, 1)
    sockets.arrange({"listener": (HERE, new)}, 2).withdraw()
    assert (listens(old), listens(new)) == (True, False)
    assert sockets.addresses == {"listener": (HERE, old)}


def test_a_port_on_which_a_program_of_the_same_user_listens_is_taken(sockets: Sockets) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((HERE, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use") as raised:
            sockets.arrange({"listener": (HERE, port)}, 2)
    assert raised.value.filename == f"{HERE}:{port}"


def test_a_port_that_cannot_be_had_leaves_nothing_open(sockets: Sockets) -> None:
    port = free_port()
    with socket.socket() as other:
        other.bind((HERE, 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            sockets.arrange({"listener": (HERE, port), "admin": (HERE, taken)}, 2)
    assert not listens(port)


def test_a_port_that_was_taken_before_the_workers_were_ready_is_named(sockets: Sockets) -> None:
    port = free_port()
    arrangement = sockets.arrange({"listener": (HERE, port)}, 1)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        other.bind((HERE, port))
        other.listen()
        with pytest.raises(OSError, match="in use") as raised:
            arrangement.listen()
    assert raised.value.filename == f"{HERE}:{port}"


def test_sockets_come_through_a_dump_with_the_same_descriptors(sockets: Sockets) -> None:
    addresses = {"listener": (HERE, free_port())}
    serve(sockets, addresses, 2)
    # As after an exec: what was an object is gone, and the descriptors are open.
    dumped = sockets.dump()
    descriptors = {sock.fileno() for slot in range(2) for sock in sockets.of(addresses, slot, 2)["listener"]}
    assert all(os.get_inheritable(fd) for fd in descriptors)
    for slot in range(2):
        for sock in sockets.of(addresses, slot, 2)["listener"]:
            sock.detach()
    again = Sockets.restored(dumped)
    try:
        assert again.addresses == addresses
        assert {s.fileno() for slot in range(2) for s in again.of(addresses, slot, 2)["listener"]} == descriptors
        assert not any(os.get_inheritable(fd) for fd in descriptors)
        assert listens(addresses["listener"][1])
    finally:
        again.close()


def test_a_port_for_which_there_are_no_files_is_named(sockets: Sockets) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as raised:
            sockets.arrange({"listener": (HERE, 5000)}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.filename == f"{HERE}:5000"


class TestGiven:
    """Sockets of the service manager."""

    def test_variables_for_another_process_are_not_ours(self, sockets: Sockets) -> None:
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDNAMES": "x"}
        sockets.take_given(environ, os.getpid())
        assert environ == {}
        addresses = {"listener": (HERE, free_port())}
        sockets.arrange(addresses, 1)
        assert sockets.of(addresses, 0, 1)["listener"][0].getsockname() == addresses["listener"]

    def test_all_workers_listen_on_them_so_nobody_stands_in(self, sockets: Sockets) -> None:
        with socket.socket() as one:
            sockets._given["listener"] = [one]
            addresses = {"listener": (HERE, 5000), "admin": (HERE, free_port())}
            sockets.arrange(addresses, 2)
            assert list(sockets.of(addresses, 0, 2)) == ["listener", "admin"]
            assert list(sockets.own(addresses, 0, 2)) == ["admin"]
