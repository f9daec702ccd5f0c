"""Payloads as an e-mail marketing company would enqueue them; history and live producers draw from the same hat.

Values hang together as they do in life (a region's locale and provider, a template's campaign), so that looking for
what failing jobs share has to tell a cause from its company. All addresses are of reserved domains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from queuemon.demo.queues import ANALYTICS, EMAIL, HIGH, LOW, WARMUP, DemoQueue

Payload = dict[str, Any]
Maker = Callable[[Random, datetime], Payload]

#: The template and region of scenario bad-template.
BAD_TEMPLATE: Final = "spring-sale-v2"
BAD_REGION: Final = "eu-west"
#: The template of scenario black-friday.
BLACK_FRIDAY: Final = "black-friday-2026"
#: How fast a bulk export writes.
ROWS_PER_SECOND: Final = 500_000

#: region → (share, locales, providers); a provider listed twice is drawn twice as often.
_REGIONS: Final[Mapping[str, tuple[float, tuple[str, ...], tuple[str, ...]]]] = {
    "us-east": (0.36, ("en-US", "en-US", "es-US"), ("ses", "ses", "sendgrid")),
    "eu-west": (0.30, ("en-GB", "de-DE", "fr-FR", "nl-NL"), ("mailgun", "ses", "mailgun")),
    "eu-north": (0.10, ("sv-SE", "fi-FI", "da-DK"), ("mailgun", "ses")),
    "ap-south": (0.14, ("en-IN", "hi-IN"), ("sendgrid", "ses")),
    "sa-east": (0.10, ("pt-BR", "es-AR"), ("sendgrid",)),
}
_HUNDRED_REGIONS: Final = tuple(name for name, (share, _, _) in _REGIONS.items() for _ in range(round(share * 100)))

#: campaign → (template, share, segments)
_CAMPAIGNS: Final = (
    ("cmp-2026-1101", "newsletter-weekly", ("all", "engaged-30d")),
    ("cmp-2026-1114", BAD_TEMPLATE, ("lapsed-90d", "vip")),
    ("cmp-2026-1115", BAD_TEMPLATE, ("engaged-30d", "vip")),
    ("cmp-2026-1120", "black-friday-teaser", ("all", "vip")),
    ("cmp-2026-1122", "winback-3", ("lapsed-90d",)),
    ("cmp-2026-1123", "product-digest", ("engaged-30d", "trial")),
    ("cmp-2026-1124", "onboarding-day-7", ("trial",)),
)
_FIRST: Final = (
    "ada",
    "alan",
    "barbara",
    "carol",
    "donald",
    "edsger",
    "frances",
    "grace",
    "hedy",
    "ivan",
    "john",
    "katherine",
    "linus",
    "margaret",
    "niklaus",
    "radia",
)
_LAST: Final = (
    "allen",
    "bartik",
    "dijkstra",
    "hamilton",
    "hopper",
    "johnson",
    "kay",
    "knuth",
    "lamarr",
    "liskov",
    "lovelace",
    "perlman",
    "turing",
    "wirth",
)
_DOMAINS: Final = ("example.com", "example.com", "example.net", "example.org")
_TAGS: Final = ("promo", "utm", "ab-test-a", "ab-test-b", "images", "amp", "dark-mode", "tracked")
_TRANSACTIONAL: Final = ("password-reset", "order-confirmation", "login-code", "invoice", "shipping-update")
_PLANS: Final = ("starter", "team", "business", "enterprise")


def region(rng: Random) -> str:
    """A region by its share of the customers."""
    return _HUNDRED_REGIONS[int(rng.random() * 100)]


def _recipient(rng: Random, where: str) -> Payload:
    first, last, user = _choice(rng, _FIRST), _choice(rng, _LAST), int(rng.random() * 900_000) + 100_000
    return {
        "user_id": user,
        "email": f"{first}.{last}{user % 97}@{_choice(rng, _DOMAINS)}",
        "locale": _choice(rng, _REGIONS[where][1]),
    }


def _choice(rng: Random, values: Any) -> Any:
    """`rng.choice` at a third of its cost; 300,000 payloads call it often."""
    return values[int(rng.random() * len(values))]


def transactional(rng: Random, at: datetime) -> Payload:
    """An e-mail that somebody waits for."""
    where = region(rng)
    return {
        "template": _choice(rng, _TRANSACTIONAL),
        "region": where,
        "recipient": _recipient(rng, where),
        "provider": _choice(rng, _REGIONS[where][2]),
        "idempotency_key": f"{rng.getrandbits(64):016x}",
        "tags": ["transactional"],
    }


def campaign(rng: Random, at: datetime) -> Payload:
    """One recipient of a campaign."""
    where = region(rng)
    number, template, segments = _choice(rng, _CAMPAIGNS)
    tags = [tag for tag in _TAGS if rng.random() < 0.25]
    return {
        "campaign_id": number,
        "template": template,
        "region": where,
        "recipient": _recipient(rng, where),
        "provider": _choice(rng, _REGIONS[where][2]),
        "segment": _choice(rng, segments),
        "batch": int(rng.random() * 400),
        "tags": tags,
        "tracking": {
            "opens": rng.random() < 0.9,
            "clicks": True,
            "utm": {"source": "queuemon-demo", "medium": "email"},
        },
    }


def export(rng: Random, at: datetime) -> Payload:
    """A bulk export."""
    rows = int(10 ** (3 + 3 * rng.random()))
    return {
        "export": _choice(rng, ("contacts", "bounces", "opens", "clicks", "unsubscribes")),
        "account_id": int(rng.random() * 4_000) + 1_000,
        "region": region(rng),
        "format": _choice(rng, ("csv", "csv", "xlsx", "parquet")),
        "rows": rows,
        "filters": {
            "since": (at - timedelta(days=30)).date().isoformat(),
            "segment": _choice(rng, ("all", "vip", "trial")),
        },
        "deliver": {"to": "s3", "bucket": f"exports-{int(rng.random() * 16):02d}"},
    }


def aggregate(rng: Random, at: datetime) -> Payload:
    """One account's metrics of a month."""
    subscriptions = 1 + int(400 * rng.random() ** 2)
    month = at if rng.random() < 0.7 else at - timedelta(days=31)
    return {
        "metric": _choice(rng, ("mrr", "mrr", "churn", "ltv", "deliverability")),
        "month": f"{month:%Y-%m}",
        "account_id": int(rng.random() * 4_000) + 1_000,
        "plan": _choice(rng, _PLANS),
        "active_subscriptions": subscriptions,
        "revenue_cents": subscriptions * (900 + int(8_000 * rng.random())),
        "currency": _choice(rng, ("EUR", "USD", "USD", "BRL")),
        "sources": ["stripe", "events"],
    }


def closed_plan(rng: Random, at: datetime) -> Payload:
    """Metrics of a plan that nobody subscribes to any more: the case that scenario mrr-bug forgot."""
    last_month = at.replace(day=1) - timedelta(days=1)
    return {
        **aggregate(rng, at),
        "metric": "mrr",
        "month": f"{last_month:%Y-%m}",
        "plan": "legacy-starter",
        "active_subscriptions": 0,
        "revenue_cents": int(90_000 * rng.random()),
    }


def warmup(rng: Random, at: datetime) -> Payload:
    """One step of warming up a mailbox."""
    box = int(rng.random() * 600)
    return {
        "mailbox": f"box{box:03d}@{_DOMAINS[box % 4]}",
        "provider": ("gmail", "outlook", "yahoo")[box % 3],
        "pool": f"pool-{box % 8}",
        "day": 1 + box % 28,
        "step": _choice(rng, ("send", "reply", "open", "mark-important", "move-from-spam")),
        "volume": {"target": 2 * (1 + box % 28), "sent": int(rng.random() * 20)},
    }


#: queue → a payload for a moment.
MAKERS: Final[Mapping[str, Maker]] = {
    HIGH: transactional,
    EMAIL: campaign,
    LOW: export,
    ANALYTICS: aggregate,
    WARMUP: warmup,
}


def black_friday(rng: Random, at: datetime) -> Payload:
    """One recipient of the biggest campaign of the year; its pictures take twice the time to send."""
    return {**campaign(rng, at), "campaign_id": "cmp-2026-1127", "template": BLACK_FRIDAY, "segment": "all"}


def big_export(rng: Random, at: datetime) -> Payload:
    """An export that keeps a worker busy for 2 to 4 seconds."""
    return {**export(rng, at), "export": "contacts", "rows": int(rng.uniform(2, 4) * ROWS_PER_SECOND)}


def duration_ms(queue: DemoQueue, payload: Payload, rng: Random) -> float:
    """How long a run of this job takes."""
    middle = queue.duration_ms
    if queue.name == LOW:
        middle += 1_000 * payload["rows"] / ROWS_PER_SECOND
    elif payload.get("template") == BLACK_FRIDAY:
        middle *= 2
    return middle * math.exp(queue.duration_spread * rng.gauss(0, 1))
