# SPDX-License-Identifier: Apache-2.0
"""Runs a module as the child of another process, and ends it when that process is gone.

python -m drp_slam.nodes.child PARENT_PID MODULE ...
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1


def started(module: str, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts `module.main()` in a session of its own: Ctrl-C reaches only the caller.

    SIGINT stays blocked until the child handles it (`running.spin`), since during its imports it would
    die. `options` are those of `subprocess.Popen`.
    """
    command = [sys.executable, "-m", "drp_slam.nodes.child", str(os.getpid()), module, *arguments]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> int:
    """Runs the module's `main`; returns its exit code."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # the parent was killed before the line above
            return 1
    sys.argv = [module, *sys.argv[3:]]
    return importlib.import_module(module).main()


if __name__ == "__main__":
    sys.exit(main())
