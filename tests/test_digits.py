"""Which digits will do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.config.outward import Digits
from sipagent.digits import luhn, wrong_with


@pytest.mark.parametrize("number", ["4111111111111111", "378282246310005", "6011111111111117", "5555555555554444", "0"])
def test_card_numbers_of_the_card_networks_own_tests(number: str) -> None:
    assert luhn(number)


@given(st.text("0123456789", min_size=12, max_size=18), st.integers(1, 9), st.integers(0, 11))
def test_one_wrong_digit_is_always_noticed(number: str, by: int, place: int) -> None:
    right = next(number + str(check) for check in range(10) if luhn(number + str(check)))
    wrong = right[:place] + str((int(right[place]) + by) % 10) + right[place + 1 :]
    assert not luhn(wrong)


def test_what_is_wrong_is_said_without_the_digits() -> None:
    card = Digits(description="card", min_digits=13, max_digits=19, luhn=True)
    assert wrong_with("4111111111111111", card) == ""
    for digits in ("", "41111", "4111111111111112"):
        assert wrong_with(digits, card)
        assert not digits or digits not in wrong_with(digits, card)
