"""The kernel of a run: this interpreter's, whatever kernels are registered; it ends with its runner, however that ends.

As a module (`python -P -m queuemon.runbooks.kernel PARENT …`) it is that process.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

#: Seconds that an interrupted cell has to put back what it changed (a pause, a priority) before its kernel is killed.
GRACE_SECONDS: Final = 20.0

#: Linux: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG: Final = 1


def manager(environment: Mapping[str, str], said: IO[bytes]) -> type[AsyncKernelManager]:
    """A class of kernel managers for a run's environment; what the process itself says goes to `said`."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(
        argv=[sys.executable, "-P", "-m", __name__, str(os.getpid()), "--log-level=ERROR", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
    )

    class RunbookKernel(AsyncKernelManager):
        kernel_spec = property(lambda self: spec)

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # awaited by nbclient
            self.shutdown_wait_time = GRACE_SECONDS
            await super().start_kernel(**{**options, "env": dict(environment), "stdout": said, "stderr": said})

    return RunbookKernel


def end_with(parent: int) -> None:
    """Let the system kill this process as soon as `parent` has died; elsewhere than on Linux ipykernel looks itself,
    every second."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
