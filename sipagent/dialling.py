"""Whether a number may be dialled now (core: no I/O; the time is an argument).

Nothing that a caller says or a model asks can widen it: patterns, kinds of numbers and caps are the operator's.
Each worker keeps its share of the node's caps, so no order of the control process is needed to say no.
"""

from __future__ import annotations

from collections import deque

import phonenumbers
from phonenumbers import PhoneNumberType

from sipagent import patterns
from sipagent.config.transfers import DialPolicy
from sipagent.numbers import MAX_EXTENSION

DAY_S = 24 * 3600.0
_COSTLY = {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST}
_SATELLITE = ("+870", "+878", "+881", "+882", "+883", "+979")
"""Global networks and premium numbers without a country (ITU-T E.164, annex)."""


class DialGuard:
    """One worker's view of the policy; `workers` share its caps evenly."""

    def __init__(self, policy: DialPolicy, workers: int = 1) -> None:
        self._policy = policy
        self._workers = max(workers, 1)
        self._live: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        self._starts: deque[float] = deque()
        self._talked: deque[tuple[float, float]] = deque()
        self._by_caller: deque[tuple[float, str]] = deque()

    def follow(self, policy: DialPolicy) -> None:
        """A reload: what has been dialled and talked counts on, also for the calls that are up."""
        self._policy = policy

    def refusal(self, number: str, caller: str, now: float, *, listed: bool = True) -> str:
        """Why this must not be dialled; empty when it may. `number` is +E.164, or an extension as it is.

        `listed` numbers stand in the configuration; others, that a caller or a program gave, must be allowed by a
        pattern, extensions too.
        """
        return self._kind(number, listed=listed) or self._caps(caller, now)

    def forbidden(self, number: str) -> str:
        """Why this number may never be dialled on anybody's word but the operator's; empty when it may."""
        return self._kind(number, listed=False)

    def turn(self, trunk: str, per_second: float, now: float, at_most_s: float) -> float | None:
        """Seconds until the trunk takes its next new call, which is then this one; None beyond `at_most_s`."""
        wait_s = max(self._turns.get(trunk, now) - now, 0.0)
        if wait_s > at_most_s:
            return None
        self._turns[trunk] = now + wait_s + self._workers / per_second
        return wait_s

    def started(self, leg_id: str, caller: str, now: float) -> None:
        """A leg is being dialled."""
        self._live[leg_id] = now
        self._starts.append(now)
        self._by_caller.append((now, caller))

    def taken_back(self, leg_id: str, caller: str) -> None:
        """It had `started`, and is not dialled after all; again is no error."""
        began = self._live.pop(leg_id, None)
        if began is not None:
            self._starts.remove(began)
            self._by_caller.remove((began, caller))

    def ended(self, leg_id: str, now: float) -> None:
        """It is over; again is no error."""
        began = self._live.pop(leg_id, None)
        if began is not None:
            self._talked.append((now, now - began))

    def _kind(self, number: str, *, listed: bool) -> str:
        policy = self._policy
        if any(patterns.matches(pattern, number) for pattern in policy.deny):
            return "denied by dial_policy.deny"
        # What is too long for an extension leads outside as well, also where no plan knows it (a trunk without region).
        outside = number.startswith("+") or len(number) > MAX_EXTENSION
        must_match = (outside and policy.allow) or not listed
        if must_match and not any(patterns.matches(pattern, number) for pattern in policy.allow):
            return "not in dial_policy.allow"
        if number.startswith("+") and not policy.premium and costly(number):
            return "a premium, shared-cost or satellite number (dial_policy.premium)"
        return ""

    def _caps(self, caller: str, now: float) -> str:
        policy = self._policy
        _forget(self._starts, now - 60)
        while self._by_caller and self._by_caller[0][0] < now - DAY_S:
            self._by_caller.popleft()
        while self._talked and self._talked[0][0] < now - DAY_S:
            self._talked.popleft()
        talked_s = sum(lasted for _, lasted in self._talked) + sum(now - began for began in self._live.values())
        if len(self._starts) >= self._share(policy.per_minute):
            return "too many calls out within a minute (dial_policy.per_minute)"
        if len(self._live) >= self._share(policy.at_once):
            return "too many calls out at once (dial_policy.at_once)"
        if talked_s / 60 >= self._share(policy.minutes_per_day):
            return "the day's minutes are used up (dial_policy.minutes_per_day)"
        if caller and sum(who == caller for _, who in self._by_caller) >= self._share(policy.per_caller_per_day):
            return "too many calls out for this caller (dial_policy.per_caller_per_day)"
        return ""

    def _share(self, cap: int) -> int:
        return -(-cap // self._workers)


def costly(number: str) -> bool:
    """A premium-rate, shared-cost or satellite number (+E.164)."""
    if number.startswith(_SATELLITE):
        return True
    try:
        return phonenumbers.number_type(phonenumbers.parse(number)) in _COSTLY
    except phonenumbers.NumberParseException:
        return True  # what no plan knows is not dialled on trust


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] < before:
        times.popleft()
