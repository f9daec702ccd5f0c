"""How a check is made; every part of the doctor uses it."""

from __future__ import annotations

from queuemon.model import Check

#: Clocks may differ by this before it matters to what is shown.
SKEW_SECONDS = 5.0


def check(name: str, fine: bool, found: str, next_step: str = "", *, otherwise: str = "warn") -> Check:
    """A check; `otherwise` is its state when it is not fine: "warn" or "fail"."""
    return Check(name=name, state="ok" if fine else otherwise, found=found, next_step="" if fine else next_step)


def tls(store: str, on: bool, host: str, how: str) -> Check:
    """Whether the connection is encrypted, where it leaves the machine."""
    local = host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/")
    found = "on" if on else "off, on this machine" if local else "off: data and password cross the network readable"
    return check(f"{store} TLS", on or local, found, f"use {how}")
