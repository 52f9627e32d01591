# SPDX-License-Identifier: Apache-2.0
"""The nodes as processes: start, watch, restart, interrupt. No ROS is imported."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from drp_slam.errors import GraphError
from drp_slam.nodes.child import started
from drp_slam.nodes.limits import DEAF
from drp_slam.nodes.table import NodeSpec, write_parameters

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""An interrupted node that has not ended within this time is killed."""
RESTARTS, WITHIN_S = 5, 60.0
"""A node that dies more often than this within this time is not restarted."""
USELESS, USELESS_S = 3, 300.0
"""The same for a node that runs but does not work."""


class Processes:
    """One process per node. Each logs to `<logs>/<node>.log`.

    `respawn`: restart a node that was killed by a signal, or was ready and died, except the player. A node that runs
    but does not work is restarted in any case; the player only before it has `played` a frame.
    """

    def __init__(
        self, specs: list[NodeSpec], logs: Path, environment: Mapping[str, str], respawn: bool = False
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.logs = logs
        self.environment = environment
        self._respawn, self.played = respawn, False
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._were_ready: set[str] = set()
        self._deaths_s: dict[str, list[float]] = {}
        self.ended: dict[str, int] = {}
        self.restarts: Counter[str] = Counter()

    def start(self) -> None:
        """Starts all nodes, each in its own session, so that Ctrl-C reaches only the caller."""
        self.logs.mkdir(parents=True, exist_ok=True)
        write_parameters(self.logs / "parameters.yaml", list(self._specs.values()))
        for name in self._specs:
            self._start(name, "wb")

    def _start(self, name: str, mode: str) -> None:
        spec, parameters = self._specs[name], self.logs / "parameters.yaml"
        arguments = [*spec.arguments, "--ros-args", "--params-file", str(parameters), *spec.renames]
        with (self.logs / f"{name}.log").open(mode) as output:
            self._running[name] = started(
                spec.module,
                arguments,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self.environment, **spec.environment},
            )

    def nodes(self) -> set[str]:
        """Names of the nodes whose process runs."""
        return {node.name for name in self._running for node in self._specs[name].nodes}

    def pids(self) -> dict[str, int]:
        """Node -> number of its process."""
        return {node.name: p.pid for name, p in self._running.items() for node in self._specs[name].nodes}

    def was_ready(self, name: str) -> None:
        """Records that a node was ready, so that its process may be restarted when it dies."""
        self._were_ready |= {process for process, spec in self._specs.items() if name in {n.name for n in spec.nodes}}

    def check(self) -> bool:
        """False once a node has ended whose end ends the graph; restarts dead nodes where allowed.

        Raises GraphError that names a node which died.
        """
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            self.ended[name] = code
            if code == 0 and self._specs[name].ends:
                return False
            if code < 0:  # it did not end by itself, so it may work when started again
                self._were_ready.add(name)
            self._restart(name, self._obituary(name, code), useless=code == DEAF)
        return True

    def renew(self, node: str, why: str) -> None:
        """Kills and restarts the process of a node that runs but does not work. Raises GraphError where not allowed."""
        for name in [p for p in self._running if node in {n.name for n in self._specs[p].nodes}]:
            process = self._running.pop(name)
            process.kill()
            process.wait()
            self._restart(name, f"{node} {why}", useless=True)

    def _restart(self, name: str, why: str, useless: bool = False) -> None:
        if not self._may_restart(name, useless):
            raise GraphError(why)
        log.warning("%s; restarting it", why)
        self.restarts[name] += 1
        self._start(name, "ab")

    def _may_restart(self, name: str, useless: bool) -> bool:
        if self._specs[name].ends and (self.played or not useless):
            return False
        if not useless and not (self._respawn and name in self._were_ready):
            return False
        now_s = time.monotonic()
        most, within_s = (USELESS, USELESS_S) if useless else (RESTARTS, WITHIN_S)
        deaths_s = self._deaths_s.setdefault(name, [])
        deaths_s.append(now_s)
        return sum(now_s - t < within_s for t in deaths_s) <= most

    def interrupt(self, hurry: Callable[[], bool] = lambda: False, last: str = "profiler_node") -> None:
        """Sends SIGINT to all, and to `last` when the others have ended. `hurry` stops the waiting.

        Raises GraphError that names nodes which did not end, or not with exit code 0.
        """
        wrong: list[str] = []
        for group in ([n for n in self._running if n != last], [n for n in self._running if n == last]):
            for name in group:
                self._running[name].send_signal(signal.SIGINT)
            until_s = time.monotonic() + GRACE_S
            for name in group:
                process = self._running.pop(name)
                while process.poll() is None and time.monotonic() < until_s and not hurry():
                    time.sleep(0.02)
                if process.poll() is None:
                    process.kill()
                    process.wait()
                    wrong.append(f"{name} did not end within {GRACE_S:g} s of SIGINT and was killed")
                    continue
                self.ended[name] = process.returncode
                if process.returncode not in (0, -signal.SIGALRM):  # the latter: see `running.spin`
                    wrong.append(self._obituary(name, process.returncode))
        if wrong:
            raise GraphError("; ".join(wrong))

    def kill(self) -> None:
        """Kills the nodes that still run."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()

    def _obituary(self, name: str, code: int) -> str:
        """Which node ended, how, and the end of its log."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        path = self.logs / f"{name}.log"
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        words = lines[-1].removeprefix(f"drp_slam {name}: ") if lines and code > 0 else f"see {path}"
        return f"{name} {how}: {words}"
