"""The live dashboard: one Vue widget over the three states, a poller, and threads that keep the kernel free.

The page gets values through traits and answers with events alone; what a person has opened, typed, selected or sorted
lives in the page, so a refresh cannot take it away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ipyvuetify.VuetifyTemplate import VuetifyTemplate
from ipywidgets import widget_serialization
from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Int, List, Unicode

from queuemon.errors import QueuemonError
from queuemon.model import ActionKind, ActionResult, RedisHalf
from queuemon.render import html, queue_charts
from queuemon.views.alerts import Alerts
from queuemon.views.audit import Audit
from queuemon.views.confirm import Confirmation
from queuemon.views.drift import Drift
from queuemon.views.editor import Editor
from queuemon.views.exporter import Exporter, asked
from queuemon.views.insight import Insight
from queuemon.views.inspector import Inspector, compose
from queuemon.views.poller import Poller
from queuemon.views.problems import Problems
from queuemon.views.runbooks import Runbooks
from queuemon.views.runs import Runs
from queuemon.views.show import values
from queuemon.views.state import Board, as_text, parted
from queuemon.views.words import vocabulary
from queuemon.workbench import Workbench

TEMPLATES: Final = Path(__file__).parent / "templates"

#: The parts of the page, each a template of its own.
PARTS: Final = (
    "strip",
    "alerts",
    "queues",
    "details",
    "insight",
    "job",
    "form",
    "confirm",
    "activity",
    "action",
    "drift",
    "runbooks",
    "runbook",
    "menu",
    "messages",
)

#: Operator actions listed, and where they stand alone.
ACTIVITY: Final = 20
ALONE: Final = 200

#: How long the first display waits for the first snapshot.
FIRST_SECONDS: Final = 0.5

#: How long a queue that is to be open from the start waits for it.
PATIENCE_SECONDS: Final = 30.0


class Dashboard(VuetifyTemplate):
    """A Workbench on screen. `close()` stops its poller and removes it from the page."""

    template_file = str(TEMPLATES / "dashboard.vue")

    strip = Dict().tag(sync=True)
    rows: List[Any] = List().tag(sync=True)
    #: What moves in the rows: see `parted`.
    numbers: List[Any] = List().tag(sync=True)
    alerts: List[Any] = List().tag(sync=True)
    activity: List[Any] = List().tag(sync=True)
    problems: List[Any] = List().tag(sync=True)
    toast = Dict().tag(sync=True)
    details = Dict().tag(sync=True)
    page = Dict().tag(sync=True)
    job = Dict().tag(sync=True)
    causes = Dict().tag(sync=True)
    story = Dict().tag(sync=True)
    contrast = Dict().tag(sync=True)
    plan = Dict().tag(sync=True)
    exported = Dict().tag(sync=True)
    #: The words of the filter language.
    words = Dict().tag(sync=True)
    draft = Dict().tag(sync=True)
    running = Dict().tag(sync=True)
    action = Dict().tag(sync=True)
    outcomes = Dict().tag(sync=True)
    watch = Dict().tag(sync=True)
    report = Dict().tag(sync=True)
    looking = Dict().tag(sync=True)
    quarantine: List[Any] = List().tag(sync=True)
    shelf: List[Any] = List().tag(sync=True)
    ran: List[Any] = List().tag(sync=True)
    book = Dict().tag(sync=True)
    run = Dict().tag(sync=True)
    record = Dict().tag(sync=True)
    #: The charts of the open queue; made when a queue is first opened (plotly's code is 5 MB).
    figure = AnyTrait(None, allow_none=True).tag(sync=True, **widget_serialization)
    #: The one panel that is shown: "drift", "activity", "queue"; empty for all of them.
    part = Unicode("").tag(sync=True)
    #: Answers of the kernel to the page's signs of life; one that does not come is said there.
    pulse = Int(0).tag(sync=True)
    #: True once the poller has ended: the page says so.
    stopped = Bool(False).tag(sync=True)

    def __init__(self, workbench: Workbench, *, interval: float = 5.0, part: str = "", queue: str = "") -> None:
        self.workbench = workbench
        self.listed = ALONE if part == "activity" else ACTIVITY
        self.board = Board(workbench.settings, interval=interval)
        self.trouble = Problems(workbench.settings)
        self.bell = Alerts(workbench.settings)
        self.inspector = Inspector(workbench, self.board)
        self.insight = Insight(workbench, self._in_thread)
        self.runs = Runs()
        self.confirmation = Confirmation(workbench, self.runs)
        self.audit = Audit(workbench)
        self.editor = Editor(workbench)
        self.exporter = Exporter(workbench)
        self.drift = Drift(workbench)
        self.runbooks = Runbooks(workbench, told=self.board.announce)
        self._places: dict[str, int] = {}
        parts = {f"qm-{name}": (TEMPLATES / f"{name}.vue").read_text("utf-8") for name in PARTS}
        super().__init__(components=parts, words=vocabulary(), part="queue" if queue else part)
        for state, names in (
            (self.board, ["strip", "activity", "toast"]),
            (self.trouble, ["problems"]),
            (self.bell, ["alerts"]),
            (self.inspector, ["details", "page", "job"]),
            (self.insight, ["causes", "story", "contrast"]),
            (self.confirmation, ["plan"]),
            (self.runs, ["running"]),
            (self.audit, ["action", "outcomes"]),
            (self.editor, ["draft"]),
            (self.exporter, ["exported"]),
            (self.drift, ["watch", "report", "looking", "quarantine"]),
            (self.runbooks, ["shelf", "ran", "book", "run", "record"]),
        ):
            for name in names:
                setattr(self, name, getattr(state, name))
            state.observe(self._mirror, names=names)
        self.board.observe(self._part, names=["rows"])
        self.insight.observe(self._draw, names=["curves"])
        self._drawing = threading.Lock()
        self._first = threading.Event()
        self._answer_while_a_cell_runs()
        self.poller = Poller(self._poll, interval=interval)
        self.poller.start()
        if queue:
            self._in_thread("opening a queue", lambda: self._open_first(queue))

    def _open_first(self, queue: str) -> None:
        self._first.wait(PATIENCE_SECONDS)  # its counts come with the first snapshot
        self._open(queue)

    def _open(self, queue: str, status: str = "all") -> None:
        self.inspector.open(queue, status)
        self._look()

    def close(self) -> None:
        """Stop polling and take the widget off every page."""
        if hasattr(self, "poller"):
            self.poller.stop()
            self.insight.close()
            self.runbooks.close()
            self.stopped = True
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Beside the live widget a static rendering, for where no kernel runs (an executed notebook, a report)."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
        # A snapshot takes milliseconds; waiting for it shows numbers at first sight instead of a skeleton.
        self._first.wait(FIRST_SECONDS)
        if (snapshot := self.board.snapshot) is None:
            return data | {"text/plain": repr(self.workbench)}
        found = html.static(snapshot, self.workbench.settings.keys)
        if self.part:
            with suppress(QueuemonError):  # the page says it
                found = values(self.workbench, self.part, self.details.get("queue", ""))
        return data | {"text/html": found.html, "text/plain": found.text}

    # ------------------------------------------------------------------------------------------- from state to page

    def _mirror(self, change: Mapping[str, Any]) -> None:
        setattr(self, change["name"], change["new"])

    def _part(self, change: Mapping[str, Any]) -> None:
        """The rows in two parts, the numbers first: a row without its numbers waits for them."""
        rows, self.numbers = parted(change["new"], self._places)
        self.rows = rows

    def _draw(self, change: Mapping[str, Any]) -> None:
        """New values into the charts of the open queue; another queue gets charts of its own.

        plotly fails on values that come while a drawing is taken off the page or not yet on it.
        """
        curves: queue_charts.Curves | None = change["new"]
        with self._drawing:
            if curves is None:
                old, self.figure = self.figure, None
                if old is not None:
                    old.close()
            elif self.figure is None:
                self.figure = queue_charts.figure(curves, live=True)
            else:
                queue_charts.update(self.figure, curves)

    def _poll(self) -> None:
        watch = self.trouble.watch
        watch("refresh", self._read_board)
        self._first.set()
        watch("looking for drift", self._quietly(self._watch_drift))
        watch("judging alerts", self._judge_alerts)
        watch("refreshing the details", self._quietly(self.inspector.refresh))
        watch("reading the cards", self._tick_cards)
        watch("refreshing the action", self._quietly(self.audit.refresh))
        watch("reading the runs of runbooks", self._quietly(self.runbooks.tick))

    def _tick_cards(self) -> None:
        opened = self.board.queue(self.inspector.details.get("queue", ""))
        self.insight.tick(opened.workers if opened else None)

    def _judge_alerts(self) -> None:
        if self.board.snapshot is not None:
            self.bell.look(self.board.snapshot, self.drift.seen)

    def _watch_drift(self) -> None:
        self.drift.tick()
        if self.board.snapshot is not None and isinstance(self.board.snapshot.redis, RedisHalf):
            self.drift.read_quarantine(self.board.snapshot.redis)

    def _read_board(self) -> None:
        snapshot = self.workbench.snapshot()
        self.board.accept(snapshot)
        self.trouble.accept(snapshot)
        self._quietly(self._read_activity)()

    def _read_activity(self) -> None:
        self.board.accept_activity(self.workbench.actions(limit=self.listed))
        if self.board.paused:
            self.board.accept_pauses(self.workbench.pauses())
        self.board.set_read_only(self.workbench.read_only_reason)

    def _quietly(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work`, unless the strip already says that PostgreSQL is away.

        Each of these reads would wait for it as long as the first one did, and Redis's numbers would wait with them.
        """

        def quiet() -> None:
            if not self.strip["postgres"]["error"]:
                work()

        return quiet

    # ------------------------------------------------------------------------------------------ from page to kernel

    def _in_thread(self, where: str, work: Callable[[], None]) -> None:
        threading.Thread(
            target=self.trouble.guard, args=(where, work), name=f"queuemon-{where.replace(' ', '-')}", daemon=True
        ).start()

    def vue_alive(self, data: object) -> None:
        """A page shows the dashboard (sent every few seconds)."""
        self.poller.seen()
        self.pulse += 1

    def vue_refresh(self, data: object) -> None:
        """Refresh now."""
        self.poller.seen()
        self.poller.refresh()
        if self.inspector.page.get("changed"):
            self._in_thread("reading jobs", self.inspector.reload)

    def vue_set_interval(self, data: object) -> None:
        """Seconds between refreshes."""
        if isinstance(data, int | float):
            self.board.set_interval(data)
            self.poller.set_interval(self.board.interval)

    def vue_dismiss(self, data: object) -> None:
        """Take a problem off the screen."""
        if isinstance(data, int):
            self.trouble.dismiss(data)

    def vue_open_queue(self, data: Mapping[str, Any]) -> None:
        """View details."""
        self._in_thread("opening a queue", lambda: self._open(as_text(data, "queue"), as_text(data, "status") or "all"))

    def vue_close_queue(self, data: object) -> None:
        """Close the details."""
        self.inspector.close()

        def work() -> None:
            if not self.inspector.details:  # none was opened meanwhile
                self.insight.close()

        self._in_thread("closing the details", work)

    def vue_ask(self, data: Mapping[str, Any]) -> None:
        """Another tab or filter."""
        self._in_thread(
            "reading jobs", lambda: self.inspector.ask(status=as_text(data, "status"), text=as_text(data, "text"))
        )

    def vue_find_paths(self, data: object) -> None:
        """Which paths the payloads of this page hold."""
        self._in_thread("reading payloads", self.inspector.find_paths)

    def vue_choose_columns(self, data: object) -> None:
        """Paths in payloads as columns of the list."""
        if isinstance(data, list):
            self.inspector.choose_columns(data)
            self._in_thread("reading jobs", self.inspector.reload)

    def vue_export_jobs(self, data: Mapping[str, Any]) -> None:
        """All jobs that match, as a file."""
        token, kind = asked(data)
        matching = self.inspector.page.get("matching") or {}
        paths = self.inspector.details.get("columns", [])
        where = self.inspector.filter()
        self._in_thread(
            "exporting", lambda: self.exporter.start(token, where, int(matching.get("value", 0)), kind, paths)
        )

    def vue_export_part(self, data: Mapping[str, Any]) -> None:
        """The page takes an export part by part."""
        number = data.get("part")
        if isinstance(number, int):
            self.exporter.part(as_text(data, "id"), number, self.send)

    def vue_export_done(self, data: object) -> None:
        """The page has all of it, or does not want it."""
        self.exporter.done(str(data))

    def vue_export_stop(self, data: object) -> None:
        """End the export."""
        self.exporter.stop()

    def vue_turn(self, data: object) -> None:
        """Older or newer jobs."""
        self._in_thread("reading jobs", lambda: self.inspector.turn(bool(data)))

    def vue_reload(self, data: object) -> None:
        """Show the newest jobs."""
        self._in_thread("reading jobs", self.inspector.reload)

    def vue_span(self, data: object) -> None:
        """Hours of the charts and cards."""
        if isinstance(data, int | float):
            self.inspector.span(data)
            self._in_thread("reading the charts", self._look)

    def vue_compare(self, data: object) -> None:
        """What do the failing jobs share: those of a signature, or all of the queue."""
        self._in_thread("comparing jobs", lambda: self.insight.compare(str(data or "")))

    def vue_stop_comparing(self, data: object) -> None:
        """End the comparison, or put its answer away."""
        self._in_thread("comparing jobs", self.insight.stop)

    def _look(self) -> None:
        details = self.inspector.details
        if details:
            opened = self.board.queue(details["queue"])
            self.insight.look(details["queue"], details["hours"], opened.workers if opened else 0)

    def vue_open_job(self, data: object) -> None:
        """Job details."""
        self._in_thread("opening a job", lambda: self.inspector.open_job(str(data)))

    def vue_close_job(self, data: object) -> None:
        """Close the job's dialog."""
        self.inspector.close_job()

    def vue_mask_job(self, data: object) -> None:
        """Mask the open job's payload again."""
        self._in_thread("masking", self.inspector.mask)

    def vue_propose(self, data: Mapping[str, Any]) -> None:
        """A button that changes something: make its plan and show it."""

        def work() -> None:
            options = data.get("options")
            given = options if isinstance(options, dict) else {}
            if data.get("kind") == "edit":
                self.editor.propose(self.confirmation, as_text(data, "target"), as_text(given, "payload"))
            else:
                self.confirmation.propose(as_text(data, "kind"), self._target(data), given, form=bool(data.get("form")))

        self._in_thread("planning", work)

    def vue_adjust(self, data: Mapping[str, Any]) -> None:
        """Other options for the plan on screen."""
        self._in_thread("planning", lambda: self.confirmation.adjust(data))

    def vue_edit(self, data: object) -> None:
        """Edit a job's payload: it is read first."""
        self._in_thread("reading a payload", lambda: self.editor.open(str(data)))

    def vue_close_edit(self, data: object) -> None:
        """Edit no payload."""
        self.editor.close()

    def vue_undo(self, data: object) -> None:
        """Undo an action: its plan first."""
        self._in_thread("planning", lambda: self.confirmation.propose("undo", str(data)))

    def vue_resume_action(self, data: object) -> None:
        """Go on with an action that was interrupted or stopped: how far it came first."""
        self._in_thread("planning", lambda: self.confirmation.propose_resume(str(data)))

    def vue_confirm(self, data: Mapping[str, Any]) -> None:
        """The confirm button."""

        def work() -> None:
            rate = data.get("rate")
            result = self.confirmation.apply(
                as_text(data, "id"),
                reason=as_text(data, "reason"),
                typed=as_text(data, "typed"),
                rate=rate if isinstance(rate, int | float) and rate > 0 else None,
            )
            if result is not None:
                self._tell(result)

        self._in_thread("acting", work)

    def vue_cancel(self, data: object) -> None:
        """Close the confirmation; what runs goes on."""
        self.confirmation.cancel()
        self.poller.refresh()

    def vue_halt(self, data: object) -> None:
        """Stop an action: one that runs here after its chunk; one of elsewhere, or whose process died, in its row."""
        if not self.runs.stop(str(data)):
            self._in_thread("stopping", lambda: self._stop(str(data)))

    def _stop(self, action_id: str) -> None:
        record = self.workbench.stop_action(action_id)
        try:
            self._read_board()
        finally:
            self.board.announce_stop(record)
        if self.audit.action:
            self.audit.refresh()

    def vue_open_action(self, data: object) -> None:
        """Action details."""
        self._in_thread("opening an action", lambda: self.audit.open(str(data)))

    def vue_close_action(self, data: object) -> None:
        """Close the action's dialog."""
        self.audit.close()

    def vue_only_outcome(self, data: object) -> None:
        """Outcomes of one kind."""
        self._in_thread("reading outcomes", lambda: self.audit.only(str(data)))

    def vue_turn_outcomes(self, data: object) -> None:
        """The next or the previous outcomes."""
        self._in_thread("reading outcomes", lambda: self.audit.turn(bool(data)))

    def vue_look_closely(self, data: object) -> None:
        """Compare the stores; true compares payloads too."""
        self._in_thread("looking for drift", lambda: self.drift.look(deep=bool(data)))

    def vue_repair(self, data: object) -> None:
        """Repair what the last close look found, of these kinds (none: of all): its plan first."""
        chosen = [n for n in data if isinstance(n, int)] if isinstance(data, list) else []
        self._in_thread("planning", lambda: self.drift.propose_repair(self.confirmation, chosen))

    def vue_stop_looking(self, data: object) -> None:
        """End the comparison that runs."""
        self.drift.stop()

    def vue_runbook(self, data: Mapping[str, Any]) -> None:
        """Something in the panel of runbooks, or the button of an alert that opens one: see `Runbooks.answer`."""
        self._in_thread("the runbook", lambda: self.runbooks.answer(data))

    def _target(self, data: Mapping[str, Any]) -> str | Sequence[str]:
        """What an event is about: the filter on screen, a queue with a status, a queue's name, or selected ids."""
        if data.get("matching"):
            return str(self.inspector.filter())
        if "queue" in data:
            return str(compose(as_text(data, "queue"), as_text(data, "status") or "all", ""))
        return data.get("target") or ""

    def _tell(self, result: ActionResult) -> None:
        """Show what an action did; its numbers come first, since they know whether it can be undone."""
        try:
            self._read_board()
        finally:
            self.board.announce_result(result)
        if result.kind is ActionKind.REVEAL:
            shown = self.workbench.action(result.id)
            self.inspector.reveal(shown.target, shown.options.get("keys", ()))
            return
        self.inspector.reload()
        self.inspector.refresh(acted=True)
        if self.audit.action:
            self.audit.refresh()
        if result.kind is ActionKind.REPAIR:
            self.drift.look(deep=bool(self.drift.report.get("deep")))

    def _handle_event(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        """Events of the page: those named here and nothing else; an error in one is shown, not lost."""
        name = content.get("event")
        handler = getattr(self, f"vue_{name}", None) if isinstance(name, str) and name in self.events else None
        if handler is not None:
            self.trouble.guard(f"{name}", lambda: handler(content.get("data")))

    def _answer_while_a_cell_runs(self) -> None:
        """Let a click be answered by JupyterLab's kernel subshell.

        ipykernel 7 hands a message of the page to the shell that last *wrote* on its comm, which is the one of the
        cell, and so behind the running cell. The shell that the page asked for is the right one.
        """
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda data, wanted: wanted
