"""What `make run` prints, whatever is said in the call."""

import io

from rich.console import Console

from sipagent import demo, model
from sipagent.config import Settings
from sipagent.model import Role


def test_what_is_said_is_printed_as_it_is() -> None:
    out = io.StringIO()
    talk = demo.Talk(Console(file=out, width=120))
    for text in ("[/] and [bold]x", "[asterisk] sip_address", "plain"):
        talk(model.Transcript(call_id="c", at=0, role=Role.CALLER, item_id=text, text=text))
        talk(model.RealtimeTrouble(call_id="c", at=0, what="garbage", detail=text))
    printed = out.getvalue()
    for text in ("[/] and [bold]x", "[asterisk] sip_address", "plain"):
        assert printed.count(text) == 2


def test_a_repeated_transcript_is_printed_once() -> None:
    out = io.StringIO()
    talk = demo.Talk(Console(file=out, width=120))
    for text in ("one", "one", "one two"):
        talk(model.Transcript(call_id="c", at=0, role=Role.CALLER, item_id="i", text=text))
    assert [line.split()[1:] for line in out.getvalue().splitlines()] == [["one"], ["one", "two"]]


def test_what_one_may_dial_is_named_once() -> None:
    routes = [
        {"to": "200", "hours": "", "from": "1", "go": "agent:a"}, {"to": ["200", "_4XX"], "go": "agent:a"},
        {"to": "*97", "trunk": "phone", "go": "agent:a"}, {"to": "300", "trunk": "other", "go": "agent:a"},
        {"go": "agent:a"},
    ]  # fmt: skip
    settings = Settings(agents={"a": {"instructions": "x"}}, routes=routes, numbers={"*": "a"})
    assert demo._numbers(settings) == ["200", "*97"]
