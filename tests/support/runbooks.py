"""Runbooks over a rig's stores: run by the real runner in a kernel, or cell by cell in the test's own process.

Fixture: `floor`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import nbformat
import psutil
import pytest
from jupyter_core.utils import ensure_event_loop

from queuemon import runbooks
from queuemon.drift import detect
from queuemon.runbooks import RunResult, agreement, procedures, steps
from tests.support.drift import Planter
from tests.support.engine import Rig
from tests.support.wait import wait_until

#: Everything an action may change, read past everything that is under test.
_TABLES = ("jobs", "job_queues", "queuemon.actions", "queuemon.queue_pauses", "queuemon.undo_jobs", "job_logs")


#: Planted where every run can see them: in its environment, and in the payload and the error of its jobs.
CANARIES = {"environment": "CANARY-ENV-1a2b", "payload": "CANARY-PAYLOAD-3c4d", "error": "CANARY-ERROR-5e6f"}

_TRAIL = "SELECT row_to_json(t)::text AS row FROM {} AS t"


class SecretPlanter(Planter):
    """Plants jobs whose payload holds a secret."""

    def rows(self, n: int, *, queue: str | None = None, **columns: str) -> list[UUID]:
        secret = f"jsonb_build_object('seconds', 0.001, 'failures', 0, 'password', '{CANARIES['payload']}')"
        return super().rows(n, queue=queue, **{"payload": secret, **columns})


class Floor:
    """Two stores with the rig's four queues, a working folder, and the runbooks on them."""

    def __init__(self, rig: Rig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig, self.sql, self.redis, self.folder = rig, rig.sql, rig.redis, folder
        self.plant = SecretPlanter(rig.store, "mail", "reports")
        #: Command lines of this process's children, as any user of the machine sees them.
        self.seen: set[str] = set()
        monkeypatch.setenv("MAILER_API_TOKEN", CANARIES["environment"])
        self._patch = monkeypatch
        #: The names of the cells that ran in this process.
        self._used: list[dict[str, Any]] = []
        values = {n: getattr(rig.settings, n) for n in ("lease_seconds", "heartbeat_seconds", "backoff_seconds")}
        lines = [f"{name} = {value}" for name, value in values.items()]
        (folder / "queuemon.toml").write_text("\n".join(["[profiles.test]", *lines, 'worker_level = "L2"']) + "\n")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("QUEUEMON_DATABASE_URL", rig.settings.database_url.get_secret_value())
        monkeypatch.setenv("QUEUEMON_REDIS_URL", rig.settings.redis_url.get_secret_value())

    def run(self, name: str, **parameters: Any) -> RunResult:
        """By the real runner, in a kernel of its own; raises what it raises."""
        return self.meanwhile(name, lambda: None, **parameters)

    def cut_short(self, name: str, when: Callable[[], object], **parameters: Any) -> None:
        """A real process of the command line, stopped by Ctrl-C once something is so."""
        given = [
            word for key, value in parameters.items() for word in ("-p", f"{key}={json.dumps(value).strip(chr(34))}")
        ]
        command = [sys.executable, "-m", "queuemon", "runbook", "run", name, *given]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_until(when, timeout=90, message="the moment to stop it comes")
            self.look_around()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130

    def cells(self, name: str, *, after: Mapping[str, Callable[[], object]] | None = None, **parameters: Any) -> Any:
        """The same cells in this process; `after` says what happens once the cells of a step have run."""
        notebook = nbformat.read(runbooks.describe(name).path, as_version=4)
        for module in (detect, agreement, procedures, steps):
            for quick in ("WAIT_SECONDS", "LOOK_SECONDS", "INTERVAL"):
                if hasattr(module, quick):
                    self._patch.setattr(module, quick, 0.01)
        names: dict[str, Any] = {}
        self._used.append(names)
        step, left = "", dict(after or {})
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                left.pop(step, lambda: None)()
                step = cell.source.partition("\n")[0].removeprefix("## ")
            else:
                exec(compile(cell.source, f"{name}: {step}", "exec"), names)
                if "parameters" in cell.metadata.get("tags", ()):
                    names |= runbooks.describe(name).values(parameters)
        return names

    def close(self) -> None:
        """Give the connections back that cells have opened."""
        for names in self._used:
            if "wb" in names:
                names["wb"].close()

    def meanwhile(self, name: str, then: Callable[[], object], **parameters: Any) -> RunResult:
        """Run it, and do something beside it in this thread."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._alone, name, parameters)
            then()
            while not running.done():
                self.look_around()
                wait([running], timeout=0.25)
            return running.result()

    def look_around(self) -> None:
        """Remember what the process list shows."""
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                self.seen.add(" ".join(child.cmdline()))

    def leaks(self) -> list[tuple[str, str]]:
        """(Where, which) of the planted secrets: in what runs left, in the audit trail, in the process list."""
        runs = [path for path in (self.folder / "runs").rglob("*") if path.is_file()]
        texts = {path.name: path.read_text("utf-8", "replace") for path in runs}
        for table in ("queuemon.actions", "queuemon.action_events", "queuemon.approvals"):
            texts[table] = "\n".join(row["row"] for row in self.sql(_TRAIL.format(table)))
        texts["process list"] = "\n".join(self.seen)
        secrets = {**CANARIES, **{f"url {n}": text for n, text in enumerate(self.rig.settings.secrets())}}
        return sorted((where, name) for where, text in texts.items() for name, word in secrets.items() if word in text)

    def _alone(self, name: str, parameters: Mapping[str, Any]) -> RunResult:
        """In a thread, whose event loop is closed at the end."""
        try:
            return runbooks.run(name, parameters, runs_dir=self.folder / "runs")
        finally:
            ensure_event_loop().close()

    def everything(self) -> dict[str, Any]:
        """All that a runbook could change in either store."""
        rows = {t: self.sql(f"SELECT * FROM {t} ORDER BY 1, 2") for t in _TABLES}
        lists = {k: self.redis.lrange(k, 0, -1) for k in self.redis.scan_iter(match="queue:*")}
        flags = {k: self.redis.hgetall(k) for k in self.redis.scan_iter(match="queuemon:paused:*")}
        return {**rows, "lists": lists, "flags": flags}

    def states(self, queue: str = "mail") -> dict[str, int]:
        """Jobs of a queue by state."""
        found = self.sql("SELECT status, count(*) AS n FROM jobs WHERE queue = :q GROUP BY status", q=queue)
        return {row["status"]: row["n"] for row in found}

    def listed(self, queue: str = "mail") -> list[tuple[str, int | None]]:
        """(id, generation) of a queue's elements, sorted; without the empty places that a quarantine leaves."""
        return sorted((job_id, gen) for job_id, gen in self.rig.listed(queue) if UUID(job_id).int)

    def ended(self, number: int, status: str, *, ago: str = "1 minute", error: str = "boom") -> list[Any]:
        """Jobs of `mail` that have failed or expired a while ago; returns their ids."""
        return self.plant.rows(
            number, status=f"'{status}'", attempts="1", max_attempts="1", finished_at=f"now() - interval '{ago}'",
            created_at=f"now() - interval '{ago}' - interval '1 hour'", error_type="'ValueError'",
            error_message=f"'{error}: Authorization: Bearer {CANARIES['error']}'",
        )  # fmt: skip

    def actions(self) -> list[tuple[str, str, str]]:
        """Kind, target and state of the actions, the oldest first."""
        rows = self.sql("SELECT kind, target, state FROM queuemon.actions ORDER BY started_at, id")
        return [(row["kind"], row["target"], row["state"]) for row in rows]

    def record(self, name: str) -> str:
        """The HTML that the only run of a runbook left."""
        (html,) = (self.folder / "runs" / name).glob("*.html")
        return html.read_text("utf-8")


class Gate:
    """A handler that holds every job until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, job: object) -> None:
        self.open.wait(60)


@pytest.fixture
def floor(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Floor]:
    """The stores of the rig, with a profile for the kernels, in a working folder of the test's own.

    No run of any test may leave a secret anywhere.
    """
    made = Floor(rig, tmp_path, monkeypatch)
    yield made
    made.close()
    assert made.leaks() == []
