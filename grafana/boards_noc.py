"""What a NOC looks at: is anything wrong now, which calls, whose fault."""

from __future__ import annotations

from grafana.panels import (
    CALL,
    RUNBOOKS,
    Column,
    at_least,
    at_most,
    board,
    call_variables,
    html_panel,
    none,
    series_panel,
    stat_panel,
    table_panel,
)

_FAILED = 'sipagent_calls_finished_total{@, result="failure", fault!="caller"}'
_LOOK_BACK_S = 600
"""Scrapes may fail for so long. Not longer: what a node counted before its last restart is not subtracted."""


def quantile(q: float, name: str, by: str = "", more: str = "") -> str:
    """Of a histogram of ours over the last minutes; `by` labels beside le, `more` matchers."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({name}_bucket{{@{more}}}[$__rate_interval])))"


def grown(metric: str, by: str = "", window_s: int = 3600) -> str:
    """How much a counter of the control process has grown, to the one: also one that began within the window, above 0.

    `increase` takes a new series' first sample for where it began, so a burst of failures between two scrapes would be
    none; and it extrapolates, which is odd where calls are counted. What is subtracted, in this order: nothing, where
    the node was started within the window; what the series was before the window, some scrapes of which may have
    failed; nothing, where the node was seen then and the series was not: it began at 0 since; and where Prometheus
    knows nothing of that time, what it saw first.
    """
    metric = f"sipagent_{metric}"
    before = f"[{min(window_s, _LOOK_BACK_S)}s] offset {window_s}s"
    young = f"time() - process_start_time_seconds{{@}} < {window_s}"
    return (
        f"sum by ({by}) (({metric} and on (instance) ({young}))"
        f" or ({metric} - last_over_time({metric}{before}) >= 0)"
        f" or ({metric} and on (instance) last_over_time(sipagent_node_ready{{@}}{before}))"
        f" or ({metric} - min_over_time({metric}[{window_s}s])))"
    )


def of_each(how: str, label: str, metric: str) -> str:
    """For a table, whose rows are joined on one label: that of the node stands in it, too ("node-1 office").

    Two nodes have a worker 1 and a trunk of the same name each, and neither may hide the other.
    """
    return f'{how} by ({label}) (label_join({metric}, "{label}", " ", "instance", "{label}"))'


def boards() -> dict[str, str]:
    """By uid."""
    return {
        "sipagent-noc": _overview(),
        "sipagent-live": _live(),
        "sipagent-call": _call(),
        "sipagent-outbound": _outbound(),
    }


def _overview() -> str:
    return board(
        "sipagent-noc",
        "NOC overview",
        "One screen, from across the room: green is well, red has a runbook.",
        {
            "Now": [
                stat_panel(
                    "Node", "Every worker is there, has its Asterisk and takes calls.",
                    "min(sipagent_node_ready{@})", "bool_on_off", at_least(1, 1), more="sipagent-switch", span=3,
                ),
                stat_panel("Active calls", "Calls now.", "sum(sipagent_calls_active{@})", "short", more="sipagent-live", span=3),
                stat_panel(
                    # A quarter of an hour: on a quiet line a minute has a call that came, or its answer, and seldom both.
                    "Answered", "Of the calls that came in within 15 minutes, those that were answered.",
                    'clamp_max(sum(increase(sipagent_calls_answered_total{@, direction="in"}[15m]))'
                    ' / (sum(increase(sipagent_calls_offered_total{@, direction="in"}[15m])) > 0), 1)',
                    "percentunit", at_least(0.95, 0.99), span=3, decimals=1, empty="no calls",
                ),
                stat_panel(
                    "Ear to ear, p50", "Half of the answers came sooner: the caller's last sound to the agent's first.",
                    "max(instance:sipagent_turn_latency_seconds:p50_5m{@})", "s", at_most(1.0, 1.5), more="sipagent-latency", span=3, decimals=2,
                    empty="no turns",
                ),
                stat_panel(
                    "Ear to ear, p95", "19 of 20 answers came sooner.",
                    "max(instance:sipagent_turn_latency_seconds:p95_5m{@})", "s", at_most(1.5, 2.5), more="sipagent-latency", span=3, decimals=2,
                    empty="no turns",
                ),
                stat_panel(
                    "MOS", "Mean of the calls that ended within 30 minutes, of the trunk and the direction that sound worst; 4.4 is the best of G.711.",
                    "min(instance_trunk_direction:sipagent_call_mos:avg_30m{@})", "none", at_least(3.6, 4.0), more="sipagent-media", span=3,
                    decimals=2, empty="few calls",
                ),
                stat_panel(
                    "Failed calls", "Ours, the model's or Asterisk's fault, of all that ended within 15 minutes.",
                    f"sum(increase({_FAILED}[15m])) / (sum(increase(sipagent_calls_finished_total{{@}}[15m])) > 0)",
                    "percentunit", at_most(0.001, 0.01), span=3, decimals=2, empty="no calls",
                ),
                stat_panel(
                    "Sessions of quota", "Sessions that calls have now, of those that an endpoint gives (its session_quota): where they are scarcest.",
                    "max(sipagent_realtime_sessions_taken{@} / on (instance, endpoint) sipagent_realtime_sessions_quota{@})",
                    "percentunit", at_most(0.7, 0.9), more="sipagent-model", span=3, empty="no quota set",
                ),
            ],
            "Calls": [
                series_panel(
                    "Calls by state", "Ringing and answered, by trunk.",
                    {"{{trunk}} {{direction}} {{state}}": "sum by (trunk, direction, state) (sipagent_calls_active{@})"},
                    "short", stacked=True,
                ),
                series_panel(
                    "Ends", "How calls end, a minute; whose fault the bad ones were.",
                    {"{{result}} {{fault}}": "60 * sum by (result, fault) (rate(sipagent_calls_finished_total{@}[$__rate_interval]))"},
                    "cpm",
                ),
                series_panel(
                    "Ear to ear", "Of all turns; the dots are calls, click one for its id.",
                    {
                        "p50": quantile(0.5, "sipagent_turn_latency_seconds"),
                        "p95": quantile(0.95, "sipagent_turn_latency_seconds"),
                        "p99": quantile(0.99, "sipagent_turn_latency_seconds"),
                    },
                    "s", at_most(1.5, 2.5), exemplars=True,
                ),
            ],
            "What fails": [
                table_panel(
                    "Alerts", "Firing, and about to; a click leads to the runbook.",
                    [Column("now", "count by (alertname, severity, alertstate) (ALERTS{@})", "short")],
                    ["alertname", "severity", "alertstate"], span=6, height=8,
                    link=f"{RUNBOOKS}/${{__value.text}}.md",
                ),
                table_panel(
                    "Failed calls by reason", "Within the last hour.",
                    [Column("calls", grown('calls_ended_total{@, result!="success"}', "reason, fault, trunk"),
                            "short", none(0.5))],
                    ["reason", "fault", "trunk"], span=6, height=8, sort="calls",
                ),
                table_panel(
                    "Callers turned away", "Within the last hour, by the limit that left no room: they went to `full`, or heard that all lines are busy.",
                    [Column("calls", grown("calls_turned_away_total{@}", "limit"), "short", none(0.5))],
                    ["limit"], span=4, height=8, sort="calls",
                ),
                table_panel(
                    "Trunks and endpoints", "As Asterisk sees them: 2 is online, 1 offline, 0 unknown.",
                    [Column("state", of_each("min", "resource", "asterisk_endpoints_state{@}"), "none", at_least(1, 2)),
                     Column("channels", of_each("max", "resource", "asterisk_endpoints_channels_count{@}"), "short")],
                    ["resource"], span=4, height=8,
                ),
                table_panel(
                    "Legs out by trunk and result", "Within the last hour.",
                    [Column("legs", grown("legs_ended_total{@}", "trunk, result"), "short")],
                    ["trunk", "result"], span=4, height=8, sort="legs",
                ),
            ],
            "Service levels": [
                stat_panel(
                    "Turns within 1.5 s, 1 h", "The objective is 95 %.",
                    "1 - max(instance:sipagent_turns_slow:ratio_1h{@})", "percentunit", at_least(0.95, 0.97), span=6,
                    decimals=2, empty="no turns",
                ),
                stat_panel(
                    "Latency budget burnt, 1 h", "1: as fast as the objective allows. 14.4: a month's in two days.",
                    "max(instance:sipagent_turns_slow:ratio_1h{@}) / 0.05", "none", at_most(1, 6), span=6, decimals=1,
                    empty="no turns",
                ),
                stat_panel(
                    "Calls served, 1 h", "The objective is 99.5 %.",
                    "1 - max(instance:sipagent_calls_failed:ratio_1h{@})", "percentunit", at_least(0.995, 0.998), span=6,
                    decimals=2, empty="no calls",
                ),
                stat_panel(
                    "Failure budget burnt, 1 h", "As beside.",
                    "max(instance:sipagent_calls_failed:ratio_1h{@}) / 0.005", "none", at_most(1, 6), span=6, decimals=1,
                    empty="no calls",
                ),
            ],
        },
    )  # fmt: skip


def _live() -> str:
    return board(
        "sipagent-live",
        "Live calls",
        "Every call that is up, the slowest answer first; the id is the one of the log and of the API.",
        {
            "Calls that are up": [
                table_panel(
                    "Live calls", "At most 500, those with the slowest last answer; sort by any column.",
                    [
                        Column("last answer", "max by (call_id) (sipagent_live_call_turn_latency_seconds{@})", "s", at_most(1.5, 2.5)),
                        Column("up for", "max by (call_id, trunk, agent, state, direction) (sipagent_live_call_seconds{@})", "s"),
                        Column("answers", "max by (call_id) (sipagent_live_call_turns{@})", "short"),
                    ],
                    ["call_id", "trunk", "agent", "state", "direction"], height=18, sort="last answer",
                    link="/d/sipagent-call?var-call=${__value.text}", link_title="This call",
                ),
            ],
            "Of them": [
                stat_panel("Not shown", "More than 500 are up.", "sum(sipagent_live_calls_hidden{@})", "short", none(), span=4),
                stat_panel("Recorded now", "On or paused.", "sum(sipagent_recordings_active{@})", "short", span=4),
                series_panel(
                    "Calls by worker", "As each counts them.", {"{{instance}} worker {{worker}}": "sum by (instance, worker) (sipagent_worker_calls{@})"},
                    "short", span=8,
                ),
                series_panel(
                    "The longest", "A call that nobody ends is one of a machine, or of a fraud.",
                    {"longest": "max(sipagent_live_call_seconds{@})"}, "s", at_most(3600, 7200), span=8,
                ),
            ],
        },
        hours=1,
    )  # fmt: skip


RECORD = """\
<img src="${api}/v1/calls/${call}/report.svg" alt="Nothing is in the records yet, or the API asks for a login." width="100%">
<p><a href="${api}/v1/calls/${call}/report.txt">As text</a> ·
<a href="${api}/v1/calls/${call}">all of the record</a></p>
"""


def _call() -> str:
    live = f"{{@, {CALL}}}"
    return board(
        "sipagent-call",
        "One call",
        "What one call was like: click it in the list of live calls, or a dot beside a latency; or give its id.",
        {
            "While it is up": [
                table_panel(
                    "Whose it is", "By whom, with which agent.",
                    [Column("up for", f"max by (call_id, trunk, agent, state, direction) (sipagent_live_call_seconds{live})", "s"),
                     Column("last answer", f"max by (call_id) (sipagent_live_call_turn_latency_seconds{live})", "s", at_most(1.5, 2.5)),
                     Column("answers", f"max by (call_id) (sipagent_live_call_turns{live})", "short")],
                    ["call_id", "trunk", "agent", "state", "direction"], height=5,
                ),
                series_panel(
                    "Its answers, ear to ear", "The latest at each moment.",
                    {"this call": f"max(sipagent_live_call_turn_latency_seconds{live})"}, "s", at_most(1.5, 2.5), span=12,
                ),
                series_panel(
                    "All calls meanwhile", "The dots are calls, click one for its own page.",
                    {"p50": quantile(0.5, "sipagent_turn_latency_seconds"), "p95": quantile(0.95, "sipagent_turn_latency_seconds")},
                    "s", at_most(1.5, 2.5), span=12, exemplars=True,
                ),
            ],
            "Its record": [
                html_panel("Who spoke when, what was said, what went wrong", RECORD, height=18),
            ],
        },
        hours=1,
        variables=call_variables(),
    )  # fmt: skip


def _outbound() -> str:
    ended = "rate(sipagent_legs_ended_total{@}[$__rate_interval])"
    return board(
        "sipagent-outbound",
        "Calls out, transfers and the caller's way",
        "Who is called, what came of it, what the dial policy stopped; menus, queues, tools.",
        {
            "Legs out": [
                series_panel(
                    "Dialled", "A minute, by trunk and what for.",
                    {"{{trunk}} {{purpose}}": "60 * sum by (trunk, purpose) (rate(sipagent_legs_dialled_total{@}[$__rate_interval]))"}, "cpm",
                ),
                series_panel(
                    "Results", "A minute.", {"{{trunk}} {{result}}": f"60 * sum by (trunk, result) ({ended})"}, "cpm",
                ),
                series_panel(
                    "Causes", "Of Q.850, by class: `resource` and `service` are the carrier's.",
                    {"{{trunk}} {{cause_class}}": f"60 * sum by (trunk, cause_class) ({ended})"}, "cpm",
                ),
                series_panel(
                    "Talk", "Minutes a minute, by trunk: what the carrier bills.",
                    {"{{trunk}} {{purpose}}": "sum by (trunk, purpose) (rate(sipagent_leg_talk_seconds_total{@}[$__rate_interval]))"}, "short",
                ),
                series_panel(
                    "Not let out", "A minute, by who asked and why: a surge is a model that is talked into something.",
                    {"{{asked_by}} {{why}}": "60 * sum by (asked_by, why) (rate(sipagent_dials_refused_total{@}[$__rate_interval]))"},
                    "cpm", at_most(1, 10),
                ),
                series_panel(
                    "Transfers", "A minute, by how and result.",
                    {"{{target}} {{how}} {{result}}": "60 * sum by (target, how, result) (rate(sipagent_transfers_total{@}[$__rate_interval]))"},
                    "cpm",
                ),
            ],
            "Probes": [
                series_panel("Passed", "1: the last call of ours through the trunk and back passed; 0: it failed.",
                             {"{{probe}} {{trunk}}": "min by (probe, trunk) (sipagent_probe_up{@})"}, "none", at_least(1, 1), span=12),
                series_panel("What it met", "Failures an hour; and when the last one was, in minutes.",
                             {"failed {{probe}} {{trunk}}": grown('probe_runs_total{@, result="failed"}', "probe, trunk"),
                              "minutes since {{probe}} {{trunk}}": "(time() - min by (probe, trunk) (sipagent_probe_last_run_timestamp_seconds{@})) / 60"},
                             "short", span=12),
                series_panel("Answer and first words", "From the INVITE, over the whole way: what a customer waits.",
                             {"answer {{probe}} {{trunk}}": "max by (probe, trunk) (sipagent_probe_answer_seconds{@})",
                              "first words {{probe}} {{trunk}}": "max by (probe, trunk) (sipagent_probe_first_words_seconds{@})"},
                             "s", at_most(3, 8), span=12),
                series_panel("MOS", "Of what came back.", {"{{probe}} {{trunk}}": "min by (probe, trunk) (sipagent_probe_mos{@})"},
                             "none", at_least(3.6, 4.0), span=12),
            ],
            "Campaigns": [
                series_panel(
                    "Dispositions", "What calls out came to, a minute.",
                    {"{{agent}} {{disposition}}": "60 * sum by (agent, disposition) (rate(sipagent_outbound_calls_total{@}[$__rate_interval]))"},
                    "cpm",
                ),
                series_panel(
                    "Who said so", "The detector, the agent, or signalling.",
                    {"{{disposition}} {{said_by}}": "60 * sum by (disposition, said_by) (rate(sipagent_classified_total{@}[$__rate_interval]))"},
                    "cpm",
                ),
                series_panel(
                    "Call-backs and messages", "Asked for, a minute.",
                    {
                        "call-backs {{agent}}": "60 * sum by (agent) (rate(sipagent_callbacks_requested_total{@}[$__rate_interval]))",
                        "messages {{mailbox}}": "60 * sum by (mailbox) (rate(sipagent_messages_taken_total{@}[$__rate_interval]))",
                    },
                    "cpm",
                ),
            ],
            "The caller's way": [
                series_panel(
                    "Steps", "Callers a minute.",
                    {"{{kind}} {{step}}": "60 * sum by (kind, step) (rate(sipagent_steps_entered_total{@}[$__rate_interval]))"}, "cpm",
                ),
                series_panel(
                    "Asked again", "A menu that is not understood.",
                    {"{{step}} {{why}}": "60 * sum by (step, why) (rate(sipagent_steps_retried_total{@}[$__rate_interval]))"}, "cpm",
                ),
                series_panel(
                    "Queues", "In the queue and talking to whoever answered, p50 and p95.",
                    {"{{queue}} p50": quantile(0.5, "sipagent_queue_stay_seconds", "queue"),
                     "{{queue}} p95": quantile(0.95, "sipagent_queue_stay_seconds", "queue")},
                    "s", at_most(120, 300),
                ),
                series_panel(
                    "Keys taken unseen", "By what for and how they were.",
                    {"{{purpose}} {{result}}": "60 * sum by (purpose, result) (rate(sipagent_digits_collected_total{@}[$__rate_interval]))"},
                    "cpm",
                ),
                series_panel(
                    "Holds", "A minute, and how long.",
                    {"{{by}}": "60 * sum by (by) (rate(sipagent_holds_total{@}[$__rate_interval]))",
                     "seconds by {{by}}": "sum by (by) (rate(sipagent_hold_seconds_total{@}[$__rate_interval]))"},
                    "short",
                ),
                series_panel(
                    "Supervisors", "A minute, by what they did.",
                    {"{{what}} ok={{ok}}": "60 * sum by (what, ok) (rate(sipagent_supervisions_total{@}[$__rate_interval]))"}, "cpm",
                ),
            ],
            "Tools": [
                series_panel(
                    "How long tools take", "p95.", {"{{tool}}": quantile(0.95, "sipagent_tool_duration_seconds", "tool")},
                    "s", at_most(2, 5), span=12,
                ),
                series_panel(
                    "Tools that fail", "Of their calls.",
                    {"{{tool}}": 'sum by (tool) (rate(sipagent_tool_duration_seconds_count{@, ok="false"}[$__rate_interval]))'
                                 " / sum by (tool) (rate(sipagent_tool_duration_seconds_count{@}[$__rate_interval]))"},
                    "percentunit", at_most(0.05, 0.2), span=12,
                ),
            ],
        },
    )  # fmt: skip
