"""One-way audio: a caller of whom no packet ever comes is not left talking to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from tests.e2e.conftest import MakeRig
from tests.e2e.referred import caller
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def test_a_caller_who_cannot_be_heard_is_told_so(rig: MakeRig, root: Root, tmp_path: Path) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC), call={"not_heard": "We are sorry."})
    async with caller(root.command("sipp"), node.asterisk.config, None, "", tmp_path):
        await until(lambda: [event.action for event in node.of(model.MediaTrouble)] == ["repaired"], "a new channel")
        await until(lambda: len(node.of(model.MediaTrouble)) == 2, "the end of our patience")
        outcome = await node.ended()
    assert (outcome.reason, outcome.fault) == (Reason.NO_AUDIO, "caller")
    await node.nothing_left()


async def test_a_caller_who_speaks_is_left_alone(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await until(lambda: len(phone.media.sent) > 50 * 7, "seven seconds")
    await node.ended()
    assert node.of(model.MediaTrouble) == []
    await node.nothing_left()
