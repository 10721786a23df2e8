"""The instruments that events move: their names, units, buckets and what they mean. Nothing else.

Buckets are chosen where decisions are made: an answer at the caller's ear is good below 0.8 s and bad above 1.5 s, a
MOS below 3.6 is complained about, a barge-in that takes more than 0.2 s is heard as not listening.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from sipagent.model import Direction
from sipagent.observe import bounds
from sipagent.observe.catalogue import Catalogue
from sipagent.outcome import CallOutcome, Reason

_SETUP = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30)
_TURN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 5, 10)
_SHARE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 3)
_STOP = (0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_CONNECT = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_MOS = (1.5, 2, 2.5, 3, 3.3, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.5)
_JITTER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_RTT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_STAY = (1, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
_CALL = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOOL = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class Instruments:
    """All of them, in one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:  # noqa: PLR0915 - a table, however long
        count, measure = catalogue.counter, catalogue.histogram

        # --- calls
        self.offered = count("calls_offered_total", "Calls that came to us, or that we began.", "direction", "trunk")
        self.answered = count("calls_answered_total", "Calls that were answered.", "direction", "trunk")
        self.ended = count(
            "calls_ended_total",
            "Calls that are over: how they count, why, and whose fault it was. "
            "`reason` worker_lost: the worker died with them.",
            "direction", "trunk", "route", "agent", "result", "reason", "fault",
        )  # fmt: skip
        self.finished = count(
            "calls_finished_total",
            "The same calls by what they count as; every series is there from the start, at 0: what SLOs are made of.",
            "direction",
            "result",
            "fault",
        )
        self.setup = measure(
            "call_setup_seconds", "From the call's arrival here to its answer.", "direction", "trunk", buckets=_SETUP
        )
        self.first_audio = measure(
            "first_agent_audio_seconds",
            "From the caller's coming to an agent to the first voiced frame that they hear of it.",
            "direction", "trunk", "agent", buckets=_SETUP,
        )  # fmt: skip
        self.duration = measure("call_duration_seconds", "Length of calls.", "direction", "trunk", buckets=_CALL)
        self.no_input = count(
            "no_input_steps_total", "The caller was silent for the agent's patience: steps of the ladder.", "step"
        )

        # --- turns
        self.turn = measure(
            "turn_latency_seconds",
            "Ear to ear: from the caller's last voiced frame in to the agent's first voiced frame out.",
            "trunk", "agent", "model", buckets=_TURN,
        )  # fmt: skip
        self.share = measure(
            "turn_share_seconds",
            "What a turn's latency is made of: detection (of the end of speech), model, network, own (us).",
            "share", "model", buckets=_SHARE,
        )  # fmt: skip
        self.barge_ins = count(
            "barge_ins_total", "Callers who spoke over the agent; who was first to be sure.", "agent", "confirmed_by"
        )
        self.barge_in_stop = measure(
            "barge_in_stop_seconds",
            "From the onset of the caller's speech to the agent's last voiced frame.",
            "confirmed_by",
            buckets=_STOP,
        )
        self.false_barge_ins = count("false_barge_ins_total", "Noises that paused the agent and were none.", "agent")
        self.false_pause = count("false_barge_in_pause_seconds_total", "For how long they paused it.", "agent")

        # --- the model's side
        self.connect = measure(
            "realtime_connect_seconds",
            "Dialling the model to a session that is ready; its count is that of sessions.",
            "model", buckets=_CONNECT,
        )  # fmt: skip
        self.unacknowledged = count(
            "realtime_sessions_unacknowledged_total", "Sessions whose settings the server never confirmed.", "model"
        )
        self.sessions_lost = count(
            "realtime_sessions_lost_total", "Sessions that broke in the middle of a talk.", "endpoint"
        )
        self.recovered = measure(
            "realtime_gap_seconds",
            "From the loss of a session to the one that goes on: what the model was away for.",
            "how", "endpoint", buckets=_CONNECT,
        )  # fmt: skip
        self.adopted = count("calls_adopted_total", "Calls whose worker died, and that another one took over.")
        self.session_wait = measure(
            "realtime_session_wait_seconds",
            "How long callers waited for a session of the quota: granted, gave_up (then the fallback), or left.",
            "result", buckets=_STAY,
        )  # fmt: skip
        self.turned_away = count(
            "calls_turned_away_total",
            "Calls in for which a limit left no room: they went elsewhere, or heard that all lines are busy.",
            "limit",
        )
        self.troubles = count(
            "realtime_troubles_total", "What the model's side did wrong and the call survived.", "what"
        )
        self.session_s = count("realtime_session_seconds_total", "Time that the provider bills.", "model")
        self.agent_audio_s = count("realtime_agent_audio_seconds_total", "Speech of agents that came.", "model")
        self.cost = count(
            "realtime_cost_total",
            "An estimate: session time times `[realtime] price_per_minute`, in that currency; absent where it is 0.",
            "model",
        )

        # --- media
        self.packets = {
            fate: count(
                f"rtp_packets_{fate}_total",
                f"{text} Told when a call ends, as the listener saw it.",
                "direction",
                "trunk",
            )
            for fate, text in {
                "expected": "RTP packets with audio that were sent to a listener.",
                "received": "RTP packets that came.",
                "lost": "RTP packets that never came.",
                "late": "RTP packets that came after their place had been filled.",
                "reordered": "RTP packets that came out of order and were put in their place.",
                "duplicate": "RTP packets that came twice.",
            }.items()
        }
        self.jitter = measure(
            "rtp_jitter_seconds", "Interarrival jitter (RFC 3550) of a call.", "direction", "trunk", buckets=_JITTER
        )
        self.rtt = measure("rtp_round_trip_seconds", "RTCP round trip of a call.", "direction", "trunk", buckets=_RTT)
        self.mos = measure(
            "call_mos", "Mean opinion score of a call by the E-model (ITU-T G.107), 1 to 4.41.",
            "direction", "trunk", buckets=_MOS,
        )  # fmt: skip
        self.media_troubles = count(
            "media_troubles_total", "Callers of whom nothing came: what was done about it.", "action"
        )
        self.discarded = count("rtp_packets_discarded_total", "Datagrams from Asterisk that were no audio.", "why")
        self.filled = count("rtp_filled_seconds_total", "Caller's time that was filled: how, or why.", "how")
        self.uplink_dropped = count("uplink_dropped_frames_total", "20 ms frames of callers that no model heard.")
        self.overflow = count(
            "playout_overflow_seconds_total", "Agent's speech that the play-out queue could not hold."
        )

        # --- the caller's way
        self.steps = count("steps_entered_total", "Callers who came to a step of the flow.", "kind", "step")
        self.retries = count("steps_retried_total", "Callers who were asked again.", "kind", "step", "why")
        self.digits = count("digits_collected_total", "Keys taken unseen, and how they were.", "purpose", "result")
        self.queue_stay = measure(
            "queue_stay_seconds",
            "From the entry of a queue to its end: waiting, and the talk where somebody answered.",
            "queue", buckets=_STAY,
        )  # fmt: skip
        self.holds = count("holds_total", "Calls put on hold, by whom.", "by")
        self.hold_s = count("hold_seconds_total", "Time on hold.", "by")
        self.messages = count("messages_taken_total", "Messages that agents took.", "mailbox")
        self.callbacks = count("callbacks_requested_total", "Callers who want to be called back.", "agent")
        self.tool = measure(
            "tool_duration_seconds", "How long tools took; refused ones took no time.", "tool", "ok", buckets=_TOOL
        )
        self.supervised = count("supervisions_total", "Somebody of ours in a call: how, and whether.", "what", "ok")

        # --- calls out
        self.transfers = count("transfers_total", "Callers handed over by agents.", "target", "how", "result")
        self.legs_dialled = count("legs_dialled_total", "Legs that began to ring.", "trunk", "purpose")
        self.legs_ended = count(
            "legs_ended_total", "Legs that are over, and the class of their Q.850 cause.",
            "trunk", "purpose", "result", "cause_class",
        )  # fmt: skip
        self.leg_talk = count("leg_talk_seconds_total", "Talked over legs out.", "trunk", "purpose")
        self.refused = count("dials_refused_total", "Calls that were not let out.", "asked_by", "why")
        self.dispositions = count("outbound_calls_total", "What calls out came to.", "trunk", "agent", "disposition")
        self.classified = count(
            "classified_total", "Who answered a call out, and who said so.", "disposition", "said_by"
        )

        # --- recordings
        self.recordings = count(
            "recordings_ended_total", "Recordings that are over: kept, cut or lost.", "format", "result"
        )
        self.recording_bytes = count("recording_bytes_total", "Written.", "format")
        self.recording_s = count("recording_seconds_total", "Recorded.", "format")
        self.recording_lost_s = count(
            "recording_lost_seconds_total", "Silence in them where audio never came.", "format"
        )
        self.pauses = count("recording_pauses_total", "Nothing was written for a while: who asked for it.", "by")
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A counter that first appears at 1 has not increased, says Prometheus: what alerts look at is there before."""
        for direction in Direction:
            for result, fault in dict.fromkeys((CallOutcome(r).result, CallOutcome(r).fault) for r in Reason):
                self.finished.labels(direction, result, fault)
        for what in (*bounds.TROUBLES, bounds.OTHER):
            self.troubles.labels(what)
        for asked_by in ("agent", "transfer", "flow", "outbound"):
            for why in ("denied", "not_allowed", "premium", "cap"):
                self.refused.labels(asked_by, why)
        for limit in (*bounds.LIMITS, bounds.OTHER):
            self.turned_away.labels(limit)
        for came_of_it in (*bounds.WAITS, bounds.OTHER):
            self.session_wait.labels(came_of_it)
        self.recordings.labels(bounds.NONE, "lost")

    def begin_endpoints(self, names: Iterable[str]) -> None:
        """So with the calls in over each trunk, and of our phones."""
        for name in names:
            for counter in (self.offered, self.answered):
                counter.labels(Direction.IN, name)


def mark(instrument: Histogram | Counter, amount: float, call_id: str) -> None:
    """Observe or add, the call as its exemplar; OpenMetrics has room for 128 characters of it."""
    exemplar = {"call_id": call_id} if len(call_id) <= 100 else None
    if isinstance(instrument, Histogram):
        instrument.observe(amount, exemplar)
    else:
        instrument.inc(amount, exemplar)
