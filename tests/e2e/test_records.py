"""The record of a real call is what happened, as the caller's phone has it; also when the control process dies."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Judge

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.dialogue import DEMO, converse
from sipagent.speech import Flite
from tests.e2e.test_processes import CONFIG, get, on, output_of, phone_on, ready, sipagent
from tests.records.test_webhooks import SECRET, Receiver
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def the_call(env: dict[str, str]) -> dict[str, Any]:
    """The one there is, when it is over."""
    found: list[dict[str, Any]] = []

    async def is_over() -> bool:
        found[:] = (await get(env, "/v1/calls"))[1].get("calls", [])
        return bool(found) and found[0]["state"] == "ended"

    await until(is_over, "the record of the call")
    [summary] = found
    _, whole = await get(env, f"/v1/calls/{summary['id']}")
    return whole


async def test_a_record_is_what_happened(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    caller = Flite(root.command("flite"), "kal")
    async with Receiver().serving() as receiver:
        file.write_text(f'{CONFIG}[webhooks.crm]\nurl = "{receiver.url}"\n')
        env = on(asterisk, tmp_path / "run") | {"SIPAGENT_WEBHOOKS__CRM__SECRET": SECRET}
        async with sipagent(env, "run", "--standin", "--config", str(file)):
            await ready(env)
            async with phone_on(asterisk, root) as phone:
                dialled = dt.datetime.now(dt.UTC)
                summary = await converse(phone, "100", DEMO[1:], caller.synthesize)
            record = await the_call(env)
            told = {name: record[name] for name in ("dst", "disposition", "direction", "agent", "result", "reason")}
            assert told == {
                "dst": "100", "disposition": "ANSWERED", "direction": "in", "agent": "reception", "result": "success",
                "reason": "caller_hangup",
            }  # fmt: skip
            assert abs((dt.datetime.fromisoformat(record["start"]) - dialled).total_seconds()) < 2
            assert record["billsec"] <= record["duration"]
            assert (record["turns"], record["barge_ins"]) == (len(summary.turns), 1)
            history = record["history"]
            heard = [said["text"] for said in history["transcript"] if said["role"] == "caller"]
            assert heard == ["tell me about your services", "what is your address"]
            waits = [turn["latency_ms"] for turn in history["turns"] if turn["latency_ms"] is not None]
            measured = [turn.response_ms for turn in summary.turns if turn.response_ms is not None]
            assert waits == pytest.approx(measured, abs=120)  # the phone's ear ends a word a little later
            assert record["mos"] > 4
            kinds = [event["type"] for event in history["events"]]
            assert (kinds[0], kinds[-1]) == ("call_started", "call_ended")

            await until(lambda: len(receiver.heard) == 1, "the webhook")
            [(headers, body)] = receiver.heard
            message = Judge(SECRET).verify(body.decode(), {name.lower(): value for name, value in headers.items()})
            assert message["data"]["history"]["transcript"] == history["transcript"]
        options = ("--config", str(file))
        code, out = await output_of(env, "calls", "--json", *options)  # nothing runs any more
        assert (code, [entry["id"] for entry in json.loads(out)]) == (0, [record["id"]])
        code, out = await output_of(env, "call-report", record["id"], *options)
        assert (code, "what is your address" in out) == (0, True)


def end(terminate: Callable[[], None]) -> None:
    """A process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        terminate()


async def test_the_control_process_dies_and_the_record_is_whole(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "standin", "--port", env["SIPAGENT_STANDIN__PORT"]):
        node = env | {
            "SIPAGENT_REALTIME__URL": f"ws://127.0.0.1:{env['SIPAGENT_STANDIN__PORT']}/v1/realtime",
            "SIPAGENT_REALTIME__API_KEY": "key",
        }
        # Its log is a file: a pipe of ours would not survive it, and the worker writes on.
        async with contextlib.AsyncExitStack() as stack:
            log = stack.enter_context((tmp_path / "log").open("wb"))
            control = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipagent", "run", "--config", str(file), env=node, stdout=log, stderr=log
            )
            stack.callback(end, control.terminate)
            await ready(node)
            # An orphan later on: it goes however the test ends.
            worker = (await get(node, "/readyz"))[1]["workers"][0]["pid"]
            stack.callback(end, partial(os.kill, worker, signal.SIGTERM))
            async with phone_on(asterisk, root) as phone:
                await phone.dial("100")
                assert await phone.wait_answered()
                await phone.hear_agent_start()
                control.kill()
                await control.wait()
                await phone.wait_quiet(600)  # the agent is heard to its end
                await phone.hang_up()
            # It keeps what it has to tell until somebody listens.
            async with sipagent(node, "run", "--config", str(file)):
                record = await the_call(node)
        assert (record["disposition"], record["reason"]) == ("ANSWERED", "caller_hangup")
        events = [json.dumps(event) for event in record["history"]["events"]]
        assert len(events) == len(set(events))
        kinds = [event["type"] for event in record["history"]["events"]]
        assert (kinds.count("call_started"), kinds.count("call_answered"), kinds.count("call_ended")) == (1, 1, 1)
