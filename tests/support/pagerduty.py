"""A stand-in for PagerDuty's Events API v2 on this machine: takes what the real one documents, and can be away.

It speaks TLS like the real one; `SSL_CERT_FILE` names its authority while it runs.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import trustme

#: https://developer.pagerduty.com/docs/events-api-v2/trigger-events
_REQUIRED = {"summary", "source", "severity"}
_KNOWN = _REQUIRED | {"timestamp", "component", "group", "class", "custom_details"}
_SEVERITIES = {"critical", "error", "warning", "info"}


class Sink:
    """`events` are those it took, `incidents` what they made: dedup key → triggered, acknowledged or resolved."""

    def __init__(self, routing_key: str) -> None:
        self.routing_key = routing_key
        self.events: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.incidents: dict[str, str] = {}
        #: What it answers while it is away; 0: as it should.
        self.broken = 0
        self.url = ""
        #: A file with its authority's certificate.
        self.authority = ""

    def of(self, action: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event["event_action"] == action]

    def take(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Judge one request; returns the answer's status and content."""
        if self.broken:
            return self.broken, {"status": "error"}
        event = json.loads(body)
        wrong = self._wrong(event)
        if wrong:
            self.refused.append(wrong)
            return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": [wrong]}
        self.events.append(event)
        key, action = event["dedup_key"], event["event_action"]
        if action == "trigger":
            if self.incidents.get(key) != "acknowledged":
                self.incidents[key] = "triggered"
        elif key in self.incidents:
            self.incidents[key] = f"{action}d"
        return 202, {"status": "success", "message": "Event processed", "dedup_key": key}

    def _wrong(self, event: dict[str, Any]) -> str:
        if event.get("routing_key") != self.routing_key:
            return "routing_key"
        if event.get("event_action") not in {"trigger", "acknowledge", "resolve"}:
            return "event_action"
        if not 0 < len(event.get("dedup_key", "")) <= 255:
            return "dedup_key"
        if event["event_action"] != "trigger":
            return ""
        payload = event.get("payload", {})
        if not set(payload) >= _REQUIRED or not set(payload) <= _KNOWN:
            return f"payload: {sorted(payload)}"
        if payload["severity"] not in _SEVERITIES or not 0 < len(payload["summary"]) <= 1_024:
            return "severity or summary"
        if any(set(link) - {"href", "text"} for link in event.get("links", [])):
            return "links"
        return ""


@contextmanager
def sink(routing_key: str = "R" * 32) -> Iterator[Sink]:
    """A Sink that listens at `url`."""
    made = Sink(routing_key)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, answer = made.take(body) if self.path == "/v2/enqueue" else (404, {})
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file, patch.dict(os.environ, SSL_CERT_FILE=file.name):
        authority.cert_pem.write_to_path(file.name)
        made.url, made.authority = f"https://127.0.0.1:{server.server_port}", file.name
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
