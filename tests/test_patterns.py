"""Number patterns: what they mean, what may still become one, which of them is wider."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.patterns import chosen, compiled, covers, matches, may_become


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("100", ["100"], ["1000", "10", ""]),
        ("+4420*", ["+4420", "+442079460000"], ["+4421", "4420"]),
        ("*98", ["*98"], ["98", "*981"]),
        ("*98*", ["*98", "*981"], ["98"]),
        ("*", ["", "anything"], []),
        ("400-499", ["400", "455", "499"], ["399", "500", "4000", "40"]),
        ("395-512", ["395", "400", "499", "512"], ["394", "513"]),
        ("_4XX", ["400", "499"], ["40", "4000", "500"]),
        ("_NXXZ", ["2001", "9999"], ["1001", "2000"]),
        ("_[13-5]X", ["10", "35", "59"], ["20", "60"]),
        ("_0.", ["01", "0123"], ["0", "1"]),
        ("_0!", ["0", "01"], ["1"]),
        ("sales", ["sales"], ["Sales", "sale"]),
    ],
)
def test_what_a_pattern_means(pattern: str, yes: list[str], no: list[str]) -> None:
    assert all(matches(pattern, number) for number in yes)
    assert not any(matches(pattern, number) for number in no)


@pytest.mark.parametrize("text", ["", "_", "_4Q", "_4.4", "_[", "_[]", "_[a-z]", "4 0 0", "499-400", "4-40", "_4!X"])
def test_what_is_no_pattern_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|range|last|set|number"):
        compiled(text)


@given(st.integers(1, 99999), st.integers(1, 99999), st.integers(1, 99999))
def test_a_range_is_exactly_its_numbers(one: int, two: int, number: int) -> None:
    first, last = sorted((one, two))
    if len(str(first)) == len(str(last)):
        assert matches(f"{first}-{last}", str(number)) == (first <= number <= last)


@given(
    st.sampled_from(["100", "_4XX", "_0.", "_1!", "400-499", "395-512", "12*", "*98"]),
    st.text("0123456789*", max_size=5),
)
def test_may_become_agrees_with_what_matches(pattern: str, digits: str) -> None:
    """Some longer number is meant, exactly when more keys make sense (one or two more are enough to see it)."""
    alphabet = "0123456789*#"
    longer = [digits + a for a in alphabet] + [digits + a + b for a in alphabet for b in alphabet]
    longer += [digits + a + b + c for a in alphabet for b in alphabet for c in alphabet]
    assert may_become(pattern, digits) == any(matches(pattern, number) for number in longer)


def test_wider_patterns_are_known() -> None:
    assert covers("*", "_4XX")
    assert covers("_4XX", "412")
    assert covers("400-499", "410-420")
    assert covers("+44*", "+4420*")
    assert not covers("410-420", "400-499")
    assert not covers("412", "_4XX")


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [
        ("400-499", "_4XX", True),
        ("_4XX", "410-489", True),
        ("_4XX", "_4[0-4]X", True),
        ("_4[0-4]X", "_4XX", False),
        ("400-449", "_4XX", False),
        ("_X.", "_XX", True),
        ("_X.", "_X!", False),
        ("_X!", "_X.", True),
        ("_4XX", "_4X.", False),
        ("+44*", "+4420*", True),
        ("+4420*", "+44*", False),
        ("_+44X!", "+4420*", True),
        ("1*", "100-199", True),
        ("_NXX", "100", False),
    ],
)
def test_a_pattern_that_leaves_nothing_to_another(pattern: str, other: str, expected: bool) -> None:
    assert covers(pattern, other) is expected


def test_a_key_before_the_pattern_it_fits() -> None:
    keys = ("_4XX", "400", "*")
    assert [chosen(keys, digits) for digits in ("400", "401", "*", "5", "TIMEOUT")] == [
        "400", "_4XX", "*", None, None
    ]  # fmt: skip
