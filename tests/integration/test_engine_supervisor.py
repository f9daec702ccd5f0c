"""The supervisor follows the number of workers wanted, replaces the dead, and takes its workers with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from queuemon.engine.supervisor import Supervisor
from tests.support.engine import Rig
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

#: A stand-in for a worker: runs until told to stop, and says which queue it is for.
STAND_IN = [sys.executable, "-S", "-c", "import signal; signal.sigwait([signal.SIGTERM])", "{queue}"]
DEAF = [sys.executable, "-S", "-c", "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(600)"]


def commands() -> dict[psutil.Process, list[str]]:
    """Living children of this process that a supervisor of these tests started, and what they were started with."""
    found = {}
    for child in psutil.Process().children():
        try:
            command = child.cmdline()
            if child.status() != psutil.STATUS_ZOMBIE and "-S" in command:
                found[child] = command
        except psutil.NoSuchProcess:  # gone, or a zombie
            continue
    return found


def children() -> list[psutil.Process]:
    return list(commands())


def crews() -> dict[str, int]:
    """Workers per queue."""
    return dict(Counter(command[-1] for command in commands().values()))


@contextmanager
def supervised(supervisor: Supervisor) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert children() == []


def want(rig: Rig, **numbers: int) -> None:
    rig.sql("UPDATE job_queues SET concurrency = 0")
    for queue, number in numbers.items():
        rig.sql("UPDATE job_queues SET concurrency = :n WHERE name = :queue", n=number, queue=queue)


def test_processes_follow_the_number_wanted_up_and_down(rig: Rig) -> None:
    want(rig, mail=2, bulk=1)
    with supervised(Supervisor(rig.store, command=STAND_IN, grace_seconds=1)):
        wait_until(lambda: crews() == {"mail": 2, "bulk": 1})
        oldest = min(children(), key=lambda child: (child.create_time(), child.pid))
        want(rig, mail=1, urgent=3)
        wait_until(lambda: crews() == {"mail": 1, "urgent": 3})
        assert oldest.is_running()  # the newest are stopped first
        (row,) = rig.sql("SELECT * FROM queuemon.workers")
        assert row["kind"] == "supervisor"
    assert rig.sql("SELECT * FROM queuemon.workers") == []


def test_a_worker_that_is_killed_is_replaced(rig: Rig) -> None:
    want(rig, mail=1)
    with supervised(Supervisor(rig.store, command=STAND_IN, grace_seconds=1)):
        wait_until(lambda: crews() == {"mail": 1})
        (victim,) = children()
        victim.kill()
        wait_until(lambda: [c.pid for c in children()] not in ([], [victim.pid]), timeout=15)


def test_a_worker_that_crashes_at_its_start_is_tried_again_ever_more_slowly(rig: Rig) -> None:
    supervisor = Supervisor(rig.store, command=[sys.executable, "-S", "-c", "raise SystemExit(7)", "{queue}"])
    supervisor.follow({"mail": 1})
    crew = supervisor._crews["mail"]
    rests = []
    for _ in range(3):
        crew.children[0].process.wait()
        crew.rest_until = 0.0
        before = time.monotonic()
        supervisor._bury("mail", crew, before)
        rests.append(crew.rest_until - before)
        supervisor.follow({"mail": 1})
        assert crew.children == []  # it rests
        crew.rest_until = 0.0
        supervisor.follow({"mail": 1})
    assert rests[0] < rests[1] < rests[2]
    supervisor._stop_all()


def test_no_more_processes_than_the_limit_and_the_most_urgent_queues_first(rig: Rig) -> None:
    want(rig, bulk=5, urgent=2, mail=2)
    with supervised(Supervisor(rig.store, command=STAND_IN, grace_seconds=1, limit=3)):
        wait_until(lambda: crews() == {"urgent": 2, "mail": 1})


def test_a_worker_that_does_not_stop_is_killed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queuemon.engine.supervisor.KILL_SECONDS", 0.2)
    want(rig, mail=1)
    with supervised(Supervisor(rig.store, command=DEAF, grace_seconds=0.2)):
        wait_until(lambda: len(children()) == 1)


def test_a_queue_name_stays_one_argument(rig: Rig) -> None:
    name = "a b; echo {parent} $(id)"
    rig.sql("UPDATE job_queues SET concurrency = 0")
    rig.sql("INSERT INTO job_queues (name, concurrency) VALUES (:name, 1)", name=name)
    with supervised(Supervisor(rig.store, command=STAND_IN, grace_seconds=1)):
        wait_until(lambda: crews() == {name: 1})


def test_of_two_supervisors_one_acts_and_the_other_takes_over(rig: Rig) -> None:
    want(rig, mail=2)
    first, second = (Supervisor(rig.store, command=STAND_IN, grace_seconds=1) for _ in range(2))
    with supervised(second):
        wait_until(lambda: crews() == {"mail": 2})
        rig.sql("UPDATE queuemon.workers SET started_at = started_at + interval '1 h'")
        stop = threading.Event()
        thread = threading.Thread(target=first.run, args=(stop,))
        thread.start()
        wait_until(lambda: len(first._crews) == 1 and not second._crews, message="the longer alive one acts")
        wait_until(lambda: crews() == {"mail": 2})
        stop.set()
        thread.join()
        wait_until(lambda: crews() == {"mail": 2}, message="the other takes over")


def test_workers_stop_when_their_supervisor_is_killed(rig: Rig, tmp_path: Path) -> None:
    want(rig, mail=2)
    environment = {
        **os.environ,
        "QUEUEMON_DATABASE_URL": rig.settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": rig.settings.redis_url.get_secret_value(),
        "HOME": str(tmp_path),
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "queuemon", "supervisor", "--handlers", "json:dumps"],
            env=environment, cwd=tmp_path, stdout=out, stderr=out,
        )  # fmt: skip
    pids: list[int] = []
    try:
        alive = "SELECT pid FROM queuemon.workers WHERE kind = 'worker'"
        pids = [row["pid"] for row in wait_until(lambda: _two(rig.sql(alive)), timeout=60, message="two workers")]
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), timeout=20, message="the workers stopped")
        assert rig.sql(alive) == []  # in good order
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from error
    finally:
        for child in psutil.Process(supervisor.pid).children() if supervisor.poll() is None else []:
            child.kill()
        supervisor.kill()
        supervisor.wait()
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)


def _two(rows: list[object]) -> list[object]:
    return rows if len(rows) == 2 else []
