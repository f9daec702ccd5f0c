"""What the embedded servers need of the machine: an account, folders it can enter, free ports, honest disk errors."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from queuemon import config
from queuemon.errors import StackError

LOOPBACK: Final = "127.0.0.1"

#: Where root's servers keep what the account without rights could not reach in root's own folders.
SHARED: Final = Path("/var/lib/queuemon")

NO_SPACE: Final = "No space left on device"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who runs the servers: this user; for root, whom PostgreSQL refuses, an account without rights."""

    name: str
    uid: int
    gid: int
    #: True when processes have to change to the account first.
    switch: bool

    def popen(self) -> dict[str, Any]:
        """The arguments that make subprocess start a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, path: Path) -> None:
        """Give a file or folder to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def reaches(self, path: Path) -> bool:
        """Whether the account may enter every folder on the way to `path` (judged by the rights of others alone)."""
        folders = [folder for folder in path.absolute().parents if folder.exists()]
        return not self.switch or all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def server_account() -> Account:
    """This user; root becomes `queuemon` where the machine has such an account, and `nobody` elsewhere."""
    import pwd

    if os.geteuid() != 0:
        return Account(name="", uid=os.geteuid(), gid=os.getegid(), switch=False)
    for name in ("queuemon", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    raise StackError(
        "PostgreSQL does not run as root, and this machine has neither an account queuemon nor nobody",
        expected="an account without rights",
        next_step="create a system user named queuemon, or start the demo as an ordinary user",
    )


def make_folder(path: Path, mode: int, account: Account | None = None) -> None:
    """Create a folder (and its parents) with exactly this mode, given to `account` where one is named."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if account is not None:
        account.own(path)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replace a file at once with one that its owner alone may read."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if account is not None:
            account.own(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def command(words: str, directory: Path) -> str:
    """A command of `queuemon demo` for the demo in this folder, to be typed as it is."""
    usual = directory == config.demo_directory().expanduser().absolute()
    return f"queuemon demo {words}" + ("" if usual else f" --dir {shlex.quote(str(directory))}")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Failures of the file system in words: a full disk, a folder without rights, anything else."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(folder) from error
        reason = f"{error.strerror or type(error).__name__}: {error.filename or folder}"
        raise StackError(
            f"the demo folder {folder} cannot be used ({reason})",
            expected="a folder that you may create and write",
            next_step="choose another one with --dir or QUEUEMON_DEMO_DIR",
        ) from error


def disk_full(folder: Path) -> StackError:
    """The error for a disk (or quota) without room."""
    return StackError(
        f"no space is left on the disk that holds {folder}",
        expected="about 500 MB of free space",
        next_step="free some, or choose a folder on another disk with --dir or QUEUEMON_DEMO_DIR",
    )


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
