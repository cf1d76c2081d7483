"""The harness itself, through real sockets and processes: the raw clients, the scripted upstream, the children."""

import asyncio
import os
import signal
import sys
import threading

import pytest
import uvloop

from tests.conftest import StartGateway
from tests.support.fake_upstream import (
    Close,
    FakeUpstream,
    FinishSending,
    Pause,
    ReadBytes,
    ReadHead,
    ReadRequest,
    ReadToEnd,
    Reset,
    Send,
    WaitFor,
    respond,
    serving,
)
from tests.support.processes import ChildFailed, ChildProcess
from tests.support.raw_http import AsyncRawClient, RawClient
from tests.support.raw_response import NoResponse
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_asynchronous_tests_run_on_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


class TestFakeUpstream:
    def test_plays_one_script_per_connection_and_repeats_the_last(self) -> None:
        with FakeUpstream([ReadHead(), Send(respond(b"first")), Close()], serving(respond(b"a"), respond(b"b"))) as up:
            for bodies in ([b"first"], [b"a", b"b"], [b"a", b"b"]):
                with RawClient(up.port) as client:
                    assert [client.request(REQUEST).body for _ in bodies] == bodies
            assert [bytes(connection.received) for connection in up.connections[:2]] == [REQUEST, REQUEST * 2]
            assert up.connections[1].heads == [REQUEST, REQUEST]
            up.wait_until(lambda upstream: upstream.connections[2].ended == "closed")

    def test_reads_whole_requests(self) -> None:
        chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        sized = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        with FakeUpstream(serving(respond(b"1"), respond(b"2"), respond(b"3"))) as upstream:
            with RawClient(upstream.port) as client:
                bodies = [client.request(octets).body for octets in (chunked, sized, REQUEST)]
            assert bodies == [b"1", b"2", b"3"]
            assert upstream.received == chunked + sized + REQUEST

    @pytest.mark.parametrize(("last", "ending"), [(Reset(), "reset"), (Close(), "closed"), (FinishSending(), "closed")])
    def test_ends_a_body_as_told(self, last: Reset | Close | FinishSending, ending: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
        with FakeUpstream([ReadHead(), Send(head), Pause(0.02), last, Pause(0.1)]) as up, RawClient(up.port) as client:
            response = client.request(REQUEST)
        assert (response.body, response.ending) == (b"abc", ending)

    def test_waits_for_the_test(self) -> None:
        event = threading.Event()
        with FakeUpstream([ReadRequest(), WaitFor(event), Send(respond(b"now"))]) as up, RawClient(up.port) as client:
            client.send(REQUEST)
            assert client.fate(0.1) == "open"
            event.set()
            assert client.read_response().body == b"now"

    def test_sees_a_reset_of_the_peer(self) -> None:
        with FakeUpstream([ReadBytes(3), ReadToEnd()]) as upstream:
            client = RawClient(upstream.port)
            client.send(b"abcd")
            upstream.wait_until(lambda up: up.received == b"abcd")
            client.reset()
            upstream.wait_until(lambda up: [c.ended for c in up.connections] == ["reset"])

    def test_leaves_no_connection_behind(self) -> None:
        with FakeUpstream([Pause(60.0)]) as upstream:
            client = RawClient(upstream.port)
            upstream.wait_for_connections(1)
        assert client.fate() in {"closed", "reset"}
        client.close()
        with pytest.raises(ConnectionRefusedError):
            RawClient(upstream.port)


class TestAsyncRawClient:
    async def test_does_what_the_blocking_one_does(self) -> None:
        with FakeUpstream([ReadRequest(), Send(respond(b"hello") + b"more"), Pause(0.05), Reset()]) as upstream:
            async with await AsyncRawClient.connect(upstream.port) as client:
                await client.send_slowly(REQUEST, 0.001, step=10)
                assert (await client.read_response()).body == b"hello"
                assert await client.fate() == "reset"
                assert client.unread == b"more"

    async def test_goes_on_after_a_timeout(self) -> None:
        with FakeUpstream([ReadRequest(), Pause(0.1), Send(respond(b"late"))]) as upstream:
            async with await AsyncRawClient.connect(upstream.port) as client:
                await client.send(REQUEST)
                with pytest.raises(NoResponse, match="timeout"):
                    await client.read_response(timeout=0.01)
                assert (await client.read_response()).body == b"late"
                assert await client.read_rest() == (b"", "closed")

    async def test_resets(self) -> None:
        with FakeUpstream([ReadToEnd()]) as upstream:
            client = await AsyncRawClient.connect(upstream.port)
            await client.send(b"x")
            await client.reset()
            await asyncio.to_thread(upstream.wait_until, lambda up: [c.ended for c in up.connections] == ["reset"])


class TestChildProcess:
    def test_collects_output_and_status(self) -> None:
        with ChildProcess("child", [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"]) as child:
            assert child.wait() == 3
            assert child.lines == ["one", "two"]

    def test_a_child_that_ends_too_early_fails_the_wait_with_its_output(self) -> None:
        complaint = pytest.raises(ChildFailed, match=r"(?s)ended before ready:.*sorry")
        with ChildProcess("child", [sys.executable, "-c", "print('sorry')"]) as child, complaint:
            child.wait_until(lambda: False, "ready")

    def test_a_child_that_ignores_sigterm_is_killed_and_told_on(self) -> None:
        program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
        with ChildProcess("child", [sys.executable, "-c", program]) as child:
            child.wait_for_line("up")
            with pytest.raises(ChildFailed, match="still runs"):
                child.stop(timeout=0.2)
            assert child.returncode == -signal.SIGKILL

    def test_a_paused_child_can_be_ended(self) -> None:
        child = ChildProcess("child", ["sleep", "60"])
        child.pause()
        child.end()
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


class TestRedisServer:
    def test_is_empty_for_every_test(self, redis: RedisServer) -> None:
        assert redis.execute("DBSIZE") == 0
        redis.execute("SET", "left", "behind")
        redis.flush()
        assert redis.execute("GET", "left") is None

    def test_can_be_paused_killed_and_restarted_on_its_port(self, own_redis: RedisServer) -> None:
        own_redis.execute("SET", "key", "value")
        own_redis.pause()
        with RawClient(own_redis.port) as client:
            assert client.send(b"PING\r\n").fate(0.2) == "open"
            assert client.unread == b""
            own_redis.resume()
            client.fate(0.2)
            assert client.unread == b"+PONG\r\n"
        assert own_redis.execute("GET", "key") == "value"
        own_redis.kill()
        assert not own_redis.running
        port = own_redis.port
        own_redis.restart()
        assert own_redis.port == port
        assert own_redis.execute("GET", "key") is None


class TestGatewayProcess:
    def test_serves_with_exactly_its_variables_and_stops_cleanly(
        self, stub: StubProcess, start_gateway: StartGateway
    ) -> None:
        gateway = start_gateway({"UPSTREAM_URL": stub.url})
        assert gateway.get("/proxy/ok").json() == {"status": "ok"}
        assert stub.requests("/ok") == 1
        assert gateway.stop() == 0
        assert [record["target"] for record in gateway.log_records() if "target" in record] == ["/proxy/ok"]

    def test_one_that_cannot_start_fails_with_its_output(self, start_gateway: StartGateway) -> None:
        with pytest.raises(ChildFailed, match=r"(?s)ended before answering /livez.*UPSTREAM_URL"):
            start_gateway({"UPSTREAM_URL": "nonsense://"})
