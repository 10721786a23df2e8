"""A timeline as SVG, for a browser or a ticket (core: a `Timeline` in, text out).

Time runs in rows, as music does on a page: the caller above, the agent below, tools under both. Between them stands how
long the caller waited; a red stroke is where they broke in. Under the rows each wait is split into its shares.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from html import escape

from sipagent.records.report import Mark, Span, Timeline, Wait, milliseconds, moment

WIDTH, MARGIN, LABELS = 1200, 32, 76
LEFT = MARGIN + LABELS
PLOT = WIDTH - LEFT - MARGIN
ROW, HEAD = 158, 112
CALLER, WAITS, AGENT, TOOLS, BAR = 30, 58, 78, 116, 26
"""Heights within a row."""
ROW_LENGTHS_S = (15, 20, 30, 60, 120, 300, 600, 1800)
ROWS_WANTED = 8
TURN, TURNS_SHOWN = 20, 40
FLAG = 14
LETTER = 6.4
"""Pixels a character of the words in the bars takes, about."""
COLOURS = {"caller": "#2f6fde", "agent": "#1f9d73", "tool": "#c98a1b"}
SHARES = {"detection": "#94a3b8", "model": "#7c6bd6", "network": "#3ba3c4", "own": "#e0614f", "not told": "#cbd5e1"}
INK, FAINT, RULE, RED = "#1e293b", "#64748b", "#e2e8f0", "#dc2645"
_STYLE = f"""\
<style>text{{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-size:12px;fill:{INK}}}
.faint{{fill:{FAINT};font-size:11px}}.word{{fill:#fff}}.big{{font-size:20px;font-weight:600}}.wait{{font-weight:600}}
.bad{{fill:{RED}}}</style>"""


def svg(drawn: Timeline) -> str:
    """The picture, complete in itself: no script, no font, no link."""
    step = next((length for length in ROW_LENGTHS_S if drawn.length <= length * ROWS_WANTED), ROW_LENGTHS_S[-1])
    rows = max(1, -(-int(drawn.length * 1000) // (step * 1000)))
    waits = drawn.waits[:TURNS_SHOWN]
    waits_top = HEAD + rows * ROW + 16
    height = waits_top + (56 + len(waits) * TURN if waits else 0) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>Call {escape(drawn.record['id'])}</title>",
        _STYLE,
        "<defs>",
        *(
            f'<linearGradient id="fade-{lane}"><stop offset="0.75" stop-color="{colour}"/>'
            f'<stop offset="1" stop-color="{colour}" stop-opacity="0.25"/></linearGradient>'
            for lane, colour in COLOURS.items()
        ),
        "</defs>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_head(drawn),
    ]
    for row in range(rows):
        parts += _row(drawn, row * step, step, HEAD + row * ROW)
    if waits:
        parts += _waits(waits, waits_top, len(drawn.waits) - len(waits))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(drawn: Timeline) -> Iterator[str]:
    record = drawn.record
    when = dt.datetime.fromtimestamp(moment(record["start"]), dt.UTC).strftime("%-d %B %Y, %H:%M:%S UTC")
    yield f'<text class="big" x="{MARGIN}" y="{MARGIN + 12}">{escape(drawn.title)}</text>'
    yield _text(WIDTH - MARGIN, MARGIN + 6, when, "faint", "end")
    yield _text(WIDTH - MARGIN, MARGIN + 22, record["id"], "faint", "end")
    x = float(MARGIN)
    for name, value in drawn.facts:
        width = 7.0 * max(len(name), len(value)) + 16
        if x + width > WIDTH - MARGIN:
            break
        bad = (name == "result" and not value.startswith("success")) or (name == "state" and value == "lost")
        yield _text(x, MARGIN + 42, name, "faint")
        yield _text(x, MARGIN + 58, value, "bad" if bad else "")
        x += width


def _row(drawn: Timeline, start: float, step: int, top: int) -> Iterator[str]:
    """One row: `step` seconds from `start` on."""
    end = start + step

    def x_of(at: float) -> float:
        return round(LEFT + min(max(at - start, 0.0), step) / step * PLOT, 1)

    last = min(end, drawn.length)
    tick = next(size for size in (1, 2, 5, 10, 30, 60, 300) if step / size <= 16)
    for number in range(step // tick + 1):
        x = x_of(start + number * tick)
        yield f'<path d="M{x} {top + 18}V{top + ROW - 22}" stroke="{RULE}"/>'
        yield _text(x, top + 12, _clock(start + number * tick), "faint", "middle")
    for name, y in (("Caller", CALLER), ("Agent", AGENT)):
        yield f'<rect x="{LEFT}" y="{top + y}" width="{x_of(last) - LEFT}" height="{BAR}" rx="4" fill="#f8fafc"/>'
        yield _text(MARGIN, top + y + 17, name, "faint")
    for span in drawn.spans:
        if span.start < end and span.end >= start:
            yield from _span(span, x_of(span.start), x_of(span.end), top, continues=span.end > end)
    for wait in drawn.waits:
        if start <= wait.end < end:
            yield from _wait(wait, x_of(wait.start), x_of(wait.end), top)
    yield from _marks(drawn, start, end, x_of, top)


def _marks(drawn: Timeline, start: float, end: float, x_of: Callable[[float], float], top: int) -> Iterator[str]:
    """Strokes where the caller broke in, and flags under the row; flags that would touch become one."""
    flags: list[tuple[float, list[Mark]]] = []
    for mark in drawn.marks:
        is_here = start <= mark.at < end or (mark.kind == "end" and start < mark.at <= end)
        x = x_of(mark.at)
        if is_here and mark.kind == "barge-in":
            stroke = f"M{x} {top + CALLER - 4}V{top + AGENT + BAR + 4}"
            yield f'<path d="{stroke}" stroke="{RED}" stroke-width="2">{_told([mark])}</path>'
            yield f'<circle cx="{x}" cy="{top + AGENT + BAR + 5}" r="3.5" fill="{RED}">{_told([mark])}</circle>'
        elif is_here and flags and x - flags[-1][0] < FLAG:
            flags[-1][1].append(mark)
        elif is_here:
            flags.append((x, [mark]))
    taken = 0.0
    for x, marks in flags:
        yield f'<path d="M{x} {top + TOOLS + 18}l-4 7h8z" fill="{FAINT}">{_told(marks)}</path>'
        label = ", ".join(dict.fromkeys(mark.text if mark.kind == "step" else mark.kind for mark in marks))
        width = len(label) * LETTER
        if x + width > WIDTH - MARGIN:
            yield _text(x - 7, top + TOOLS + 26, label, "faint", "end")
        elif x > taken:
            yield _text(x + 7, top + TOOLS + 26, label, "faint")
            taken = x + 10 + width


def _told(marks: Sequence[Mark]) -> str:
    lines = (f"{_clock(mark.at)} {mark.kind}: {mark.text}".rstrip(": ") for mark in marks)
    return f"<title>{escape(chr(10).join(lines))}</title>"


def _span(span: Span, x: float, end: float, top: int, *, continues: bool) -> Iterator[str]:
    width = max(2.0, round(end - x, 1))
    told = f"<title>{_clock(span.start)} {span.lane}: {escape(span.text)}</title>"
    if span.lane == "tool":
        colour = RED if span.failed else COLOURS["tool"]
        yield f'<rect x="{x}" y="{top + TOOLS}" width="{width}" height="6" rx="3" fill="{colour}">{told}</rect>'
        yield _text(x + width + 5, top + TOOLS + 7, span.text, "faint")
        return
    y = top + (CALLER if span.lane == "caller" else AGENT)
    fades = span.guessed_end and not continues
    fill = f"url(#fade-{span.lane})" if fades else COLOURS[span.lane]
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{BAR}" rx="4" fill="{fill}">{told}</rect>'
    room = int((width - 12) / LETTER)
    if room >= 3 and span.text:
        words = span.text if len(span.text) <= room else span.text[: room - 1].rstrip() + "…"
        yield f'<text class="word" x="{x + 7}" y="{y + 17}" pointer-events="none">{escape(words)}</text>'


def _wait(wait: Wait, x: float, end: float, top: int) -> Iterator[str]:
    y = top + WAITS + 9
    yield f'<path d="M{x} {y - 7}v10H{end}v8" fill="none" stroke="{INK}" stroke-width="1.2"/>'
    yield _text((x + end) / 2, y - 1, milliseconds(wait.ms), "wait", "middle")


def _waits(waits: Sequence[Wait], top: int, more: int) -> Iterator[str]:
    """Each wait as a bar of its shares."""
    yield f'<path d="M{MARGIN} {top}H{WIDTH - MARGIN}" stroke="{RULE}"/>'
    yield _text(MARGIN, top + 26, "What the caller waited for", "wait")
    x = LEFT + 140
    for name, colour in SHARES.items():
        yield f'<rect x="{x}" y="{top + 17}" width="10" height="10" rx="2" fill="{colour}"/>'
        yield _text(x + 15, top + 26, name, "faint")
        x += 34 + len(name) * 7
    longest = max(wait.ms for wait in waits) or 1.0
    for place, wait in enumerate(waits):
        y = top + 42 + place * TURN
        yield _text(MARGIN, y + 11, f"at {_clock(wait.end)}", "faint")
        known = {name: ms for name, ms in wait.shares_ms.items() if ms}
        rest = max(0.0, wait.ms - sum(known.values()))
        at = float(LEFT)
        for name, ms in [*known.items(), ("not told", rest if rest >= 1 else 0.0)]:
            width = round(ms / longest * (PLOT - 80), 1)
            if width > 0:
                told = f"<title>{name}: {ms:.0f} ms</title>"
                yield f'<rect x="{at:.1f}" y="{y}" width="{width}" height="14" fill="{SHARES[name]}">{told}</rect>'
                at += width
        yield _text(at + 8, y + 11, milliseconds(wait.ms))
    if more:
        yield _text(MARGIN, top + 50 + len(waits) * TURN, f"and {more} more", "faint")


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "") -> str:
    more = f' class="{kind}"' if kind else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y:g}"{more}>{escape(words)}</text>'


def _clock(at: float) -> str:
    """0:08, 12:05."""
    return f"{int(at) // 60}:{int(at) % 60:02d}"
