"""Events of a call, folded into rows, without a database."""

from sipagent import model
from sipagent.records.fold import Kept, Rows

OUT = (
    model.CallStarted(
        call_id="c", at=1.0, caller="", called="+44", endpoint="first", codec="ulaw", worker=1,
        direction=model.Direction.OUT,
    ),
    model.LegDialled(call_id="c", at=1.0, leg="c", to="+44", trunk="first", purpose="outbound"),
    model.LegEnded(call_id="c", at=2.0, leg="c", answered=False, result="lines are full", cause=34, seconds=0.0),
    model.LegDialled(call_id="c", at=2.0, leg="c-second", to="+44", trunk="second", purpose="outbound"),
    model.LegEnded(call_id="c", at=9.0, leg="c-second", answered=True, result="answered", cause=16, seconds=6.0),
)  # fmt: skip


def test_a_call_out_belongs_to_the_trunk_that_carried_it_and_every_try_is_kept() -> None:
    rows = Rows()
    for number, event in enumerate(OUT, 1):
        rows.take(Kept("run", number, event), event)
    assert rows.calls["c"].trunk == "second"
    assert [(leg.trunk, leg.cause, leg.seconds) for leg in rows.legs.values()] == [
        ("first", 34, 0.0),
        ("second", 16, 6.0),
    ]
