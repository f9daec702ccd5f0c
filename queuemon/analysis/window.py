"""Which stretch of time, and which queue, an analysis looks at; how an operator may write its ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from queuemon.errors import FilterError, InvalidValue
from queuemon.filters.values import milliseconds

#: A moment as a caller may give it: a time, or how long ago ("2h", timedelta), or text ("2026-10-03 14:00", "14:03").
When = datetime | timedelta | str


@dataclass(frozen=True, kw_only=True)
class Window:
    """From `since` up to, and without, `until`; one queue by its bare name, or all (None)."""

    since: datetime
    until: datetime
    queue: str | None = None

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.until - self.since


def window(since: When, until: When | None, *, now: datetime, longest: timedelta, queue: str | None = None) -> Window:
    """A window of the past; without `until`, or with one in the future, it ends `now`.

    Raises InvalidValue for what is no time, for an empty window, and for one that reaches back further than `longest`.
    """
    end = now if until is None else min(moment(until, now=now, name="until"), now)
    start = moment(since, now=now, name="since")
    if not start < end:
        raise InvalidValue(f"the window from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC is empty",
                           expected="since before until, and before now")  # fmt: skip
    if now - start > longest:
        raise InvalidValue(f"since is {(now - start).days} days ago", expected=f"at most {longest.days} days")
    return Window(since=start, until=end, queue=queue)


def moment(value: When, *, now: datetime, name: str) -> datetime:
    """The time that is meant, in UTC: "2h" is two hours ago, "14:03" the last time it was that late."""
    if isinstance(value, timedelta):
        return now - value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    word = value.strip().removeprefix("now-")
    if word == "now":
        return now
    try:
        return now - timedelta(milliseconds=milliseconds(word, 0))
    except (FilterError, OverflowError):
        pass
    try:
        if "-" not in word and ":" in word:
            at = datetime.combine(now.date(), time.fromisoformat(word), UTC)
            return at if at <= now else at - timedelta(days=1)
        return moment(datetime.fromisoformat(word), now=now, name=name)
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"{name} is {word[:60]!r}", expected="a time such as 2026-11-24 14:03 or 14:03 (UTC), or an age such as 2h"
        ) from None
