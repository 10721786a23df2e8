"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The first tables."""
    op.create_table(
        "callbacks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("trunk", sa.String(), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("last_disposition", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callbacks")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_callbacks_idempotency_key")),
    )
    op.create_index(op.f("ix_callbacks_state_next_at"), "callbacks", ["state", "next_at"], unique=False)
    op.create_table(
        "calls",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("uniqueid", sa.String(), nullable=False),
        sa.Column("linkedid", sa.String(), nullable=False),
        sa.Column("src", sa.String(), nullable=False),
        sa.Column("dst", sa.String(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.Column("billsec", sa.Double(), nullable=True),
        sa.Column("disposition", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("trunk", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("codec", sa.String(), nullable=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("cause", sa.Integer(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=False),
        sa.Column("spoken", sa.Integer(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("barge_ins", sa.Integer(), nullable=False),
        sa.Column("false_barge_ins", sa.Integer(), nullable=False),
        sa.Column("tools", sa.Integer(), nullable=False),
        sa.Column("tool_errors", sa.Integer(), nullable=False),
        sa.Column("transfers", sa.Integer(), nullable=False),
        sa.Column("recorded", sa.Boolean(), nullable=False),
        sa.Column("setup_ms", sa.Double(), nullable=True),
        sa.Column("first_audio_ms", sa.Double(), nullable=True),
        sa.Column("latency_avg_ms", sa.Double(), nullable=True),
        sa.Column("latency_max_ms", sa.Double(), nullable=True),
        sa.Column("mos", sa.Double(), nullable=True),
        sa.Column("realtime_model", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("connect_ms", sa.Double(), nullable=True),
        sa.Column("counters", sa.JSON(), nullable=False),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index(op.f("ix_calls_dst"), "calls", ["dst"], unique=False)
    op.create_index(op.f("ix_calls_src"), "calls", ["src"], unique=False)
    op.create_index(op.f("ix_calls_start_id"), "calls", ["start", "id"], unique=False)
    op.create_index(op.f("ix_calls_state"), "calls", ["state"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("mailbox", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index(op.f("ix_messages_mailbox_id"), "messages", ["mailbox", "id"], unique=False)
    op.create_table(
        "sources",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_sources")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_call_id"), "webhook_deliveries", ["call_id"], unique=False)
    op.create_index(
        op.f("ix_webhook_deliveries_state_next_at"), "webhook_deliveries", ["state", "next_at"], unique=False
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_events_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_call_id_id"), "events", ["call_id", "id"], unique=False)
    op.create_table(
        "legs",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("leg", sa.String(), nullable=False),
        sa.Column("to", sa.String(), nullable=False),
        sa.Column("trunk", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answered", sa.Boolean(), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("cause", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_legs_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "leg", name=op.f("pk_legs")),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pauses", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("lost_ms", sa.Integer(), nullable=False),
        sa.Column("cut", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_recordings_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    op.create_index(op.f("ix_recordings_call_id"), "recordings", ["call_id"], unique=False)
    op.create_table(
        "tool_calls",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("returned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=True),
        sa.Column("bytes", sa.Integer(), nullable=True),
        sa.Column("arguments", sa.String(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_tool_calls_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "number", name=op.f("pk_tool_calls")),
    )
    op.create_table(
        "transfers",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("how", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_transfers_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "number", name=op.f("pk_transfers")),
    )
    op.create_table(
        "turns",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("detection_ms", sa.Double(), nullable=True),
        sa.Column("model_ms", sa.Double(), nullable=True),
        sa.Column("network_ms", sa.Double(), nullable=True),
        sa.Column("own_ms", sa.Double(), nullable=True),
        sa.Column("cut_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("played_ms", sa.Integer(), nullable=True),
        sa.Column("dropped_ms", sa.Integer(), nullable=True),
        sa.Column("stop_ms", sa.Double(), nullable=True),
        sa.Column("cut_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_turns_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "number", name=op.f("pk_turns")),
    )
    op.create_index(op.f("ix_turns_call_id_item_id"), "turns", ["call_id", "item_id"], unique=False)
    op.create_table(
        "utterances",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("cut", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_utterances_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "item_id", name=op.f("pk_utterances")),
    )


def downgrade() -> None:
    """And back."""
    op.drop_table("utterances")
    op.drop_index(op.f("ix_turns_call_id_item_id"), table_name="turns")
    op.drop_table("turns")
    op.drop_table("transfers")
    op.drop_table("tool_calls")
    op.drop_index(op.f("ix_recordings_call_id"), table_name="recordings")
    op.drop_table("recordings")
    op.drop_table("legs")
    op.drop_index(op.f("ix_events_call_id_id"), table_name="events")
    op.drop_index(op.f("ix_events_at"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_webhook_deliveries_state_next_at"), table_name="webhook_deliveries")
    op.drop_index(op.f("ix_webhook_deliveries_call_id"), table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_table("sources")
    op.drop_index(op.f("ix_messages_mailbox_id"), table_name="messages")
    op.drop_table("messages")
    op.drop_index(op.f("ix_calls_state"), table_name="calls")
    op.drop_index(op.f("ix_calls_start_id"), table_name="calls")
    op.drop_index(op.f("ix_calls_src"), table_name="calls")
    op.drop_index(op.f("ix_calls_dst"), table_name="calls")
    op.drop_table("calls")
    op.drop_index(op.f("ix_callbacks_state_next_at"), table_name="callbacks")
    op.drop_table("callbacks")
