"""The tables. Calls in the words of Asterisk's CDR and then ours; everything else hangs on a call. No I/O.

Times are Unix seconds in Python, timestamps with time zone in PostgreSQL and UTC text in SQLite, so that both read
well by hand. Migrations make them (`migrations/`); a test compares.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, Integer, MetaData, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

_Big = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by themselves only where the type is its own INTEGER."""


class Moment(TypeDecorator[float]):
    """Unix seconds here, a timestamp there, to the microsecond."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> dt.datetime | None:
        """To the database."""
        del dialect
        return None if value is None else dt.datetime.fromtimestamp(value, dt.UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """From it; SQLite has no zone to give."""
        del dialect
        if value is None:
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return float(aware.timestamp())


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """What all tables share: constraints have names, so that a migration can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON}


At = Annotated[float, mapped_column(Moment)]
OfCall = Annotated[str, mapped_column(ForeignKey("calls.id", ondelete="CASCADE"))]


def _maybe_moment() -> Any:
    return mapped_column(Moment, default=None)


class Call(Base, kw_only=True):
    """One call, begun or ended. The first lines are Asterisk's CDR, the rest is ours."""

    __tablename__ = "calls"
    __table_args__ = (
        Index(None, "start", "id"),
        Index(None, "src"),
        Index(None, "dst"),
        Index(None, "state"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    uniqueid: Mapped[str]
    linkedid: Mapped[str]
    src: Mapped[str] = mapped_column(default="")
    dst: Mapped[str] = mapped_column(default="")
    start: Mapped[At]
    answer: Mapped[float | None] = _maybe_moment()
    end: Mapped[float | None] = _maybe_moment()
    duration: Mapped[float | None] = mapped_column(default=None)
    """Seconds from start to end; None while it lasts."""
    billsec: Mapped[float | None] = mapped_column(default=None)
    """Seconds from answer to end."""
    disposition: Mapped[str] = mapped_column(default="")
    """ANSWERED, NO ANSWER, BUSY, FAILED or CONGESTION, as Asterisk has them."""

    state: Mapped[str] = mapped_column(default="live")
    """live, ended, or lost: its worker died and nobody told the end."""
    direction: Mapped[str] = mapped_column(default="in")
    trunk: Mapped[str] = mapped_column(default="")
    route: Mapped[str] = mapped_column(default="")
    destination: Mapped[str] = mapped_column(default="")
    """Where the route led first."""
    agent: Mapped[str] = mapped_column(default="")
    """Who spoke with the caller last."""
    step: Mapped[str] = mapped_column(default="")
    """Where the caller was last."""
    codec: Mapped[str] = mapped_column(default="")
    worker: Mapped[int] = mapped_column(default=0)
    run: Mapped[str] = mapped_column(default="")
    """Which run of a worker's process told of it last."""
    last_at: Mapped[float | None] = _maybe_moment()
    """Of its last event."""
    result: Mapped[str] = mapped_column(default="")
    reason: Mapped[str] = mapped_column(default="")
    fault: Mapped[str] = mapped_column(default="")
    detail: Mapped[str] = mapped_column(default="")
    cause: Mapped[int | None] = mapped_column(default=None)
    """Q.850's, that we released the caller with."""
    answered_by: Mapped[str] = mapped_column(default="")
    """Of a call out: human, machine, fax ..."""
    spoken: Mapped[int] = mapped_column(default=0)
    """Answers and greetings of the agent."""
    turns: Mapped[int] = mapped_column(default=0)
    """Of them, those that answered something the caller had said."""
    barge_ins: Mapped[int] = mapped_column(default=0)
    false_barge_ins: Mapped[int] = mapped_column(default=0)
    tools: Mapped[int] = mapped_column(default=0)
    tool_errors: Mapped[int] = mapped_column(default=0)
    transfers: Mapped[int] = mapped_column(default=0)
    recorded: Mapped[bool] = mapped_column(default=False)
    setup_ms: Mapped[float | None] = mapped_column(default=None)
    first_audio_ms: Mapped[float | None] = mapped_column(default=None)
    """From the start to the first word of the agent."""
    latency_avg_ms: Mapped[float | None] = mapped_column(default=None)
    latency_max_ms: Mapped[float | None] = mapped_column(default=None)
    mos: Mapped[float | None] = mapped_column(default=None)
    """The worst of the directions that are known."""
    realtime_model: Mapped[str] = mapped_column(default="")
    conversation_id: Mapped[str] = mapped_column(default="")
    connect_ms: Mapped[float | None] = mapped_column(default=None)
    counters: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    quality: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    """By direction: model.LegQuality."""


class Turn(Base, kw_only=True):
    """The agent began to speak; when the caller broke in, the second half says how that went."""

    __tablename__ = "turns"
    __table_args__ = (Index(None, "call_id", "item_id"),)

    call_id: Mapped[OfCall] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_id: Mapped[str]
    at: Mapped[At]
    latency_ms: Mapped[float | None] = mapped_column(default=None)
    detection_ms: Mapped[float | None] = mapped_column(default=None)
    model_ms: Mapped[float | None] = mapped_column(default=None)
    network_ms: Mapped[float | None] = mapped_column(default=None)
    own_ms: Mapped[float | None] = mapped_column(default=None)
    cut_at: Mapped[float | None] = _maybe_moment()
    played_ms: Mapped[int | None] = mapped_column(default=None)
    dropped_ms: Mapped[int | None] = mapped_column(default=None)
    stop_ms: Mapped[float | None] = mapped_column(default=None)
    cut_by: Mapped[str] = mapped_column(default="")
    """Who was first to be sure: model or speech."""


class Utterance(Base, kw_only=True):
    """What one side said, word for word as far as the model understood it."""

    __tablename__ = "utterances"

    call_id: Mapped[OfCall] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[At]
    role: Mapped[str]
    text: Mapped[str]
    cut: Mapped[bool] = mapped_column(default=False)


class ToolCall(Base, kw_only=True):
    """One use of a tool."""

    __tablename__ = "tool_calls"

    call_id: Mapped[OfCall] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    at: Mapped[At]
    returned_at: Mapped[float | None] = _maybe_moment()
    ok: Mapped[bool | None] = mapped_column(default=None)
    duration_ms: Mapped[float | None] = mapped_column(default=None)
    bytes: Mapped[int | None] = mapped_column(default=None)
    arguments: Mapped[str] = mapped_column(default="")
    result: Mapped[str] = mapped_column(default="")


class Transfer(Base, kw_only=True):
    """The agent handed the caller over, or tried to."""

    __tablename__ = "transfers"

    call_id: Mapped[OfCall] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    target: Mapped[str]
    how: Mapped[str]
    at: Mapped[At]
    ended_at: Mapped[float | None] = _maybe_moment()
    result: Mapped[str] = mapped_column(default="")
    summary: Mapped[str] = mapped_column(default="")
    """Who calls and why, in the agent's words."""


class Leg(Base, kw_only=True):
    """A leg that we dialled."""

    __tablename__ = "legs"

    call_id: Mapped[OfCall] = mapped_column(primary_key=True)
    leg: Mapped[str] = mapped_column(primary_key=True)
    to: Mapped[str] = mapped_column(default="")
    trunk: Mapped[str] = mapped_column(default="")
    purpose: Mapped[str] = mapped_column(default="")
    at: Mapped[At]
    ended_at: Mapped[float | None] = _maybe_moment()
    answered: Mapped[bool | None] = mapped_column(default=None)
    result: Mapped[str] = mapped_column(default="")
    cause: Mapped[int | None] = mapped_column(default=None)
    seconds: Mapped[float | None] = mapped_column(default=None)


class Recording(Base, kw_only=True):
    """A recording of a call, or of a part of it."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(primary_key=True)
    call_id: Mapped[OfCall] = mapped_column(index=True)
    at: Mapped[At]
    ended_at: Mapped[float | None] = _maybe_moment()
    pauses: Mapped[int] = mapped_column(default=0)
    path: Mapped[str] = mapped_column(default="")
    format: Mapped[str] = mapped_column(default="")
    seconds: Mapped[float | None] = mapped_column(default=None)
    bytes: Mapped[int | None] = mapped_column(_Big, default=None)
    sha256: Mapped[str] = mapped_column(default="")
    lost_ms: Mapped[int] = mapped_column(default=0)
    cut: Mapped[bool] = mapped_column(default=False)
    """Its worker died: up to a second is missing at the end."""


class Event(Base, kw_only=True):
    """Every event as it came; the timeline is drawn from these."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "call_id", "id"), Index(None, "at"))

    id: Mapped[int] = mapped_column(_Big, primary_key=True, autoincrement=True, init=False)
    call_id: Mapped[OfCall]
    at: Mapped[At]
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class Source(Base, kw_only=True):
    """How far each run of a worker's process has been written: what comes again is told by it."""

    __tablename__ = "sources"

    run: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(_Big)
    at: Mapped[At]
    node: Mapped[str] = mapped_column(default="")
    """Whose worker: nodes may share a database."""


class Callback(Base, kw_only=True):
    """A caller wants to be called back."""

    __tablename__ = "callbacks"
    __table_args__ = (Index(None, "state", "next_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    agent: Mapped[str]
    trunk: Mapped[str]
    variables: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    reason: Mapped[str] = mapped_column(default="")
    call_id: Mapped[str] = mapped_column(default="")
    """Of the call that asked for it; empty: somebody asked by the API."""
    not_before: Mapped[At]
    not_after: Mapped[At]
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    next_at: Mapped[At]
    state: Mapped[str] = mapped_column(default="waiting")
    """waiting, dialling, done, failed, expired or cancelled."""
    node: Mapped[str] = mapped_column(default="")
    """Who dials it, or did."""
    last_disposition: Mapped[str] = mapped_column(default="")
    idempotency_key: Mapped[str | None] = mapped_column(default=None, unique=True)
    created_at: Mapped[At]


class Message(Base, kw_only=True):
    """What a caller left with an agent."""

    __tablename__ = "messages"
    __table_args__ = (Index(None, "mailbox", "id"),)

    id: Mapped[int] = mapped_column(_Big, primary_key=True, autoincrement=True, init=False)
    mailbox: Mapped[str]
    text: Mapped[str]
    number: Mapped[str]
    """Where the caller wants to be called back; empty: they did not say."""
    call_id: Mapped[str]
    at: Mapped[At]
    heard_at: Mapped[float | None] = _maybe_moment()


class Delivery(Base, kw_only=True):
    """One webhook to one receiver: what it says stays as it was first written, however often it is sent."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "state", "next_at"), Index(None, "call_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    webhook: Mapped[str]
    """Its name in the configuration."""
    type: Mapped[str]
    call_id: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[At]
    next_at: Mapped[At]
    attempts: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(default="pending")
    """pending, delivered, or dead: given up."""
    last_status: Mapped[int | None] = mapped_column(default=None)
    last_error: Mapped[str] = mapped_column(default="")
    delivered_at: Mapped[float | None] = _maybe_moment()
