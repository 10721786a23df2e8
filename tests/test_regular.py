"""Regular expressions that a stranger's text could keep busy for ever are refused; those that people write are not."""

import pytest

from sipagent.config.regular import checked


@pytest.mark.parametrize("expression", ["^sales$", "sip:4[0-9]+@", "(a|b)*c", "x{2,5}(y{1,3})*", "(?i)^urgent", ""])
def test_what_people_write(expression: str) -> None:
    assert checked(expression) == expression


@pytest.mark.parametrize("expression", ["(a+)+$", r"(\d*)*x", "((a|b)+c?)+$", "(?:x(?P<n>y+))*z", "(a{1,}){2,30}"])
def test_what_may_take_for_ever(expression: str) -> None:
    with pytest.raises(ValueError, match="repetition inside a repetition"):
        checked(expression)


@pytest.mark.parametrize("expression", ["(", "[z-a]", "a{99999999999}", "*"])
def test_what_is_none(expression: str) -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        checked(expression)
