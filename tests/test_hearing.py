"""A caller who is never heard is noticed; one who is muted is left in peace."""

from sipagent.hearing import FIRST_S, LATER_S, Hearing, Verdict


def seen(packets: dict[int, int], until_s: int, held: frozenset[int] = frozenset()) -> list[tuple[int, Verdict]]:
    """What was done, second by second; `packets` received in all by then."""
    hearing, count, out = Hearing(0.0), 0, []
    for second in range(until_s):
        count = packets.get(second, count)
        verdict = hearing.look(count, float(second), held=second in held)
        if verdict is not Verdict.WELL:
            out.append((second, verdict))
    return out


def test_who_is_heard_is_left_alone() -> None:
    assert seen({second: 50 * second + 1 for second in range(120)}, 120) == []


def test_who_is_never_heard_gets_a_new_channel_and_is_then_given_up() -> None:
    assert seen({}, 8) == [(int(FIRST_S), Verdict.REPAIR), (int(2 * FIRST_S), Verdict.DEAF)]


def test_a_repair_that_helps_is_the_end_of_it() -> None:
    assert seen({4: 10, **{second: 50 * second for second in range(5, 30)}}, 30) == [(int(FIRST_S), Verdict.REPAIR)]


def test_a_muted_phone_gets_a_new_channel_and_is_never_given_up() -> None:
    assert seen({0: 50}, 200) == [(int(LATER_S), Verdict.REPAIR)]


def test_who_holds_us_sends_nothing_and_that_is_well() -> None:
    assert seen({}, 60, frozenset(range(1, 60))) == []
