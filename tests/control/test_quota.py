"""Who has a session, who waits, and what becomes of both when workers come and go."""

from __future__ import annotations

from sipagent.control.quota import Quota
from sipagent.orders import SessionGranted, SessionHeld, SessionPlace, SessionRecalled, SessionWanted


class Desk:
    """A quota, and what it has told the workers."""

    def __init__(self, **limits: int) -> None:
        self.quota = Quota(limits)

    def want(self, key: str, *endpoints: str, worker: str = "1", first: bool = False) -> list[str]:
        self.quota.want(worker, SessionWanted(key, f"call of {key}", endpoints or ("main",), first))
        return self.told()

    def stand_by(self, key: str, worker: str = "1") -> list[str]:
        self.quota.want(worker, SessionWanted(key, "", ("main",)))
        return self.told()

    def left(self, key: str) -> list[str]:
        self.quota.left(key)
        return self.told()

    def told(self) -> list[str]:
        told, self.quota.told = self.quota.told, []
        return [f"{what.key}: {_word(what)} (worker {worker})" for worker, what in told]


def _word(what: SessionGranted | SessionPlace | SessionRecalled) -> str:
    match what:
        case SessionGranted():
            return what.endpoint
        case SessionPlace():
            return f"{what.place} soon" if what.soon else f"{what.place}"
        case SessionRecalled():
            return "recalled"


def test_the_first_have_a_session_and_the_others_a_place_across_workers() -> None:
    desk = Desk(main=2)
    assert desk.want("a", worker="1") == ["a: main (worker 1)"]
    assert desk.want("b", worker="2") == ["b: main (worker 2)"]
    assert desk.want("c", worker="1") == ["c: 1 (worker 1)"]
    assert desk.want("d", worker="2") == ["d: 2 (worker 2)"]
    assert (desk.quota.open("main"), desk.quota.waiting) == (2, 2)


def test_when_one_leaves_the_longest_waiting_is_served_and_the_rest_move_up() -> None:
    desk = Desk(main=1)
    for key in "abcd":
        desk.want(key)
    assert desk.left("a") == ["b: main (worker 1)", "c: 1 (worker 1)", "d: 2 (worker 1)"]
    assert desk.left("c") == ["d: 1 (worker 1)"]  # hung up in line
    assert desk.left("c") == []
    assert desk.left("b") == ["d: main (worker 1)"]


def test_another_endpoint_with_room_is_as_good_and_one_without_a_quota_has_always_room() -> None:
    desk = Desk(main=1, second=1)
    desk.want("a")
    assert desk.want("b", "main", "second") == ["b: second (worker 1)"]
    assert desk.want("c", "main", "second") == ["c: 1 (worker 1)"]
    assert desk.want("d", "third") == ["d: third (worker 1)"]
    assert desk.left("b") == ["c: second (worker 1)"]


def test_a_call_that_is_going_on_is_served_before_those_who_wait() -> None:
    desk = Desk(main=1)
    for key in "abc":
        desk.want(key)
    assert desk.want("on", first=True) == ["on: 1 (worker 1)", "b: 2 (worker 1)", "c: 3 (worker 1)"]
    assert desk.left("a")[0] == "on: main (worker 1)"


def test_of_those_that_are_going_on_the_first_to_come_is_the_first() -> None:
    desk = Desk(main=1)
    for key, first in (("a", False), ("b", False), ("on1", True), ("on2", True)):
        desk.want(key, first=first)
    assert desk.left("a")[0] == "on1: main (worker 1)"
    assert desk.left("on1")[0] == "on2: main (worker 1)"


def test_who_asks_again_keeps_what_they_have() -> None:
    desk = Desk(main=1, second=1)
    desk.want("a")
    desk.want("b")
    assert desk.want("a") == ["a: main (worker 1)"]
    assert desk.quota.open("main") == 1
    assert desk.want("a", "second") == ["b: main (worker 1)", "a: second (worker 1)"]
    assert desk.want("b") == ["b: main (worker 1)"]


def test_a_dead_workers_sessions_are_kept_for_its_calls_and_nobody_elses() -> None:
    desk = Desk(main=2)
    desk.want("a", worker="1")
    desk.want("menu", worker="1")
    desk.want("waits", worker="2")
    desk.want("dead", worker="1")
    desk.quota.gone("1", ["call of a"])
    assert desk.told() == ["waits: main (worker 2)"]  # what nobody adopts is free, and who waited there is out of line
    assert desk.quota.open("main") == 2
    # Another worker adopts it: under another key, and into the place that was kept.
    desk.quota.want("2", SessionWanted("a2", "call of a", ("main",), first=True))
    assert desk.told() == ["a2: main (worker 2)"]
    assert desk.quota.open("main") == 2


def test_a_call_that_nobody_adopts_gives_its_session_back() -> None:
    desk = Desk(main=1)
    desk.want("a", worker="1")
    desk.want("b", worker="2")
    desk.quota.gone("1", ["call of a"])
    assert desk.told() == []
    desk.quota.lost("call of a")
    assert desk.told() == ["b: main (worker 2)"]


def test_what_a_call_has_that_was_adopted_is_not_freed_with_what_it_had() -> None:
    desk = Desk(main=2)
    desk.want("a", worker="1")
    desk.quota.gone("1", ["call of a"])
    desk.quota.want("2", SessionWanted("a2", "call of a", ("main",), True))
    desk.quota.lost("call of a")
    assert desk.quota.open("main") == 1


def test_a_call_has_one_session_however_many_processes_say_that_they_have_it() -> None:
    """The control process was killed: its successor hears of the old worker's sessions, and of who adopts them."""
    desk = Desk(main=1)
    desk.quota.here("old", [SessionHeld("a", "call of a", "main")])
    desk.quota.want("new", SessionWanted("a2", "call of a", ("main",), first=True))
    assert desk.told() == ["a2: main (worker new)"]
    desk.quota.gone("old", [])
    assert desk.quota.open("main") == 1
    desk.quota.left("a2")
    assert desk.quota.open("main") == 0


def test_who_has_just_begun_to_count_learns_what_is_open() -> None:
    desk = Desk(main=2)
    desk.quota.here("1", [SessionHeld("a", "call of a", "main"), SessionHeld("b", "call of b", "main")])
    assert desk.want("c") == ["c: 1 (worker 1)"]
    assert desk.left("a") == ["c: main (worker 1)"]


def test_what_calls_have_is_told_by_endpoint_and_without_what_stands_by() -> None:
    """A node whose spare sessions fill the quota has room: an alert that counts them wakes somebody for nothing."""
    desk = Desk(main=2, second=3, free=0)
    assert desk.quota.taken() == {"main": 0, "second": 0}
    desk.stand_by("s1")
    desk.want("a")
    desk.quota.here("2", [SessionHeld("b", "call of b", "second"), SessionHeld("c", "", "second")])
    assert desk.quota.taken() == {"main": 1, "second": 1}
    desk.quota.follow({"second": 3})
    assert desk.quota.taken() == {"second": 1}


def test_a_larger_quota_serves_those_who_wait_and_a_smaller_one_takes_nothing_away() -> None:
    desk = Desk(main=1)
    for key in "abc":
        desk.want(key)
    desk.quota.follow({"main": 2})
    assert desk.told() == ["b: main (worker 1)", "c: 1 (worker 1)"]
    desk.quota.follow({"main": 1})
    assert desk.quota.open("main") == 2
    desk.left("a")
    assert desk.quota.waiting == 1
    desk.quota.follow({})
    assert desk.told() == ["c: main (worker 1)"]


def test_places_are_messages_of_their_own() -> None:
    quota = Quota({"main": 1})
    for key in "ab":
        quota.want("1", SessionWanted(key, key, ("main",)))
    assert quota.told == [("1", SessionGranted("a", "main")), ("1", SessionPlace("b", 1))]


def test_what_stands_by_is_called_back_for_a_caller_who_would_wait_and_for_no_other() -> None:
    desk = Desk(main=3)
    assert desk.stand_by("s1", worker="1") == ["s1: main (worker 1)"]
    assert desk.stand_by("s2", worker="2") == ["s2: main (worker 2)"]
    assert desk.want("a") == ["a: main (worker 1)"]
    assert desk.stand_by("s3") == ["s3: 1 (worker 1)"]  # for one that is to stand by nobody gives way
    desk.left("s3")
    assert desk.want("b", worker="3") == ["s1: recalled (worker 1)", "b: 1 soon (worker 3)"]
    assert desk.want("c", worker="3") == ["s2: recalled (worker 2)", "c: 2 soon (worker 3)"]
    assert desk.want("d", worker="3") == ["d: 3 (worker 3)"]
    assert desk.left("s1") == ["b: main (worker 3)", "c: 1 soon (worker 3)", "d: 2 (worker 3)"]
    assert desk.left("s2") == ["c: main (worker 3)", "d: 1 (worker 3)"]


def test_what_stood_by_and_is_a_calls_now_is_kept_and_another_one_called_back() -> None:
    desk = Desk(main=2)
    desk.stand_by("s1", worker="1")
    desk.stand_by("s2", worker="2")
    assert desk.want("b", worker="3") == ["s1: recalled (worker 1)", "b: 1 soon (worker 3)"]
    # Its own worker had given it to a caller meanwhile.
    desk.quota.want("1", SessionWanted("s1", "call of a", ("main",), first=True))
    assert desk.told() == ["s1: main (worker 1)", "s2: recalled (worker 2)"]
    assert desk.left("s2") == ["b: main (worker 3)"]
    assert desk.quota.open("main") == 2


def test_what_stood_by_at_a_worker_that_died_is_nobodys() -> None:
    desk = Desk(main=1)
    desk.stand_by("s1", worker="1")
    desk.quota.gone("1", [])
    assert desk.want("a", worker="2") == ["a: main (worker 2)"]
