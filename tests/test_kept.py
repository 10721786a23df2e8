"""What the caller says, to the session that there is and to the next one."""

from sipagent.kept import HEARD_MS, KEPT_MS, Kept


def frame(number: int, ptime_ms: int = 20) -> bytes:
    return (number % 251).to_bytes(1, "big") * (ptime_ms * 8)


def words(first: int, end: int) -> bytes:
    return b"".join(frame(number) for number in range(first, end))


def heard_by_nobody(frames: int) -> Kept:
    kept = Kept()
    for number in range(frames):
        kept.take(frame(number))
    return kept


def test_all_that_nobody_hears_is_kept_and_sent_in_order() -> None:
    kept = heard_by_nobody(40)
    assert list(kept.frames()) == [frame(number) for number in range(40)]
    assert kept.dropped == 0


def test_ten_seconds_are_kept_and_what_is_older_is_counted() -> None:
    kept = heard_by_nobody(510)
    assert b"".join(kept.frames()) == words(510 - KEPT_MS // 20, 510)
    assert kept.dropped == 10


def test_the_time_that_is_kept_does_not_depend_on_the_size_of_packets() -> None:
    kept = Kept()
    for number in range(200):
        kept.take(frame(number, 60))
    assert len(b"".join(kept.frames())) == KEPT_MS * 8


def test_of_what_is_heard_only_the_last_moment_is_kept() -> None:
    kept, heard = heard_by_nobody(100), []
    kept.hears, kept.to = True, heard.append
    for number in range(100, 150):
        kept.take(frame(number))
    assert heard == [frame(number) for number in range(100, 150)]
    assert b"".join(kept.frames()) == words(150 - HEARD_MS // 20, 150)
    assert kept.dropped == 0


def test_words_that_a_session_is_lost_in_are_whole_for_the_next() -> None:
    """From before the model's word that somebody speaks, which comes later than the first sound."""
    kept = Kept()
    kept.hears, kept.to = True, lambda _: None
    for number in range(50):
        kept.take(frame(number))
    kept.caller_speaks = True
    for number in range(50, 80):
        kept.take(frame(number))
    kept.hears, kept.caller_speaks, kept.to = False, False, None  # lost
    for number in range(80, 90):
        kept.take(frame(number))
    assert b"".join(kept.frames()) == words(51 - HEARD_MS // 20, 90)


def test_words_that_were_heard_to_their_end_are_not_kept() -> None:
    kept = Kept()
    kept.hears, kept.to = True, lambda _: None
    kept.caller_speaks = True
    for number in range(100):
        kept.take(frame(number))
    kept.caller_speaks = False
    kept.take(frame(100))
    assert b"".join(kept.frames()) == words(101 - HEARD_MS // 20, 101)


def test_a_very_long_speech_that_is_heard_drops_nothing_that_counts() -> None:
    kept = Kept()
    kept.hears = kept.caller_speaks = True
    for number in range(600):
        kept.take(frame(number))
    assert b"".join(kept.frames()) == words(600 - KEPT_MS // 20, 600)
    assert kept.dropped == 0


def test_what_is_of_no_use_any_more_is_forgotten() -> None:
    kept = heard_by_nobody(30)
    kept.clear()
    assert list(kept.frames()) == []
    kept.take(frame(7))
    assert list(kept.frames()) == [frame(7)]
