"""Webhooks: signed, tried again, given up, sent again; the receivers are real servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from standardwebhooks import Webhook as Judge
from standardwebhooks import WebhookVerificationError

from sipagent import model
from sipagent.config.webhooks import Webhook
from sipagent.records import webhooks
from sipagent.records.service import Records
from sipagent.records.store import Store
from sipagent.records.webhooks import Webhooks, signature
from tests.records.conftest import tables_in
from tests.records.talk import call, kept
from tests.records.test_api import client, settings_in
from tests.waiting import until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""What is no matter of the database is tried on one."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "DELAYS_S", (0.01,))
    monkeypatch.setattr(webhooks, "LOOK_EVERY_S", 0.02)


class Receiver:
    """Somebody's server; `answers` are given in turn, the last for ever."""

    def __init__(self, *answers: int | Handler) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self._answers = list(answers or (200,))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((dict(request.headers), await request.read()))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return web.Response(status=answer, text="as told") if isinstance(answer, int) else await answer(request)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/calls"
        try:
            yield self
        finally:
            await runner.cleanup()

    def hook(self, **changes: Any) -> Webhook:
        return Webhook(**({"url": self.url, "secret": SECRET, "timeout_s": 5} | changes))


async def state_of(hooks: Webhooks) -> str:
    """Of the one delivery."""
    [delivery] = await hooks.deliveries()
    return str(delivery["state"])


@asynccontextmanager
async def told(store: Store, **hooks: Webhook) -> AsyncIterator[Webhooks]:
    made = Webhooks(store, hooks)
    store.reactions = [made.react]
    async with made.running():
        yield made


async def is_in(hooks: Webhooks, state: str) -> bool:
    return {delivery["state"] for delivery in await hooks.deliveries()} == {state}


async def test_a_call_that_ended_is_told_once_and_signed(store: Store) -> None:
    async with Receiver().serving() as receiver, told(store, crm=receiver.hook()) as hooks:
        await store.apply(kept(call()), 0)
        await store.apply(kept(call()), 0)  # again the same
        await until(lambda: is_in(hooks, "delivered"), "the delivery")
        [(headers, body)] = receiver.heard
        message = Judge(SECRET).verify(body.decode(), {name.lower(): value for name, value in headers.items()})
        assert message["type"] == "call.ended"
        assert message["version"] == 1
        assert message["timestamp"] == "2026-09-21T14:13:50.000000Z"
        whole = await store.call("c1", events=False)
        assert message["data"] == whole
        [delivery] = await hooks.deliveries()
        assert delivery["id"] == headers["webhook-id"]
        assert (delivery["attempts"], delivery["last_status"]) == (1, 200)
        assert hooks.counts == {"delivered": 1}


@on_sqlite
async def test_a_probe_is_no_customers_call(store: Store) -> None:
    async with Receiver().serving() as receiver, told(store, crm=receiver.hook()) as hooks:
        routed = model.CallRouted(call_id="c1", at=1.0, route="", destination="probe:uk")
        await store.apply(kept([routed, *(event for event in call() if not isinstance(event, model.CallRouted))]), 0)
        assert await hooks.deliveries() == []


def test_a_forged_message_does_not_pass() -> None:
    body = b'{"a":1}'
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": "1790000000",
        "webhook-signature": signature(SECRET, "m", 1, body),
    }
    with pytest.raises(WebhookVerificationError):
        Judge(SECRET).verify(body.decode(), headers)


@on_sqlite
async def test_only_what_was_asked_for_is_told(store: Store) -> None:
    message = model.MessageTaken(call_id="c1", at=1.0, mailbox="office", text="Hi", number="+442079460555")
    wish = model.CallbackRequested(
        call_id="c1", at=1.0, callback_id="cb", number="+442079460555", agent="a", trunk="t", not_before=5.0, reason="r"
    )
    recording = model.RecordingEnded(
        call_id="c1", at=2.0, recording_id="r1", path="p", format="wav", seconds=1.0, bytes=9, sha256="s"
    )
    async with Receiver().serving() as receiver:
        wanted = {"events": ("message.taken", "callback.requested", "recording.ended")}
        async with told(store, crm=receiver.hook(**wanted)) as hooks:
            await store.apply(kept([*call(), message, wish, recording]), 0)
            await until(lambda: is_in(hooks, "delivered"), "the deliveries")
    heard = {body["type"]: body["data"] for body in (json.loads(body) for _, body in receiver.heard)}
    assert set(heard) == {"message.taken", "callback.requested", "recording.ended"}
    assert heard["message.taken"]["text"] == "Hi"
    assert heard["callback.requested"]["id"] == "cb"
    assert heard["recording.ended"]["sha256"] == "s"


@on_sqlite
async def test_a_receiver_that_fails_is_asked_again_with_the_same_words(store: Store) -> None:
    async with Receiver(500, 503, 404, 200).serving() as receiver, told(store, crm=receiver.hook()) as hooks:
        await store.apply(kept(call()), 0)
        await until(lambda: is_in(hooks, "delivered"), "the delivery")
    assert len(receiver.heard) == 4
    assert len({body for _, body in receiver.heard}) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1


async def hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def talks_for_ever(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(status=500)
    await answer.prepare(request)
    for _ in range(100):
        await answer.write(b"\xff" * 100_000)
    return answer


async def closes(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


async def redirects(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (hangs, "no answer within"),
        (talks_for_ever, "\ufffd"),
        (closes, "ServerDisconnected"),
        (redirects, "302"),
        (400, "as told"),
    ],
)
async def test_what_nobody_takes_is_dead_kept_and_can_be_sent_again(
    store: Store, answer: int | Handler, said: str, tmp_path: Path
) -> None:
    async with Receiver(answer, answer, 200).serving() as receiver:
        hook = receiver.hook(max_attempts=2, timeout_s=0.3)
        async with told(store, crm=hook) as hooks:
            await store.apply(kept(call()), 0)
            await until(lambda: is_in(hooks, "dead"), "the end of our patience")
            [delivery] = await hooks.deliveries(state="dead", webhook="crm")
            assert delivery["attempts"] == 2
            assert said in delivery["last_error"]
            assert await hooks.by_state() == {"dead": 1}
            assert len(receiver.heard) == 2
            assert not any("elsewhere" in str(headers) for headers, _ in receiver.heard)
            assert not await hooks.resend("nobody", 0)
            assert await hooks.resend(delivery["id"], 0)
            await until(lambda: is_in(hooks, "delivered"), "the second chance")


@on_sqlite
async def test_a_call_that_was_lost_is_told_as_well(store: Store) -> None:
    async with Receiver().serving() as receiver, told(store, crm=receiver.hook()):
        await store.apply(kept(call()[:8]), 0)
        await store.lose(set(), quiet_since=2e9, now=0)
        await until(lambda: len(receiver.heard) == 1, "the webhook")
        assert json.loads(receiver.heard[0][1])["data"]["state"] == "lost"


@on_sqlite
async def test_gone_means_never_again(store: Store) -> None:
    async with Receiver(410).serving() as receiver, told(store, crm=receiver.hook()) as hooks:
        await store.apply(kept(call()), 0)
        await until(lambda: is_in(hooks, "dead"), "the end")
        assert len(receiver.heard) == 1


@on_sqlite
async def test_a_slow_receiver_holds_up_nobody_else(store: Store) -> None:
    async with (
        Receiver(hangs).serving() as slow,
        Receiver().serving() as other,
        told(store, slow=slow.hook(timeout_s=50), other=other.hook()),
    ):
        for number in range(6):
            await store.apply(kept(call(f"c{number}"), f"r{number}"), 0)
        await until(lambda: len(other.heard) == 6, "the quick one to hear all")


async def test_a_restart_forgets_nothing_and_two_nodes_do_not_both_tell(store: Store) -> None:
    async with Receiver().serving() as receiver:
        hook = receiver.hook()
        store.reactions = [Webhooks(store, {"crm": hook}).react]  # nobody delivers yet
        for number in range(12):
            await store.apply(kept(call(f"c{number}"), f"r{number}"), 0)
        assert receiver.heard == []
        one, other = Webhooks(store, {"crm": hook}), Webhooks(store, {"crm": hook})
        async with one.running(), other.running():
            await until(lambda: is_in(one, "delivered"), "all deliveries")
        assert len(receiver.heard) == len({headers["webhook-id"] for headers, _ in receiver.heard}) == 12


@on_sqlite
async def test_retry_after_is_heeded(store: Store) -> None:
    async def later(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with Receiver(later).serving() as receiver, told(store, crm=receiver.hook()) as hooks:
        await store.apply(kept(call()), 0)
        await until(lambda: hooks.counts["failed"] == 1, "the refusal")
        [delivery] = await hooks.deliveries()
        assert delivery["state"] == "pending"
        assert delivery["next_at"] > delivery["created_at"]
        assert len(receiver.heard) == 1


async def test_by_the_api(tmp_path: Path) -> None:
    async with Receiver(500, 200).serving() as receiver:
        settings = settings_in(tmp_path).model_copy(update={"webhooks": {"crm": receiver.hook(max_attempts=1)}})
        records = Records(settings)
        await tables_in(records.store)
        async with client(records) as http, records.webhooks.running():
            await records.store.apply(kept(call()), 0)
            await until(lambda: is_in(records.webhooks, "dead"), "the end of our patience")
            answer = (await http.get("/v1/webhooks/deliveries", params={"state": "dead"})).json()
            assert answer["by_state"] == {"dead": 1}
            [delivery] = answer["deliveries"]
            assert (await http.post("/v1/webhooks/deliveries/nobody/resend")).status_code == 404
            assert (await http.post(f"/v1/webhooks/deliveries/{delivery['id']}/resend")).status_code == 202
            await until(lambda: is_in(records.webhooks, "delivered"), "the second chance")
        await records.store.aclose()


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "crm.example.com", "http://crm.example.com/x", "http://8.8.8.8/", "https://u:p@crm.example.com/",
     "http://169.254.169.254/latest", "http://[::ffff:8.8.8.8]/", "https://", "https://x/#part"],
)  # fmt: skip
def test_addresses_that_must_not_be_told(url: str) -> None:
    with pytest.raises(ValidationError):
        Webhook(url=url, secret=SECRET)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["https://crm.example.com/x", "http://127.0.0.1:8/", "http://10.1.2.3/", "http://localhost/",
                                 "http://[::1]:8/", "http://[fd00::1]/"])  # fmt: skip
def test_addresses_that_may(url: str) -> None:
    assert Webhook(url=url, secret=SECRET).url == url  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", ["", "whsec_", "short", "whsec_" + base64.b64encode(b"short").decode(), "ä" * 50])
def test_secrets_that_are_none(secret: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Webhook(url="https://crm.example.com/x", secret=secret)  # type: ignore[arg-type]
    assert "in base64" in str(refused.value)


def test_any_body_and_key_is_signed_as_the_judge_signs() -> None:
    for _ in range(50):
        secret = "whsec_" + base64.b64encode(random.randbytes(random.randrange(24, 64))).decode()
        body, at = json.dumps({"text": chr(random.randrange(32, 0xD000)) * 20}), 1_790_000_000
        theirs = Judge(secret).sign("msg_x", dt.datetime.fromtimestamp(at, dt.UTC), body)
        assert signature(secret, "msg_x", at, body.encode()) == theirs
