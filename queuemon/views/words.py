"""The words of the filter language as the filter box suggests them; sent to the page once."""

from __future__ import annotations

from typing import Any, Final

from queuemon.filters.fields import FIELDS, STATUSES, Kind, operator_texts

#: Values of a kind that are offered where nothing better is known.
_FOR_EXAMPLE: Final = {
    Kind.SPAN: ("30s", "5m", "1h", "1d"),
    Kind.MOMENT: ("now-15m", "now-1h", "now-1d", "now-7d"),
}


def vocabulary() -> dict[str, Any]:
    """Fields with their operators, what they mean and values to begin with; JSON."""
    return {
        "fields": [
            {
                "name": field.name,
                "help": field.help.replace("`", ""),
                "operators": list(operator_texts(field)),
                "values": list(STATUSES) if field.kind is Kind.STATUS else list(_FOR_EXAMPLE.get(field.kind, ())),
            }
            for field in FIELDS.values()
            if field.kind is not Kind.LENGTH
        ]
    }
