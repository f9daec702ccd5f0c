"""The demo with all its processes: each scenario comes about, and what is said to heal it does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from queuemon.config import Settings
from queuemon.contract import Health, JobStatus
from queuemon.demo import deploys, lifecycle, scenarios
from queuemon.demo.queues import ANALYTICS, EMAIL, HIGH, LOW, QUEUES
from queuemon.errors import InvalidValue, NotAllowed
from queuemon.model import QueueStats
from queuemon.workbench import Workbench
from tests.support.executed import executed
from tests.support.stores import private_folder
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A demo of this module's own, with its history and all its processes."""
    parent = private_folder()
    folder = parent / "demo"
    try:
        lifecycle.up(folder, say=print)
        yield folder
    finally:
        lifecycle.down(folder)
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def wb(folder: Path) -> Iterator[Workbench]:
    """A workbench on the demo, everything green."""
    scenarios.start("quiet", folder)
    with Workbench(lifecycle.settings_of(folder)) as workbench:
        yield workbench


def _queue(wb: Workbench, name: str) -> QueueStats:
    found = wb.snapshot().queue(name)
    assert found is not None
    return found


def _failed(wb: Workbench, name: str) -> int:
    return _queue(wb, name).failed


def test_quiet_is_green_served_and_moving(wb: Workbench, folder: Path) -> None:
    wait_until(
        lambda: all(q.workers == q.queue.concurrency for q in wb.snapshot().queues),
        timeout=30,
        message="every queue has its workers",
    )
    before = {q.name: q.completed for q in wb.snapshot().queues}
    assert set(before) == {q.name for q in QUEUES}
    wait_until(
        lambda: all(q.completed > before[q.name] for q in wb.snapshot().queues),
        timeout=20,
        message="every queue completes something",
    )
    for q in wb.snapshot().queues:
        assert q.health is Health.HEALTHY
        assert q.failed <= scenarios.TOLERATED
    status = lifecycle.status(folder)
    assert set(status.processes) == set(lifecycle.PROCESSES)
    assert status.scenario == "quiet"
    assert status.history_jobs >= 200_000


def test_the_process_list_shows_no_password(wb: Workbench, folder: Path) -> None:
    secrets = wb.settings.secrets()
    assert secrets
    shown = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert any("queuemon.demo.workload" in line for line in shown)
    assert not [line for line in shown for secret in secrets if secret in line]


#: Scenario → queue, words of its error, what its jobs share, the deploy that brought it.
TOLD = {
    "mrr-bug": (ANALYTICS, "Division by zero in MRR calculation", {"payload.active_subscriptions=0"}, deploys.MRR),
    "bad-template": (
        EMAIL, "Missing helper", {"payload.template=spring-sale-v2", "payload.region=eu-west"}, deploys.TEMPLATE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TOLD))
def test_the_notebook_leads_from_red_to_the_planted_cause(wb: Workbench, folder: Path, name: str) -> None:
    queue, error, shared, bug = TOLD[name]
    scenarios.start(name, folder)
    before = {job.id for job in wb.jobs(f"queue:{queue} status:failed error:'{error}'", limit=1_000).jobs}

    notebook = executed(
        "investigate.ipynb", wb.settings,
        queue="case.queue", error="case.cause.text", new="case.cause.new_since", retry="case.filter",
        condition="case.finding.filter", support="case.finding.support", beside="case.began.beside",
        began="case.began.at.isoformat()", bucket="case.began.bucket_seconds",
    )  # fmt: skip
    told = notebook.values
    assert told["queue"] == queue, "the reddest one"
    assert error in told["error"], "the planted error comes first"
    assert told["new"] == bug.shipped
    assert told["beside"].endswith(f"deploy {bug.shipped}")
    shipped = next(deploy.at for deploy in wb.deploys() if deploy.name == bug.shipped)
    assert abs(datetime.fromisoformat(told["began"]) - shipped) <= timedelta(seconds=2 * told["bucket"])
    assert set(told["condition"].split()) == shared, "the first finding is the planted cause, and nothing more"
    assert told["support"] == 1

    selected = {job.id for job in wb.jobs(f"{told['retry']} {told['condition']}", limit=1_000).jobs}
    after = {job.id for job in wb.jobs(f"queue:{queue} status:failed error:'{error}'", limit=1_000).jobs}
    assert before
    assert before <= selected <= after, "exactly the failing jobs"
    for words in (f"queue:{queue}", error, bug.shipped, *shared, "What next", "Plan: retry", "Every bucket"):
        assert words in notebook.text, words
    assert notebook.charts == 3


def test_mrr_bug_fails_twelve_jobs_and_the_fix_lets_them_complete(wb: Workbench, folder: Path) -> None:
    text = scenarios.start("mrr-bug", folder)
    assert "mrr-fix" in text
    assert lifecycle.status(folder).scenario == "mrr-bug"
    assert _failed(wb, ANALYTICS) == 12
    page = wb.jobs(f"queue:{ANALYTICS} status:failed", limit=50)
    ids = [job.id for job in page.jobs]
    assert len(ids) == 12
    for job in page.jobs:
        assert (job.error_type, job.error_message) == ("ZeroDivisionError", "Division by zero in MRR calculation")
    last = wb.job(ids[0]).attempts[-1]
    assert last.stack_trace is not None
    assert "analytics/metrics/mrr.py" in last.stack_trace

    wb.retry(ids)  # without the fix they fail again
    wait_until(lambda: wb.statuses_of(ids).get(JobStatus.FAILED) == 12, timeout=60, message="12 fail again")

    scenarios.deploy("mrr-fix", folder)
    wb.retry(f"queue:{ANALYTICS} status:failed", reason="mrr-fix is out")
    wait_until(lambda: wb.statuses_of(ids) == {JobStatus.COMPLETED: 12}, timeout=60, message="all 12 complete")
    assert _failed(wb, ANALYTICS) == 0


def test_mrr_bug_twice_is_still_twelve(wb: Workbench, folder: Path) -> None:
    scenarios.start("mrr-bug", folder)
    scenarios.start("mrr-bug", folder)
    assert _failed(wb, ANALYTICS) == 12


def test_bad_template_fails_in_one_region_only(wb: Workbench, folder: Path) -> None:
    scenarios.start("bad-template", folder)
    both = "payload.template=spring-sale-v2 payload.region=eu-west"
    error = f'queue:{EMAIL} status:failed error:"Missing helper"'
    failed = wb.count(error).value
    assert failed >= scenarios.TEMPLATE_FAILURES
    assert wb.count(f"{error} {both}").value >= failed
    for company in (
        "payload.template=spring-sale-v2 payload.region!=eu-west",
        "payload.template!=spring-sale-v2 payload.region=eu-west",
    ):
        assert wb.count(f"queue:{EMAIL} status:completed age<10m {company}").value > 0

    scenarios.deploy("template-fix", folder)
    wb.retry(error, reason="template-fix is out")
    wait_until(lambda: wb.count(error).value == 0, timeout=60, message="nothing fails for the template")
    wait_until(lambda: _queue(wb, EMAIL).health is Health.HEALTHY, timeout=60, message="email-sending is green")


def test_black_friday_grows_until_exports_are_paused_and_workers_added(wb: Workbench, folder: Path) -> None:
    scenarios.start("black-friday", folder)
    backlog, high = _queue(wb, EMAIL), _queue(wb, HIGH)
    assert backlog.waiting >= 5_000
    assert backlog.health is Health.CRITICAL
    assert high.health is Health.HEALTHY
    wait_until(
        lambda: _queue(wb, EMAIL).waiting > backlog.waiting + 20 and _queue(wb, HIGH).completed > high.completed + 5,
        timeout=60,
        message="the backlog grows while urgent e-mails are sent",
    )
    assert _queue(wb, HIGH).waiting < 20

    wb.pause(LOW, reason="Black Friday")
    wb.scale(EMAIL, 8, reason="Black Friday")
    # That it clears to the end, the story of the same name watches.
    wait_until(
        lambda: _queue(wb, EMAIL).waiting < backlog.waiting - 500, timeout=240, interval=0.5,
        message="the backlog of 5,000 goes down",
    )  # fmt: skip
    assert _queue(wb, LOW).queue.paused
    wb.resume(LOW)
    wait_until(lambda: _queue(wb, LOW).active > 0, timeout=30, message="exports run again")


def test_worker_crash_comes_back_within_the_lease(wb: Workbench, folder: Path) -> None:
    text = scenarios.start("worker-crash", folder)
    stuck = [job.id for job in wb.jobs(f"queue:{LOW} status:active").jobs if str(job.id) in text]
    assert stuck
    lease = wb.settings.lease_seconds
    wait_until(
        lambda: wb.statuses_of(stuck) == {JobStatus.COMPLETED: len(stuck)},
        timeout=2 * lease + 30,
        interval=0.2,
        message="the dead workers' jobs have run",
    )
    assert any(a.status != "completed" for a in wb.job(stuck[0]).attempts), "the loss is in the job's history"
    wait_until(
        lambda: all(q.workers == q.queue.concurrency for q in wb.snapshot().queues),
        timeout=lease + 30,
        message="the supervisor has replaced the workers",
    )


def test_redis_loss_loses_nothing(wb: Workbench, folder: Path) -> None:
    before = _queue(wb, EMAIL)
    scenarios.start("redis-loss", folder)
    wait_until(
        lambda: (q := _queue(wb, EMAIL)).waiting < 20 and q.completed >= before.completed + scenarios.LOST_JOBS,
        timeout=120,
        interval=0.2,
        message="everything that waited has run",
    )
    assert _failed(wb, EMAIL) <= scenarios.TOLERATED


def test_unknown_names_are_answered_with_the_known_ones(wb: Workbench, folder: Path) -> None:
    with pytest.raises(InvalidValue, match=r"black-fridy.*quiet, black-friday.*did you mean black-friday"):
        scenarios.start("black-fridy", folder)
    with pytest.raises(InvalidValue, match="mrr-fix, template-fix"):
        scenarios.deploy("mrr", folder)


def test_up_heals_processes_that_were_killed(folder: Path) -> None:
    before = lifecycle.status(folder).processes
    for pid in before.values():
        psutil.Process(pid).kill()
    wait_until(lambda: not lifecycle.status(folder).processes, message="all three are gone")
    after = lifecycle.up(folder).processes
    assert set(after) == set(lifecycle.PROCESSES)
    assert not set(after.values()) & set(before.values())
    supervisor = psutil.Process(after[lifecycle.SUPERVISOR])
    number = sum(q.concurrency for q in QUEUES)
    wait_until(lambda: len(supervisor.children()) == number, timeout=30, message="the new supervisor has its workers")
    orphans = [p for p in psutil.process_iter() if _in_folder(p, folder) and "worker" in p.cmdline() and p.ppid() == 1]
    assert orphans == []


def test_down_leaves_nothing_running(folder: Path) -> None:
    mine = [p for p in psutil.process_iter() if _in_folder(p, folder)]
    assert len(mine) >= 3 + sum(q.concurrency for q in QUEUES)
    lifecycle.down(folder)
    assert [p for p in mine if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert not lifecycle.status(folder).running
    lifecycle.up(folder)
    assert lifecycle.status(folder).running


def _in_folder(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder))
    except psutil.Error:
        return False


@pytest.mark.parametrize("name", list(scenarios.SCENARIOS))
def test_scenarios_refuse_a_database_that_is_no_demo(settings: Settings, name: str) -> None:
    with pytest.raises(NotAllowed, match="not marked as a demo"):
        scenarios.start(name, settings=settings)


@pytest.mark.parametrize("name", list(deploys.FIXES))
def test_deploys_refuse_a_database_that_is_no_demo(settings: Settings, name: str) -> None:
    with pytest.raises(NotAllowed, match="not marked as a demo"):
        scenarios.deploy(name, settings=settings)
