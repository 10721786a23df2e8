"""Where to look further: latency by share, media, the model's side, Asterisk and the machine."""

from __future__ import annotations

from grafana.boards_noc import grown, of_each, quantile
from grafana.panels import Column, at_least, at_most, board, none, series_panel, stat_panel, table_panel

_SHARE = (
    "sum by (share) (rate(sipagent_turn_share_seconds_sum{@}[$__rate_interval]))"
    " / on() group_left() sum(rate(sipagent_turn_latency_seconds_count{@}[$__rate_interval]))"
)

_WORKER = "instance, worker"
"""Each node has a worker 1."""


def boards() -> dict[str, str]:
    """By uid."""
    return {
        "sipagent-latency": _latency(),
        "sipagent-media": _media(),
        "sipagent-model": _model(),
        "sipagent-switch": _switch(),
    }


def rate(name: str, by: str = "", more: str = "") -> str:
    """A counter of ours, a second."""
    return f"sum by ({by}) (rate(sipagent_{name}{{@{more}}}[$__rate_interval]))"


def _latency() -> str:
    return board(
        "sipagent-latency",
        "Latency",
        "Where the time between the caller's last sound and the agent's first goes, and for whom it is long.",
        {
            "Ear to ear": [
                series_panel(
                    "Of all turns", "Quantiles; the dots are calls.",
                    {f"p{q:g}": quantile(q / 100, "sipagent_turn_latency_seconds") for q in (50, 90, 95, 99)},
                    "s", at_most(1.5, 2.5), span=12, exemplars=True,
                ),
                series_panel(
                    "What a turn is made of",
                    "Mean seconds a turn. detection: the model's wait for the end of speech ([realtime.vad] silence_duration_ms)."
                    " model: its thinking. network: one round trip. own: us, from first audio in to first frame out.",
                    {"{{share}}": _SHARE}, "s", span=12, stacked=True,
                ),
            ],
            "By share, p95": [
                series_panel(
                    title, text,
                    {"p50": quantile(0.5, "sipagent_turn_share_seconds", more=f', share="{share}"'),
                     "p95": quantile(0.95, "sipagent_turn_share_seconds", more=f', share="{share}"')},
                    "s", at_most(*limits), span=6,
                )
                for share, title, text, limits in (
                    ("detection", "Detection", "Until the model believes that the caller has finished.", (0.7, 1.2)),
                    ("model", "Model", "Thinking, and the silence at the head of its audio.", (0.7, 1.5)),
                    ("network", "Network", "One round trip to the model.", (0.1, 0.25)),
                    ("own", "Us", "First audio in to first frame out.", (0.005, 0.025)),
                )
            ],
            "For whom": [
                series_panel(
                    f"p95 by {label}", "Ear to ear.",
                    {f"{{{{{label}}}}}": quantile(0.95, "sipagent_turn_latency_seconds", label)}, "s", at_most(1.5, 2.5),
                )
                for label in ("trunk", "agent", "model")
            ],
            "Beginning and interrupting": [
                series_panel(
                    "To the answer", "From the call's arrival, p50 and p95.",
                    {"{{direction}} p50": quantile(0.5, "sipagent_call_setup_seconds", "direction"),
                     "{{direction}} p95": quantile(0.95, "sipagent_call_setup_seconds", "direction")},
                    "s", at_most(2, 4),
                ),
                series_panel(
                    "To the agent's first word", "From the caller's coming to the agent, p95.",
                    {"{{agent}}": quantile(0.95, "sipagent_first_agent_audio_seconds", "agent")}, "s", at_most(2, 4),
                ),
                series_panel(
                    "Barge-in: until the agent is silent", "From the onset of the caller's speech, p95.",
                    {"{{confirmed_by}}": quantile(0.95, "sipagent_barge_in_stop_seconds", "confirmed_by")}, "s",
                    at_most(0.1, 0.2),
                ),
                series_panel(
                    "Interruptions", "A minute: speech, by who was first to be sure, and noises that were none.",
                    {"{{confirmed_by}}": "60 * " + rate("barge_ins_total", "confirmed_by"),
                     "false": "60 * " + rate("false_barge_ins_total")},
                    "cpm",
                ),
                series_panel(
                    "Pauses for noises", "Seconds a minute of agents that paused for nothing: raise above_noise_db there.",
                    {"{{agent}}": "60 * " + rate("false_barge_in_pause_seconds_total", "agent")}, "s",
                ),
                series_panel(
                    "Silent callers", "Steps of the ladder, a minute.",
                    {"step {{step}}": "60 * " + rate("no_input_steps_total", "step")}, "cpm",
                ),
            ],
        },
    )  # fmt: skip


def _media() -> str:
    lost = "sum by ({by}) (rate(sipagent_rtp_packets_lost_total{{@}}[$__rate_interval]))"
    expected = " / sum by ({by}) (rate(sipagent_rtp_packets_expected_total{{@}}[$__rate_interval]))"
    loss = lost + expected
    packets = {
        f"{fate} {{{{direction}}}}": rate(f"rtp_packets_{fate}_total", "direction")
        for fate in ("received", "late", "reordered", "duplicate")
    }
    return board(
        "sipagent-media",
        "Media quality",
        "How calls sound, told at their end: caller_to_switch and switch_to_caller are the caller's own leg, "
        "caller_to_model the whole way.",
        {
            "How it sounds": [
                series_panel(
                    "MOS, mean", "Below 3.6 callers complain.",
                    {"{{direction}}": "sum by (direction) (rate(sipagent_call_mos_sum{@}[$__rate_interval]))"
                                      " / sum by (direction) (rate(sipagent_call_mos_count{@}[$__rate_interval]))"},
                    "none", at_least(3.6, 4.0),
                ),
                series_panel(
                    "MOS, the worst tenth", "p10 by trunk.",
                    {"{{trunk}} {{direction}}": quantile(0.1, "sipagent_call_mos", "trunk, direction")}, "none",
                    at_least(3.6, 4.0),
                ),
                series_panel(
                    "Length of calls", "p50 and p95: calls that grow short are calls that people leave.",
                    {"{{direction}} p50": quantile(0.5, "sipagent_call_duration_seconds", "direction"),
                     "{{direction}} p95": quantile(0.95, "sipagent_call_duration_seconds", "direction")},
                    "s",
                ),
            ],
            "The line": [
                series_panel("Loss", "By direction.", {"{{direction}}": loss.format(by="direction")}, "percentunit", at_most(0.01, 0.03)),
                series_panel("Loss by trunk", "Of the caller's own leg and behind it.",
                             {"{{trunk}} {{direction}}": loss.format(by="trunk, direction")}, "percentunit", at_most(0.01, 0.03)),
                series_panel("Jitter", "p95.", {"{{direction}}": quantile(0.95, "sipagent_rtp_jitter_seconds", "direction")},
                             "s", at_most(0.02, 0.04)),
                series_panel("Round trip", "RTCP's, p95.", {"{{direction}}": quantile(0.95, "sipagent_rtp_round_trip_seconds", "direction")},
                             "s", at_most(0.15, 0.3)),
                series_panel("Packets", "A second.", packets, "pps", span=16),
            ],
            "What we did about it": [
                series_panel("Time filled", "Seconds a second of callers' time: concealed and muted was lost, paused is a phone's own silence.",
                             {"{{how}}": rate("rtp_filled_seconds_total", "how")}, "s"),
                series_panel("Datagrams that were no audio", "A second.", {"{{why}}": rate("rtp_packets_discarded_total", "why")}, "pps"),
                series_panel("Callers of whom nothing came", "Within five minutes, by what was done.",
                             {"{{action}}": grown("media_troubles_total{@}", "action", 300)}, "short", none()),
                series_panel("Frames no model heard", "20 ms each, a second; and agent's speech that found no room.",
                             {"uplink": "sum(rate(sipagent_uplink_dropped_frames_total{@}[$__rate_interval]))",
                              "overflow, ms": "1000 * sum(rate(sipagent_playout_overflow_seconds_total{@}[$__rate_interval]))"},
                             "short", at_most(1, 10)),
            ],
            "Recordings": [
                series_panel("Ended", "A minute: kept, cut (the worker died), lost (the disk took none).",
                             {"{{format}} {{result}}": "60 * " + rate("recordings_ended_total", "format, result")}, "cpm"),
                series_panel("Written", "Bytes a second, and seconds of audio a second.",
                             {"{{format}}": rate("recording_bytes_total", "format"),
                              "{{format}}, audio s": rate("recording_seconds_total", "format")}, "Bps"),
                series_panel("Holes", "Seconds a minute that never came, and what the recorder met.",
                             {"{{format}}": "60 * " + rate("recording_lost_seconds_total", "format"),
                              "{{what}}": "60 * " + rate("recorder_events_total", "what"),
                              "no room in worker {{worker}} of {{instance}}": "60 * " + rate("worker_recording_blocks_dropped_total", _WORKER)},
                             "short", at_most(1, 10)),
                series_panel("Pauses", "A minute, by who asked.", {"{{by}}": "60 * " + rate("recording_pauses_total", "by")}, "cpm", span=12),
                series_panel("Recorded now", "On and paused.", {"{{state}}": "sum by (state) (sipagent_recordings_active{@})"}, "short", span=12),
            ],
        },
    )  # fmt: skip


def _model() -> str:
    return board(
        "sipagent-model",
        "Model endpoint",
        "The provider's side: is it there, how quick, what does it cost.",
        {
            "Sessions": [
                stat_panel("Open", "Sessions now.", "sum(sipagent_realtime_sessions_open{@})", "short", span=3, empty="0"),
                stat_panel("Quota", "session_quota of all endpoints that have one.", "sum(sipagent_realtime_sessions_quota{@})", "short", span=3, empty="not set"),
                stat_panel("Waiting", "Callers in line for a session of the quota.", "sum(sipagent_realtime_waiting{@})", "short",
                           at_most(1, 5), span=3, empty="0"),
                stat_panel("Calls failed by the provider, 1 h", "Refused, unreachable, lost, silent.",
                           grown('calls_finished_total{@, fault="provider"}'), "short", none(0.5), span=4, decimals=0),
                stat_panel("Connect, p95", "Dialling to a session that is ready.", quantile(0.95, "sipagent_realtime_connect_seconds"),
                           "s", at_most(2, 4), span=3, decimals=2, empty="no sessions"),
                stat_panel("Cost, 24 h", "An estimate in the currency of price_per_minute.",
                           grown("realtime_cost_total{@}", window_s=86400), "none", span=4, decimals=2, empty="no price set"),
                stat_panel("Minutes, 24 h", "Of sessions: what is billed.",
                           grown("realtime_session_seconds_total{@}", window_s=86400) + " / 60", "none", span=4, decimals=1, empty="0"),
                series_panel("Waits", "A minute, by what came of them; and how long, p95.",
                             {"{{result}}": "60 * " + rate("realtime_session_wait_seconds_count", "result"),
                              "{{result}}, p95 s": quantile(0.95, "sipagent_realtime_session_wait_seconds", "result")}, "short", span=6),
                series_panel("Open sessions", "By model; those that stand by for the next callers; callers who took one, or found none.",
                             {"{{model}}": "sum by (model) (sipagent_realtime_sessions_open{@})",
                              "stand by": "sum(sipagent_standby_sessions{@})",
                              "taken a minute": "60 * " + rate("standby_sessions_taken_total"),
                              "missed a minute": "60 * " + rate("standby_sessions_missed_total")}, "short", span=6),
                series_panel("Taken of quotas", "Sessions that calls have, by endpoint that has a session_quota, and that quota.",
                             {"{{instance}} {{endpoint}}": "sipagent_realtime_sessions_taken{@}",
                              "{{instance}} {{endpoint}} gives": "sipagent_realtime_sessions_quota{@}"}, "short", span=6),
                series_panel("Connect", "p50 and p95 by model.",
                             {"{{model}} p50": quantile(0.5, "sipagent_realtime_connect_seconds", "model"),
                              "{{model}} p95": quantile(0.95, "sipagent_realtime_connect_seconds", "model")}, "s", at_most(2, 4), span=6),
            ],
            "What goes wrong": [
                series_panel("Calls lost to it", "Within five minutes, by reason.",
                             {"{{reason}}": grown('calls_ended_total{@, fault="provider"}', "reason", 300)}, "short", none()),
                series_panel("Sessions lost in a talk", "Within five minutes, by endpoint.",
                             {"{{endpoint}}": grown("realtime_sessions_lost_total{@}", "endpoint", 300)}, "short", none()),
                series_panel("Until the talk goes on", "p95 of the gap, by how: resumed, or told of the talk.",
                             {"{{how}}": quantile(0.95, "sipagent_realtime_gap_seconds", "how")}, "s", at_most(1, 2.5)),
                series_panel("Endpoints", "1: it takes connections, 0: it does not.",
                             {"{{instance}} {{endpoint}}": "min by (instance, endpoint) (sipagent_realtime_endpoint_up{@})"}, "short"),
                series_panel("Troubles", "That calls survived, a minute.",
                             {"{{what}}": "60 * " + rate("realtime_troubles_total", "what")}, "cpm"),
                series_panel("Not acknowledged", "Sessions whose settings were never confirmed, a minute.",
                             {"{{model}}": "60 * " + rate("realtime_sessions_unacknowledged_total", "model")}, "cpm"),
            ],
            "What is used": [
                series_panel("Session time", "Minutes a minute: sessions at once, as they are billed when they close.",
                             {"{{model}}": rate("realtime_session_seconds_total", "model")}, "short"),
                series_panel("Agents' speech", "Seconds a second.", {"{{model}}": rate("realtime_agent_audio_seconds_total", "model")}, "short"),
                series_panel("Cost an hour", "An estimate.", {"{{model}}": "3600 * " + rate("realtime_cost_total", "model")}, "none"),
            ],
        },
    )  # fmt: skip


def _switch() -> str:
    return board(
        "sipagent-switch",
        "Asterisk and the node",
        "The switch as it counts itself, our workers, and what Asterisk's answers take.",
        {
            "Asterisk": [
                stat_panel("Channels", "Of all kinds.", "sum(asterisk_channels_count{@})", "short", span=4),
                stat_panel("Bridges", "Two-party talks and conferences.", "sum(asterisk_bridges_count{@})", "short", span=4),
                stat_panel("Calls since the start", "As Asterisk counts them.", "sum(asterisk_calls_sum{@})", "short", span=4),
                stat_panel("Up for", "A restart ends every call.", "min(asterisk_core_uptime_seconds{@})", "s", at_least(300, 3600), span=4),
                stat_panel("Reachable", "Its /metrics answers.", 'min(up{@, job="asterisk"})', "bool_on_off", at_least(1, 1), span=4),
                stat_panel("Last reload", "Of its configuration.", "min(asterisk_core_last_reload_seconds{@})", "s", span=4),
                series_panel("Channels, calls, bridges", "Now.",
                             {"channels": "sum(asterisk_channels_count{@})", "calls": "sum(asterisk_calls_count{@})",
                              "bridges": "sum(asterisk_bridges_count{@})"}, "short"),
                series_panel("Channels by endpoint", "Trunks and phones.",
                             {"{{resource}}": "sum by (resource) (asterisk_endpoints_channels_count{@})"}, "short"),
                series_panel("Endpoints", "2 is online, 1 offline, 0 unknown.",
                             {"{{instance}} {{resource}}": "min by (instance, resource) (asterisk_endpoints_state{@})"}, "none"),
            ],
            "ARI": [
                series_panel("Requests", "How long Asterisk takes, p50 and p99.",
                             {"p50": quantile(0.5, "sipagent_ari_request_seconds"), "p99": quantile(0.99, "sipagent_ari_request_seconds")},
                             "s", at_most(0.1, 0.5)),
                series_panel("Requests a second", "By worker.",
                             {"{{instance}} worker {{worker}}": rate("ari_request_seconds_count", _WORKER)}, "reqps"),
                series_panel("What went wrong", "An hour, by worker.",
                             {"reconnects {{instance}} {{worker}}": "3600 * " + rate("ari_reconnects_total", _WORKER),
                              "timeouts {{instance}} {{worker}}": "3600 * " + rate("ari_timeouts_total", _WORKER),
                              "orphans {{instance}} {{worker}}": "3600 * " + rate("orphan_channels_total", _WORKER)}, "short", none()),
            ],
            "Workers": [
                table_panel("Workers", "As they report themselves, by node and number.",
                            [Column("there", of_each("min", "worker", "sipagent_worker_up{@}"), "bool_on_off", at_least(1, 1)),
                             Column("Asterisk", of_each("min", "worker", "sipagent_worker_asterisk_connected{@}"), "bool_on_off", at_least(1, 1)),
                             Column("takes calls", of_each("min", "worker", "sipagent_worker_accepting{@}"), "bool_on_off", at_least(1, 1)),
                             Column("calls", of_each("max", "worker", "sipagent_worker_calls{@}"), "short"),
                             Column("memory", of_each("max", "worker", "sipagent_worker_resident_memory_bytes{@}"), "bytes"),
                             Column("tasks", of_each("max", "worker", "sipagent_worker_tasks{@}"), "short"),
                             Column("restarts", of_each("max", "worker", "sipagent_worker_restarts_total{@}"), "short", none(0.5))],
                            ["worker"], height=7),
                series_panel("The 20 ms clock", "How late ticks come: p99 above 5 ms is heard.",
                             {"{{instance}} worker {{worker}} p99": quantile(0.99, "sipagent_pacing_lateness_seconds", _WORKER)}, "s", at_most(0.005, 0.02)),
                series_panel("Play-out moved", "Milliseconds a minute that could not be caught up.",
                             {"{{instance}} worker {{worker}}": "60000 * " + rate("pacing_shifted_seconds_total", _WORKER)}, "ms", none()),
                series_panel("Processor", "Of one core: a worker that runs and waits for more than 80 % takes no calls.",
                             {"{{instance}} worker {{worker}}": rate("worker_cpu_seconds_total", _WORKER),
                              "{{instance}} worker {{worker}} waits for a core": rate("worker_wait_seconds_total", _WORKER),
                              "{{instance}} control process": "rate(process_cpu_seconds_total{@}[$__rate_interval])"}, "percentunit", at_most(0.6, 0.8)),
                series_panel("Memory", "Resident.",
                             {"{{instance}} worker {{worker}}": "sum by (instance, worker) (sipagent_worker_resident_memory_bytes{@})",
                              "{{instance}} control process": "process_resident_memory_bytes{@}"}, "bytes"),
                series_panel("Lost", "An hour: events without room on their way to the control process, or of calls nobody knew; "
                             "lines of the log that nobody took in time.",
                             {"{{instance}} worker {{worker}}": "3600 * " + rate("worker_events_dropped_total", _WORKER),
                              "log of {{instance}} worker {{worker}}": "3600 * " + rate("worker_log_lines_dropped_total", _WORKER),
                              "log of the control process": "3600 * sum(rate(sipagent_log_lines_dropped_total{@}[$__rate_interval]))",
                              "of strangers": "3600 * sum(rate(sipagent_events_of_unknown_calls_total{@}[$__rate_interval]))"}, "short", none()),
                series_panel("Restarts", "Of workers, and of the process that runs tools; an hour.",
                             {"{{instance}} worker {{worker}}": "3600 * " + rate("worker_restarts_total", _WORKER),
                              "tools of {{instance}} worker {{worker}}": "3600 * " + rate("toolbox_restarts_total", _WORKER)}, "short", none()),
                series_panel("Calls taken over", "Their worker had died; an hour.",
                             {"calls": "3600 * sum(rate(sipagent_calls_adopted_total{@}[$__rate_interval]))"}, "short", none()),
            ],
            "Program": [
                table_panel("What runs", "Versions.", [Column("nodes", "count by (version, asterisk) (sipagent_build_info{@})", "short")],
                            ["version", "asterisk"], height=5, span=12),
                series_panel("Scrapes", "How long Prometheus waits for our figures and Asterisk's.",
                             {"{{job}}": 'max by (job) (scrape_duration_seconds{@, job=~"sipagent|asterisk"})'}, "s", at_most(0.25, 1), span=12),
                series_panel("Spans of traces", "A minute; failed and dropped ones are missing at the collector.",
                             {"{{result}}": "60 * " + rate("trace_spans_total", "result")}, "cpm", span=12),
                series_panel("Requests of the API that were not let in", "A minute, by status: the audit log says who came.",
                             {"{{status}}": "60 * " + rate("api_refused_total", "status"),
                              "no room: {{why}}": "60 * " + rate("api_connections_closed_total", "why")},
                             "cpm", span=12),
                series_panel("Connections of the API", "Open by the network; [control] connections is the most there may be.",
                             {"open": "sum(sipagent_api_connections{@})"}, "short", span=12),
            ],
        },
    )  # fmt: skip
