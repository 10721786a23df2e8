"""The API of live calls, on a node of real processes: begin one, look in on one, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.e2e.test_processes import get, on, phone_on, ready, sipagent

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
                return [one for one in (await get(env, "/v1/calls"))[1]["calls"] if one["direction"] == "in"]

            (one,) = await live()
            path = f"/v1/calls/{one['call_id']}"
            assert (await post(env, f"{path}/message", {"text": "Be nice.", "answer": True}))[0] == 202
            status, told = await post(env, f"{path}/monitor", {"supervisor": "bert"})
            assert (status, told["title"]) == (409, "It cannot be done now")
            assert "[supervisors]" in told["detail"]
            assert (await post(env, "/v1/calls/none/message", {"text": "Hello?"}))[0] == 404
            assert not phone.ended
