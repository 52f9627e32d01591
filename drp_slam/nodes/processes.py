# SPDX-License-Identifier: Apache-2.0
"""The nodes as processes: start, watch, interrupt. No ROS is imported."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from drp_slam.errors import GraphError
from drp_slam.nodes.table import NodeSpec, write_parameters

PR_SET_PDEATHSIG = 1
GRACE_S = 60.0
"""An interrupted node writes its results within this, or is killed."""


class Processes:
    """One process a node. Each writes what it prints to `<logs>/<node>.log`."""

    def __init__(self, specs: list[NodeSpec], logs: Path, environment: Mapping[str, str]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._logs = logs
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: dict[str, int] = {}

    def start(self) -> None:
        """Starts all nodes, each in a session of its own: Ctrl-C reaches only the caller."""
        self._logs.mkdir(parents=True, exist_ok=True)
        parameters = self._logs / "parameters.yaml"
        write_parameters(parameters, list(self._specs.values()))
        for spec in self._specs.values():
            renames = [w for a, b in spec.remappings for w in ("-r", f"{a}:={b}")]
            command = [sys.executable, "-m", spec.module, "--ros-args", "--params-file", str(parameters), *renames]
            with (self._logs / f"{spec.name}.log").open("wb") as log:
                self._running[spec.name] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_before_exec,
                    env={**self._environment, **spec.environment},
                )

    def pids(self) -> dict[str, int]:
        """Process numbers of the nodes that run."""
        return {name: process.pid for name, process in self._running.items()}

    def check(self) -> bool:
        """False once a node has ended that ends the graph.

        Raises GraphError that names a node which died.
        """
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[name]
                self.ended[name] = code
                if code != 0 or not self._specs[name].ends:
                    raise GraphError(self._obituary(name, code))
                return False
        return True

    def interrupt(self, last: str = "profiler_node") -> None:
        """SIGINT to all, and to `last` when the others have ended.

        Raises GraphError that names nodes which did not end, or not with exit code 0.
        """
        wrong: list[str] = []
        for group in ([n for n in self._running if n != last], [n for n in self._running if n == last]):
            for name in group:
                self._running[name].send_signal(signal.SIGINT)
            until_s = time.monotonic() + GRACE_S
            for name in group:
                process = self._running.pop(name)
                try:
                    code = process.wait(max(0.1, until_s - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    wrong.append(f"{name} did not end within {GRACE_S:g} s of SIGINT and was killed")
                    continue
                self.ended[name] = code
                if code != 0:
                    wrong.append(self._obituary(name, code))
        if wrong:
            raise GraphError("; ".join(wrong))

    def kill(self) -> None:
        """Ends whatever still runs."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()

    def _obituary(self, name: str, code: int) -> str:
        """Which node ended, how, and its last words."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log = self._logs / f"{name}.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        words = lines[-1].removeprefix(f"drp_slam {name}: ") if lines and code > 0 else f"see {log}"
        return f"{name} {how}: {words}"


def _before_exec() -> None:
    """In the child: SIGINT when the parent is gone, however it went (Linux).

    SIGINT waits until the node handles it (`base.run`): in the middle of its imports it would die.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
