"""What the details of a queue and of a job show: filter, page, counts, history, payload; knows no widget.

Every method reads through the Workbench in the caller's thread (the dashboard calls them from threads of its own). An
answer that was overtaken by a newer question is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from traitlets import Dict, HasTraits

from queuemon.contract import Keys
from queuemon.errors import FilterError, QueuemonError, UnknownJob, UsageError
from queuemon.filters import JobFilter
from queuemon.masking import REVEALED
from queuemon.model import JobDetail, QueueStats
from queuemon.render.text import clean
from queuemon.views.jobs import PAGE, job_values, page_values
from queuemon.views.state import Board
from queuemon.workbench import Workbench

#: The status tabs, in order; "all" has no condition.
TABS: Final = ("all", "waiting", "scheduled", "active", "stuck", "completed", "failed", "expired")

#: Hours of the charts and cards that can be chosen.
SPANS: Final = (0.25, 1, 6, 24, 168)

#: An open job is read again with each refresh while that costs no more than this; a dearer one takes at most this share
#: of the time.
CHEAP_SECONDS: Final = 0.3
JOB_SHARE: Final = 0.1

#: Columns out of payloads beside a page of jobs.
COLUMNS: Final = 4

#: What stays readable of a filter typed by hand.
FILTER_LENGTH: Final = 4_000


class Inspector(HasTraits):
    """The queue that is open, its page of jobs, and the job that is open."""

    #: The open queue, its tabs and the current question; empty when none is open.
    details = Dict()
    #: The page of jobs that answers it.
    page = Dict()
    #: The open job; empty when none is.
    job = Dict()

    def __init__(self, workbench: Workbench, board: Board) -> None:
        super().__init__()
        self._workbench = workbench
        self._board = board
        self._keys: Keys = workbench.settings.keys
        self._lock = threading.RLock()
        self._question = 0
        self._cursors: list[str | None] = [None]
        self._job_cost = self._job_read = 0.0
        #: Queue → the paths in payloads that are columns of its list.
        self._columns: dict[str, list[list[str]]] = {}
        #: The open job whose masked values are shown, and under which keys.
        self._revealed: tuple[str, frozenset[str]] = ("", frozenset())

    # ------------------------------------------------------------------------------------------------------ queue

    def open(self, queue: str, status: str = "all") -> None:
        """Show a queue's jobs, newest first."""
        with self._lock:
            self.page = {}
            self.details = {
                "queue": queue,
                "title": clean(self._keys.display(queue), 200),
                "status": status if status in TABS else "all",
                "text": "",
                "hours": 6,
                "counts": tab_counts(self._board.queue(queue)),
                "columns": self._columns.get(queue, []),
                "paths": [],
            }
        self.ask(status=status, text="")

    def close(self) -> None:
        """Show no queue."""
        with self._lock:
            self._question += 1
            self.details, self.page = {}, {}

    def ask(self, *, status: str, text: str) -> None:
        """The first page for another tab or filter; a filter that does not parse is answered beside its box."""
        with self._lock:
            if not self.details:
                return
            self._cursors = [None]
            self.details = self.details | {"status": status if status in TABS else "all", "text": text[:FILTER_LENGTH]}
        self._read_page(None)

    def find_paths(self) -> None:
        """What stands in the payloads of this page: offered as columns, and by the filter box."""
        queue, ids = self.details.get("queue"), [UUID(row["id"]) for row in self.page.get("rows", ())]
        found = self._workbench.payload_paths(ids) if ids else ()
        with self._lock:
            if queue is not None and self.details.get("queue") == queue:
                known = [list(path) for path in found]
                known += [path for path in self.details.get("columns", []) if path not in known]
                self.details = self.details | {"paths": sorted(known), "looked": True}

    def choose_columns(self, paths: Sequence[Any]) -> None:
        """Show these paths as columns of the list, in this order, once it is read again."""
        chosen = [[str(key)[:200] for key in path][:20] for path in paths if isinstance(path, list) and path][:COLUMNS]
        with self._lock:
            if not self.details:
                return
            self._columns[self.details["queue"]] = chosen
            self.details = self.details | {"columns": chosen}

    def turn(self, forward: bool) -> None:
        """The page of older (forward) or newer jobs."""
        with self._lock:
            if forward and self.page.get("after"):
                self._cursors.append(self.page["after"])
            elif not forward and len(self._cursors) > 1:
                self._cursors.pop()
            else:
                return
            cursor = self._cursors[-1]
        self._read_page(cursor)

    def reload(self) -> None:
        """Read the page again as it is asked for now."""
        if self.details:
            self._read_page(self._cursors[-1])

    def span(self, hours: float) -> None:
        """Another window for the charts and cards."""
        with self._lock:
            if self.details and hours in SPANS:
                self.details = self.details | {"hours": hours}

    def refresh(self, *, acted: bool = False) -> None:
        """With every refresh of the board: new values into what is open, nothing moved or replaced under the hand.
        After an action the open job is read whatever that costs."""
        with self._lock:
            opened = bool(self.details)
            if opened:
                self.details = self.details | {"counts": tab_counts(self._board.queue(self.details["queue"]))}
        if opened:
            self._refresh_page()
        rest = 0.0 if acted or self._job_cost <= CHEAP_SECONDS else self._job_cost / JOB_SHARE
        job = self.job
        if job and not job.get("gone") and time.monotonic() - self._job_read >= rest:
            self.open_job(job["id"], again=True)

    def filter(self) -> JobFilter:
        """The filter of the open queue, tab and box; raises FilterError for what the box holds."""
        return compose(self.details["queue"], self.details["status"], self.details["text"])

    def _read_page(self, cursor: str | None) -> None:
        with self._lock:
            self._question += 1
            question, number = self._question, len(self._cursors)
            self.page = self.page | {"loading": True}
        try:
            answer = self._fetch(cursor, number) | {"matching": self._matching()}
        except UsageError as error:
            position = error.position if isinstance(error, FilterError) else None
            answer = self.page | {
                "loading": False,
                "error": clean(str(error), 600),
                "position": position,
                "away": False,
            }
        except QueuemonError as error:
            answer = self.page | {"loading": False, "error": clean(str(error), 600), "position": None, "away": True}
        with self._lock:
            if question == self._question:
                self.page = answer

    def _fetch(self, cursor: str | None, number: int) -> dict[str, Any]:
        found = self._workbench.jobs(self.filter(), limit=PAGE, after=cursor)
        page = page_values(found, number, self._workbench.settings.lease_seconds)
        columns = self.details.get("columns")
        if columns and found.jobs:
            values = self._workbench.payload_values([job.id for job in found.jobs], columns)
            nothing = ("",) * len(columns)
            for row, job in zip(page["rows"], found.jobs, strict=True):
                row["values"] = [clean(value, 160) for value in values.get(job.id, nothing)]
        return page | {"columns": columns or []}

    def _matching(self) -> dict[str, Any]:
        found = self._workbench.count(self.filter())
        return {"value": found.value, "text": str(found)}

    def _refresh_page(self) -> None:
        """New values for the same jobs; other jobs do not push in, the page says that there are some."""
        with self._lock:  # of one moment: else a page that was asked for meanwhile gives way to the one before
            shown, question, cursors = self.page, self._question, list(self._cursors)
        if not shown or shown.get("loading") or (shown.get("error") and not shown.get("away")):
            return
        fresh = self._fetch(cursors[-1], len(cursors))
        ids = [row["id"] for row in shown.get("rows", ())]
        if [row["id"] for row in fresh["rows"]] == ids or not ids:
            answer = shown | fresh | {"matching": self._matching(), "changed": False}
        else:
            known = {row["id"]: row for row in fresh["rows"]}
            rows = [known.get(row["id"], row) for row in shown["rows"]]
            answer = shown | {"rows": rows, "changed": True, "error": "", "away": False}
        with self._lock:
            if question == self._question:
                self.page = answer

    # -------------------------------------------------------------------------------------------------------- job

    def open_job(self, job_id: str, *, again: bool = False) -> None:
        """Show a job; `again` keeps what is on screen when the job has been deleted meanwhile."""
        if not again:
            self._revealed = ("", frozenset())
            self.job = {"id": job_id, "loading": True}
        started = time.monotonic()
        try:
            found = self._seen(self._workbench.job(job_id))
            values = job_values(found, self._keys, self._workbench.settings.lease_seconds)
        except UnknownJob as error:
            values = self.job | {"gone": clean(str(error), 600), "loading": False}
        except QueuemonError as error:
            if again:
                raise
            values = {"id": job_id, "error": clean(str(error), 600)}
        with self._lock:
            if self.job.get("id") == job_id:
                self._job_read = time.monotonic()
                self._job_cost = self._job_read - started
                self.job = values

    def reveal(self, job_id: str, keys: Sequence[str]) -> None:
        """Show what is masked under these keys of the open job, until it is closed; the audit trail has it already."""
        if self.job.get("id") == job_id:
            self._revealed = (job_id, frozenset(keys))
            self.open_job(job_id, again=True)

    def mask(self) -> None:
        """Mask the open job's payload again."""
        self._revealed = ("", frozenset())
        job = self.job
        if job:
            self.open_job(job["id"], again=True)

    def close_job(self) -> None:
        """Show no job."""
        with self._lock:
            self._revealed = ("", frozenset())
            self.job = {}

    def _seen(self, found: JobDetail) -> JobDetail:
        """The job as the operator may see it: where its payload has got other secrets meanwhile, they are masked."""
        job_id, keys = self._revealed
        if job_id == str(found.job.id) and keys.issuperset(found.masking.paths(found.job.payload)):
            return replace(found, masking=REVEALED)
        return found


# ------------------------------------------------------------------------------------------- values into plain JSON


def compose(queue: str, status: str, text: str) -> JobFilter:
    """One filter from the open queue, the tab and the text of the box; raises FilterError where the text is wrong."""
    found = JobFilter.of(queue=queue, status=None if status == "all" else status)
    return found & JobFilter.parse(text) if text.strip() else found


def tab_counts(q: QueueStats | None) -> dict[str, int]:
    """Jobs of a queue by tab; empty when nothing is known."""
    if q is None:
        return {}
    counts = {
        "waiting": q.waiting,
        "scheduled": q.scheduled,
        "active": q.active,
        "completed": q.completed,
        "failed": q.failed,
        "expired": q.expired,
    }
    return {"all": sum(counts.values())} | counts | {"stuck": q.stuck}
