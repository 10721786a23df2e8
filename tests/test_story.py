"""What of a call is carried on its channel at once, and what may wait for more."""

from __future__ import annotations

import asyncio

import pytest

from sipagent import model
from sipagent.model import Role
from sipagent.story import Story

SAID = {"role": Role.CALLER, "item_id": "i", "text": "Hello"}


@pytest.fixture
async def story() -> Story:
    return Story("c", 0.0, lambda _event: None, show=False)


async def test_where_the_caller_is_must_be_known_at_once(story: Story) -> None:
    story.tell(model.StepEntered, step="agent:reception")
    assert story.changed.is_set()


async def test_what_was_said_waits_for_more_but_not_for_ever(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipagent.story.SAID_WITHIN_S", 0.0)
    for _ in range(2):  # and the next words have a time of their own
        story.tell(model.Transcript, **SAID)
        story.tell(model.Transcript, **SAID | {"role": Role.AGENT})
        assert not story.changed.is_set()
        async with asyncio.timeout(10):
            await story.changed.wait()
        story.changed.clear()
