"""The API of live calls, on a node of real processes: begin one, look in on one, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.e2e.test_processes import get, on, output_of, phone_on, ready, sipagent
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
[numbers]
"100" = "reception"
[outbound]
trunks = ["phone"]
detect = false
[dial_policy]
allow = ["401"]
per_minute = 2
"""


async def post(env: dict[str, str], path: str, body: Any, **headers: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}{path}"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None) if response.content_length else None


async def test_calls_are_begun_and_looked_in_on(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await ready(env)
        for body, why in (
            ({"to": "402", "agent": "reception"}, "dial_policy.allow"),
            ({"to": "401", "agent": "nobody"}, "there is no agent 'nobody'"),
            ({"to": "401", "agent": "reception", "trunk": "other"}, "not in [outbound] trunks"),
            ({"to": "401", "agent": "reception", "machine": "message"}, "message"),
        ):
            status, told = await post(env, "/v1/calls", body)
            assert status == 403, told
            assert why in told["detail"]
        assert (await post(env, "/v1/calls", {"to": "401", "agent": "reception", "extra": 1}))[0] == 422
        assert (await post(env, "/v1/calls", {"to": "", "agent": "reception"}))[0] == 422

        # Nobody has registered as the phone: the call begins, and ends unanswered. The key calls once.
        call = {"to": "401", "agent": "reception", "variables": {"order": "4711"}}
        first = await post(env, "/v1/calls", call, **{"Idempotency-Key": "order-4711"})
        assert first[0] == 201
        assert await post(env, "/v1/calls", call, **{"Idempotency-Key": "order-4711"}) == first

        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            await phone.hear_agent_start()

            async def live() -> list[Any]:
                return [one for one in (await get(env, "/v1/calls/live"))[1]["calls"] if one["direction"] == "in"]

            (one,) = await live()
            path = f"/v1/calls/{one['call_id']}"
            assert (await post(env, f"{path}/message", {"text": "Be nice.", "answer": True}))[0] == 202
            status, told = await post(env, f"{path}/monitor", {"supervisor": "bert"})
            assert (status, told["title"]) == (409, "It cannot be done now")
            assert "[supervisors]" in told["detail"]
            assert (await post(env, "/v1/calls/none/message", {"text": "Hello?"}))[0] == 404
            assert not phone.ended


async def test_a_key_calls_once_also_over_a_restart(asterisk: Asterisk, tmp_path: Path) -> None:
    """Nobody has registered as the phone, so the call ends at once; the records know that there was one."""
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run")
    call = {"to": "401", "agent": "reception"}
    for _ in range(2):
        async with sipagent(env, "run", "--standin", "--config", str(file)):
            await ready(env)
            status, begun = await post(env, "/v1/calls", call, **{"Idempotency-Key": "once"})
            assert status == 201

            async def ended(call_id: str = begun["call_id"]) -> bool:
                return (await get(env, f"/v1/calls/{call_id}"))[1].get("state") == "ended"

            await until(ended, "the call to stand in the records")
    _, page = await get_page(env, tmp_path)
    assert [one["id"] for one in page] == [begun["call_id"]]


async def get_page(env: dict[str, str], folder: Path) -> tuple[int, Any]:
    """What `sipagent calls --json` says, with nothing else running."""
    code, out = await output_of(env, "calls", "--json", "--config", str(folder / "sipagent.toml"))
    return code, json.loads(out)


async def test_a_promise_is_made_kept_and_cancelled(asterisk: Asterisk, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await ready(env)
        assert (await post(env, "/v1/callbacks", {"to": "402", "agent": "reception"}))[0] == 403
        later = {"to": "401", "agent": "reception", "not_before": "2099-01-01T00:00:00Z"}
        status, row = await post(env, "/v1/callbacks", later)
        assert (status, row["state"]) == (201, "waiting")
        assert await delete(env, f"/v1/callbacks/{row['id']}") == 204
        assert await delete(env, f"/v1/callbacks/{row['id']}") == 409
        status, now = await post(env, "/v1/callbacks", {"to": "401", "agent": "reception", "reason": "the bicycle"})
        assert status == 201

        async def tried() -> bool:
            (newest, *_) = (await get(env, "/v1/callbacks"))[1]["callbacks"]
            return newest["id"] == now["id"] and newest["last_disposition"] != ""

        await until(tried, "the call-back to be made")
        (newest, cancelled) = (await get(env, "/v1/callbacks"))[1]["callbacks"]
        assert (newest["state"], newest["attempts"], newest["last_disposition"]) == ("waiting", 1, "failed")
        assert cancelled["state"] == "cancelled"
        assert (await get(env, "/v1/messages"))[1] == {"messages": []}


async def delete(env: dict[str, str], path: str) -> int:
    url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}{path}"
    async with aiohttp.ClientSession() as http, http.delete(url) as response:
        return response.status
