"""A model that was talked into it asks for what the operator never listed: nothing is dialled, and the talk goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.standin.config import StandinConfig
from tests.e2e.conftest import Rig
from tests.e2e.test_flow import company
from tests.e2e.test_transfers import SCRIPT, say
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
PHRASE = "connect me to sales"
ASKED_FOR = (  # function, arguments (TOML)
    ("transfer_call", 'target = "+19005551234"'),
    ("transfer_call", 'target = "dial:402@pbx"'),
    ("transfer_call", 'target = "boss"'),
    ("transfer_call", 'target = "DESK"'),
    ("transfer_call", 'target = ""'),
    ("transfer_call", 'target = "desk\\r\\nX-Evil: 1"'),
    ("transfer_call", 'target = ["desk"]'),
    ("transfer_call", 'to = "dial:402@pbx"'),
    ("transfer_call", 'target = "desk", to = "dial:402@pbx", trunk = "pbx", how = "dial", number = "402"'),
    ("dial", 'number = "402"'),
    ("originate", 'endpoint = "PJSIP/402@pbx"'),
    ("schedule_callback", 'in_minutes = 0, reason = "x", number = "+447700900123"'),
    ("schedule_callback", 'in_minutes = 0, reason = "x", number = "402"'),
    ("send_dtmf", 'digits = "*72402"'),
    ("collect_digits", 'name = "card"'),
    ("take_message", 'mailbox = "../../etc/passwd", text = "x"'),
)


def script(folder: Path) -> StandinConfig:
    """Everything at once, also what was never offered."""
    lines = [SCRIPT, "[[intent]]", 'name = "all"', f'phrases = ["{PHRASE}"]', 'reply = "One moment."']
    for name, given in ASKED_FOR:
        lines += [
            "[[intent.tool]]", f'name = "{name}"', f"arguments = {{ {given} }}", 'done = "Yes."', 'failed = "No."',
            'missing = "No."', "invented = true",
        ]  # fmt: skip
    file = folder / "script.toml"
    file.write_text("\n".join(lines))
    return StandinConfig(script=file)


async def test_nothing_that_a_model_says_is_dialled(company: Company, root: Root, tmp_path: Path) -> None:
    """The only listed place is denied by the policy, so that a single leg is one too many."""
    node = await company(
        standin=script(tmp_path),
        routes=[{"to": "100", "go": "agent:reception"}],
        agent={"transfers": ["desk"], "greeting": "Hello.", "messages": ["office"], "may_schedule_callbacks": True},
        transfers={
            "desk": {"description": "Sales.", "to": "dial:desk"},
            "boss": {"description": "Not for this agent.", "to": "dial:402@pbx"},
        },
        outbound={"trunks": ["pbx"]},
        dial_policy={"allow": ["+4420*"], "deny": ["401"]},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, PHRASE)
        await until(lambda: len(node.of(model.ToolReturned)) == len(ASKED_FOR), "all of them to be refused")
        assert [event.name for event in node.of(model.ToolReturned) if event.ok] == []
        mark = len(phone.media.voiced_in)
        await until(lambda: len(phone.media.voiced_in) > mark + 5, "the talk to go on")
        assert not phone.ended
        channels = {channel.name.partition("-")[0] for channel in await node.ari.channels()}
        assert not any("pbx" in name for name in channels)
    assert node.of(model.LegDialled) == []
    assert node.of(model.CallbackRequested) == []
    assert node.of(model.MessageTaken) == []
    assert {event.asked_by for event in node.of(model.DialRefused)} == {"transfer", "agent"}
    await node.ended()
    await node.nothing_left()
