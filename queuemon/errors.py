"""Everything queuemon can refuse or fail with; every surface shows `str(error)` and nothing else.

    QueuemonError
    ├── UsageError              the question itself is wrong (exit code 2)
    │   ├── FilterError         a filter that does not parse; carries the position
    │   ├── UnknownQueue
    │   ├── UnknownJob
    │   ├── UnknownAction
    │   ├── UnknownRunbook
    │   ├── InvalidValue        a malformed id, duration, number, priority, …
    │   └── ConfigError         settings or queuemon.toml
    ├── NotAllowed              read-only profile, or the role lacks the right
    ├── LimitExceeded           a named bound of a read or an action
    ├── PlanOutdated            what the plan described has changed too much
    ├── StoreError              a store did not answer as expected
    │   ├── StoreUnavailable    down, unreachable, wrong password
    │   ├── StoreTimeout        statement, lock or socket timeout
    │   │   └── RowHeld         another session holds a row
    │   └── SchemaMismatch      missing table or column: `queuemon install`
    ├── StackError              the embedded demo servers
    └── RunbookError            a runbook that cannot be read, or failed

A message has three parts: what was found, what was expected, what to do next. No part may hold a DSN or a password.
"""

from __future__ import annotations


class QueuemonError(Exception):
    """Base of all errors of queuemon: one sentence each for found, expected and next."""

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", next_step: str = "") -> None:
        self.found = found
        self.expected = expected
        self.next_step = next_step
        parts = [found, f"Expected: {expected}" if expected else "", f"Next: {next_step}" if next_step else ""]
        super().__init__(" ".join(part if part.endswith("?") else f"{part.rstrip('.')}." for part in parts if part))


class UsageError(QueuemonError):
    """The question itself is wrong."""

    exit_code = 2


class FilterError(UsageError):
    """A filter that does not parse; `position` is the 0-based character where it went wrong."""

    def __init__(self, found: str, *, expected: str = "", next_step: str = "", position: int | None = None) -> None:
        super().__init__(found, expected=expected, next_step=next_step)
        self.position = position


class UnknownQueue(UsageError):
    """No row in `job_queues` has this name."""


class UnknownJob(UsageError):
    """No job has this id."""


class UnknownAction(UsageError):
    """No action has this id, or no action of this kind exists."""


class UnknownRunbook(UsageError):
    """No runbook has this name."""


class InvalidValue(UsageError):
    """A value that cannot mean anything here."""


class ConfigError(UsageError):
    """Settings, environment or queuemon.toml cannot be used."""


class NotAllowed(QueuemonError):
    """The profile is read-only, or the database role lacks the right."""


class LimitExceeded(QueuemonError):
    """A named bound of a read or an action was reached."""


class PlanOutdated(QueuemonError):
    """The world has moved on since the plan was made."""


class StoreError(QueuemonError):
    """A store did not answer as expected; `store` is "postgresql" or "redis"."""

    #: The connection broke in mid-call: what was being committed may or may not have been.
    lost = False

    def __init__(self, found: str, *, expected: str = "", next_step: str = "", store: str = "") -> None:
        super().__init__(found, expected=expected, next_step=next_step)
        self.store = store


class StoreUnavailable(StoreError):
    """Down, unreachable, or it refused the credentials."""


class StoreTimeout(StoreError):
    """A statement, lock or socket timeout ended the call."""


class RowHeld(StoreTimeout):
    """Another session held a row that was needed for longer than the lock timeout, or a deadlock was broken."""


class SchemaMismatch(StoreError):
    """A table or column of the contract is missing."""


class StackError(QueuemonError):
    """The embedded servers of the demo could not be started, found or stopped."""


class RunbookError(QueuemonError):
    """A runbook cannot be read, or failed."""
