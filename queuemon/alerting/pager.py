"""PagerDuty, through its own client: an event of ours in the shape of Events API v2.

Source: https://developer.pagerduty.com/docs/events-api-v2-overview. An event with the `dedup_key` of an open incident
joins it, so that one sent twice (killed between the answer and the note of it) wakes nobody twice; an incident that
somebody acknowledged stays so, as nothing is sent while an alert goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from queuemon.errors import ConfigError, QueuemonError

#: Seconds that one event may take.
TIMEOUT_SECONDS: Final = 10

#: PagerDuty takes 1,024 characters; what is cut says so in a few more.
SUMMARY_LENGTH: Final = 1_000


#: The event is taken.
TAKEN: Final = 202

#: Answers to this very event (invalid, too large), which the next one need not get.
_OF_THE_EVENT: Final = {400, 413}


class PagerAway(QueuemonError):
    """PagerDuty did not take an event; it is kept and sent again."""


class PagerRefused(PagerAway):
    """PagerDuty took exception to this very event, or to the routing key."""


class PagerDuty:
    """Sends events with one routing key. No message of its own holds the key."""

    def __init__(self, routing_key: str, url: str) -> None:
        import pagerduty

        try:
            self._client = pagerduty.EventsApiV2Client(routing_key, base_url=url)
        except pagerduty.UrlError:
            raise ConfigError(
                f"pagerduty_url is {url[:200]!r}",
                expected="https:// and the host of the service region",
                next_step="correct it in queuemon.toml",
            ) from None
        # Repeating is ours: an event waits in a file, not in this process.
        self._client.retry = {429: 1}
        self._client.max_network_attempts = 0
        self._client.timeout = TIMEOUT_SECONDS

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one event; raises PagerAway."""
        import pagerduty

        said = dict(event)
        try:
            self._client.send_event(said.pop("event_action"), **said)
        except pagerduty.HttpError as error:  # its message holds the end of the key
            status = error.response.status_code if error.response is not None else 0
            if status == TAKEN:  # whatever stands in the answer: an event sent for ever holds back all others
                return
            kind = PagerRefused if status in _OF_THE_EVENT else PagerAway
            raise kind(
                f"PagerDuty refused an event (HTTP {status})",
                expected="202 from its Events API v2",
                next_step="see whether the routing key is that of an Events API v2 integration, and the region right"
                if status in {400, 401, 403}
                else "it is sent again",
            ) from None
        except pagerduty.Error as error:
            cause = type(error.__cause__ or error).__name__
            raise PagerAway(
                f"PagerDuty cannot be reached ({cause})", expected="an answer", next_step="the event is sent again"
            ) from None

    def close(self) -> None:
        """End its connections."""
        self._client.close()
