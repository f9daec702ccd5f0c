"""Writes the jobs of a list to a file on the kernel's disk and hands it to the page in parts, to be downloaded.

The page asks for one part after the other: what the server in between drops is asked for again, and nothing but the
widget's own comm is needed, in JupyterLab as in Voilà. What is too large for that stays a file, whose path is shown.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, cast

from traitlets import Dict, HasTraits

from queuemon.errors import QueuemonError
from queuemon.filters import JobFilter
from queuemon.render.text import clean
from queuemon.workbench import Workbench

#: Jobs of one export from the page; the command line takes more.
JOBS: Final = 1_000_000

#: Bytes of one part, and of all of them: Jupyter's servers drop what comes faster than 1 MB/s. Parts are compressed.
PART: Final = 200_000
DOWNLOAD: Final = 8_000_000

SECONDS: Final = 900.0

COLUMNS: Final = (
    "id", "queue", "status", "attempts", "max_attempts", "created_at", "started_at", "finished_at", "worker_id",
    "error_type", "error_message",
)  # fmt: skip


class _Stopped(Exception):
    """Somebody pressed Stop."""


class Exporter(HasTraits):
    """The one export that is under way, or was last."""

    #: {id, state, text, rows, total, …}; state is writing, ready (parts, name, type), kept (path), stopped or failed.
    exported = Dict()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._file: Path | None = None

    def start(self, token: str, where: JobFilter, total: int, kind: str, paths: Sequence[Sequence[str]]) -> None:
        """Write all matching jobs with their payloads, and what stands under these paths, masked; `kind`: csv, json."""
        with self._lock:
            if self.exported.get("state") == "writing":
                return
            self._drop()
            self._stop = stop = threading.Event()
            self.exported = {"id": token, "state": "writing", "rows": 0, "total": min(total, JOBS)}
        columns = [*COLUMNS, *(f"payload.{'.'.join(path)}" for path in paths), "payload"]
        write = self._workbench.export_json if kind == "json" else self._workbench.export_csv
        folder = Path(tempfile.mkdtemp(prefix="queuemon-export-"))
        queues = sorted(where.queues() or ())
        about = re.sub(r"[^A-Za-z0-9]+", "-", queues[0] if len(queues) == 1 else "jobs").strip("-")[:60] or "jobs"
        name = f"{about}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{'json' if kind == 'json' else 'csv'}"
        path = folder / f"{name}.gz"
        try:
            with gzip.open(path, "wb", compresslevel=4) as target:
                counter = _Counter(target, lambda rows: self._tell(token, rows), stop)
                write(cast("IO[bytes]", counter), where, columns=columns, limit=JOBS, seconds=SECONDS)
            self._finish(token, path, name, counter.rows - 1)
        except _Stopped:
            self._discard(path)
            self._say(token, state="stopped", text="Stopped; nothing was kept.")
        except (QueuemonError, OSError) as error:
            self._discard(path)
            self._say(token, state="failed", text=clean(str(error), 600))
        except BaseException:
            self._discard(path)
            self._say(token, state="failed", text="The export failed.")
            raise

    def stop(self) -> None:
        """End the export that runs."""
        self._stop.set()

    def part(self, token: str, number: int, send: Callable[..., None]) -> None:
        """Send one part (from 0) to the page that asked."""
        with self._lock:
            path, ours = self._file, self.exported.get("id") == token
        if path is None or not ours or number < 0:
            return
        with path.open("rb") as file:
            file.seek(number * PART)
            content = file.read(PART)
        send({"method": "part", "args": [token, number]}, [content])

    def done(self, token: str) -> None:
        """The page has it: the file goes."""
        with self._lock:
            if self.exported.get("id") == token:
                self._drop()
                self.exported = {}

    def close(self) -> None:
        """End, and leave no file behind but one whose path was shown."""
        self._stop.set()
        with self._lock:
            self._drop()

    def _finish(self, token: str, path: Path, name: str, rows: int) -> None:
        size = path.stat().st_size
        cut = f" (the newest {JOBS:,}; the command line takes more)" if rows >= JOBS else ""
        if size <= DOWNLOAD:
            with self._lock:
                self._file = path
            self._say(
                token, state="ready", rows=rows, parts=-(-size // PART), bytes=size, name=name, cut=cut,
                type="application/json" if name.endswith("json") else "text/csv",
            )  # fmt: skip
            return
        kept = Path.cwd() / path.name
        try:
            path.replace(kept)
            path.parent.rmdir()
        except OSError:
            kept = path
        text = f"{rows:,} jobs are more than a page takes. They are on the disk of the kernel, compressed{cut}:"
        self._say(token, state="kept", rows=rows, text=text, path=clean(str(kept), 1_000))

    def _tell(self, token: str, rows: int) -> None:
        self._say(token, rows=rows)

    def _say(self, token: str, **changes: Any) -> None:
        with self._lock:
            if self.exported.get("id") == token:
                self.exported = self.exported | changes

    def _drop(self) -> None:
        if self._file is not None:
            self._discard(self._file)
            self._file = None

    @staticmethod
    def _discard(path: Path) -> None:
        path.unlink(missing_ok=True)
        if path.parent.name.startswith("queuemon-export-") and path.parent.exists():
            os.rmdir(path.parent)


class _Counter:
    """Counts lines on their way into the file, tells twice a second, and ends when somebody asks."""

    def __init__(self, target: gzip.GzipFile, tell: Callable[[int], None], stop: threading.Event) -> None:
        self.rows = 0
        self._target, self._tell, self._stop, self._told = target, tell, stop, time.monotonic()

    def write(self, block: bytes) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._target.write(block)
        self.rows += 1
        if time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            self._tell(self.rows)


def asked(data: Mapping[str, Any]) -> tuple[str, str]:
    """The token of the page that asks and the kind of file, from an event."""
    return str(data.get("id", ""))[:80], "json" if data.get("kind") == "json" else "csv"
