"""examples/outbox.yaml as it stands: valid, and a receiver that was away gets each event once, in order and signed."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import jsonschema
import pytest

from gateway.config.reading.yaml_tree import parse
from tests.conftest import StartGateway
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/outbox.yaml"
SECRET = b"thirty-two bytes of the example!"


def test_the_example_is_valid_for_its_schema() -> None:
    schema = json.loads((ROOT / "gateway.schema.json").read_text(encoding="utf-8"))
    parsed = parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name)
    jsonschema.Draft202012Validator(schema).validate(parsed.root)


def test_a_receiver_that_was_away_gets_each_event_once_in_order_and_signed(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "hooks.secret"
    secret.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    with Receiver("/orders") as receiver:
        receiver.answers.append(503)
        gateway = start_gateway(
            {
                "GATEWAY_CONFIG": str(EXAMPLE),
                "HOOKS_SECRET_FILE": str(secret),
                "HOOKS_FIRST_PAUSE": "0.2",
                "RECEIVER_URL": receiver.url,
                "JOURNAL_TIMEOUT_SECONDS": "30",
            }
        )
        bodies = [b'{"order": %d}' % number for number in range(3)]
        for body in [bodies[0], *bodies]:
            headers = {"X-Customer": "7", "Idempotency-Key": f"key-{body.decode()[-2]}"}
            answer = gateway.request("POST", "/hooks/orders", body, headers)
            assert answer.status == 202
        eventually(lambda: len(receiver.each_once) == len(bodies), "delivered")
        assert receiver.each_once == bodies
        assert receiver.bodies == [bodies[0], *bodies]  # the first one was answered with 503
        seen, body = receiver.seen[-1]
    signed = f"{seen.get('webhook-id')}.{seen.get('webhook-timestamp')}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert seen.get("webhook-signature") == f"v1,{expected}"
    assert seen.get("Idempotency-Key") == f'"{seen.get("webhook-id")}"'
