"""The last of one voice, in one piece of memory."""

from hypothesis import given
from hypothesis import strategies as st

from sipagent.ring import Ring


@given(size=st.integers(1, 50), pieces=st.lists(st.binary(max_size=70), max_size=12), cleared=st.integers(0, 12))
def test_it_holds_the_last_bytes_of_all_that_came(size: int, pieces: list[bytes], cleared: int) -> None:
    ring, whole = Ring(size), b""
    for number, piece in enumerate(pieces):
        if number == cleared:
            ring.clear()
            whole = b""
        ring.append(piece)
        whole += piece
        assert bytes(ring) == whole[-size:]
        assert len(ring) == min(len(whole), size)


def test_it_is_empty_at_first() -> None:
    assert not Ring(160)
    assert bytes(Ring(160)) == b""
