"""The suite of faults: its ear, its judge, and one small sitting with the real Asterisk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.chaos import report
from bench.chaos.caller import WORDS, Call
from bench.chaos.ear import USUAL_S, Silence, is_talk, listen
from bench.chaos.faults import BY_NAME
from bench.chaos.judge import compare, leaks
from bench.chaos.node import Level
from bench.chaos.sitting import Sitting, Struck, sit
from sipagent.audio import FRAME_BYTES, Law
from sipagent.phone.analysis import Heard, Said
from sipagent.rtp.packet import RtpPacket
from sipagent.standin.pattern import pattern
from sipagent.tones import looped

TALK = pattern(Law.ULAW, 77, 0, FRAME_BYTES)
FILLER = looped("hold", Law.ULAW)[:FRAME_BYTES]


def heard(*spans: tuple[float, float, bytes]) -> list[Heard]:
    """Voiced frames from one time to another."""
    return [
        Heard(at / 50, RtpPacket(0, at & 0xFFFF, 0, 1, frame), voiced=True)
        for start, end, frame in spans
        for at in range(round(start * 50), round(end * 50))
    ]


class TestTheEar:
    def test_tells_the_agent_from_a_filler(self) -> None:
        assert is_talk(TALK)
        assert is_talk(WORDS[:FRAME_BYTES])
        assert not is_talk(FILLER)
        assert not is_talk(b"\xff" * FRAME_BYTES)

    def test_a_voice_that_goes_on_is_no_silence(self) -> None:
        assert not listen(heard((0, 10, TALK)), None, 2.0, 9.0).felt

    def test_a_gap_is_measured_from_the_last_frame_before_it(self) -> None:
        found = listen(heard((0, 2.5, TALK), (3.5, 5, FILLER), (5, 9, TALK)), None, 2.0, 8.0)
        assert found.voice_s == pytest.approx(1.02)
        assert found.talk_s == pytest.approx(2.52)

    def test_the_callers_own_words_and_a_usual_wait_are_none(self) -> None:
        said = Said(2.0, 2.8)
        prompt = heard((0, 2.1, TALK), (2.8 + USUAL_S + 0.1, 9, TALK))
        assert not listen(prompt, said, 2.0, 8.0).felt
        late = heard((0, 2.1, TALK), (2.8 + USUAL_S + 1.0, 9, TALK))
        assert listen(late, said, 2.0, 8.0).talk_s == pytest.approx(1.0, abs=0.03)

    def test_whoever_hears_nothing_to_the_end_never_did(self) -> None:
        assert listen(heard((0, 2.5, TALK)), None, 2.0, 8.0) == Silence(None, None)

    def test_what_begins_long_after_the_fault_is_none_of_its(self) -> None:
        assert not listen(heard((0, 6, TALK)), None, 2.0, 8.0).felt


def row(number: str, **changes: Any) -> dict[str, Any]:
    return {
        "dst": number,
        "state": "ended",
        "disposition": "ANSWERED",
        "turns": 2,
        "reason": "caller_hangup",
        **changes,
    }


class TestTheJudge:
    CALLS = (Call("1", answered=True, turns=2, hung_up=True), Call("2", answered=True, turns=2), Call("3"))

    def test_is_content_with_one_record_each(self) -> None:
        assert compare(self.CALLS, [row("1"), row("2")]) == []
        assert compare(self.CALLS, [row("1"), row("2"), row("3", disposition="NO ANSWER", turns=0)]) == []

    @pytest.mark.parametrize(
        ("records", "told"),
        [
            ([row("1")], "2: 0 records"),
            ([row("1"), row("2"), row("2")], "2: 2 records"),
            ([row("1"), row("2", state="live")], "2: is told as live"),
            ([row("1"), row("2", disposition="NO ANSWER")], "2: is told as NO ANSWER"),
            ([row("1"), row("2", turns=1)], "2: 1 turns of 2 are told"),
            (
                [row("1", reason="internal_error"), row("2")],
                "1: was hung up by its caller, and is told as internal_error",
            ),
            ([row("1"), row("2"), row("9")], "9: a record of a call that nobody made"),
        ],
    )
    def test_misses_what_is_missing(self, records: list[dict[str, Any]], told: str) -> None:
        assert compare(self.CALLS, records) == [told]

    def test_calls_that_died_with_asterisk_must_say_so(self) -> None:
        died = [Call("1", answered=True, turns=2, talk_s=0.3, under="asterisk")]
        assert compare(died, [row("1", reason="switch_lost")]) == []
        assert compare(died, [row("1")]) == ["1: ended with Asterisk, and is told as caller_hangup (under asterisk)"]

    def test_a_lost_call_or_record_fails_the_sitting_and_asterisks_death_does_not(self) -> None:
        well = Sitting("now", "here", "", 2, [Struck(BY_NAME["drop"], 2), Struck(BY_NAME["asterisk"], 2, lost=2)])
        assert not report.lost(well)
        assert report.lost(replace(well, struck=[Struck(BY_NAME["drop"], 2, lost=1)]))
        assert report.lost(replace(well, wrong_records=["1: 0 records"]))

    def test_a_promise_that_was_not_kept_is_told(self) -> None:
        slow = Sitting("now", "here", "", 2, [Struck(BY_NAME["worker-kill"], 2, [Silence(0.9, 2.7)])])
        assert report.late(slow) == ["worker-kill: agent 2.70 s, promised were 2.5"]
        assert "Promises not kept: worker-kill" in report.markdown(slow)

    def test_what_stays_behind_is_told(self) -> None:
        before = Level(0, 0, 5, {"worker 1": 20}, {}, {"worker 1": 12})
        after = Level(1, 1, 6, {"worker 1": 30}, {}, {"worker 1": 40})
        assert leaks(before, before) == []
        assert len(leaks(before, after)) == 5


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_three_calls_survive_a_model_that_drops_and_a_worker_that_is_killed() -> None:
    found = await sit([BY_NAME["drop"], BY_NAME["worker-kill"]], callers=3, rounds=1, seed=1, command="", say=print)
    assert not report.lost(found), report.markdown(found)
    assert found.leaks == []
    assert sorted(one.fault.name for one in found.struck) == ["drop", "worker-kill"]
    assert len(found.calls) == 4 + 3 + 2  # a warm-up, the callers, a newcomer for each fault
    assert all(call.answered and call.talk_s for call in found.calls)
    assert sum(call.turns for call in found.calls) >= 6  # everybody was answered after each fault
