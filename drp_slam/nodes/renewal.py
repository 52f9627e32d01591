# SPDX-License-Identifier: Apache-2.0
"""Restarts processes that run but do not work: that hear nothing, find nobody, or hang. No ROS is imported.

Whatever is to blame (a message of discovery that was lost, a port of shared memory that a starved process lost, a
deadlock in the middleware), a graph that does not come up by itself comes up by this, or says what it lacks.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from drp_slam.nodes.hearing import Hearing
from drp_slam.nodes.limits import INACTIVE
from drp_slam.nodes.processes import Processes

log = logging.getLogger(__name__)

QUIET_S = 20.0
"""A process that has reported nothing for so long and used less than `IDLE_S` of processor time in it hangs."""
IDLE_S = 1.0
SAID_S = 30.0
"""What is not ready after this time is said, once."""


class Renewal:
    """`step` with each report of the monitor. `ask_again` starts the monitor anew, which may be what is deaf."""

    def __init__(
        self, processes: Processes, ask_again: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._processes, self._ask_again, self._now = processes, ask_again, now
        self._hearing = Hearing()
        self._began_s, self._said = now(), False
        self._marks: dict[int, tuple[str, float, float]] = {}
        self._doubted: set[int] = set()

    def step(self, health: Mapping[str, Mapping[str, str]]) -> None:
        """Restarts what does not work. Raises GraphError where that may not be restarted, or not again."""
        running = self._processes.pids()
        known = {n: health[n] for n, pid in running.items() if n in health and health[n].get("pid") == str(pid)}
        self._processes.played |= known.get("player_node", {}).get("frames", "0") != "0"
        self._hearing.update(health)
        for node, what in self._hearing.deaf().items():
            self._processes.renew(node, f"hears nothing although {what}")
        for node in self._hearing.lonely(running.keys()):
            self._processes.renew(node, f"does not find the other nodes ({health[node].get('message', '')})")
        self._renew_quiet(running, known)
        self._say(running, known)

    def _renew_quiet(self, running: Mapping[str, int], known: Mapping[str, Mapping[str, str]]) -> None:
        """First the monitor, in which it costs nothing to doubt, then the process itself."""
        now_s, quiet = self._now(), []
        for node, pid in running.items():
            beats, mark = known.get(node, {}).get("beats", ""), self._marks.get(pid)
            busy_s, inactive = processor_s(pid), known.get(node, {}).get("message") == INACTIVE
            if inactive or mark is None or beats != mark[0] or busy_s > mark[1] + IDLE_S:
                self._marks[pid] = (beats, busy_s, now_s)
            elif now_s - mark[2] > QUIET_S:
                quiet.append(node)
                self._marks[pid] = (beats, busy_s, now_s)
        for node in [n for n in quiet if running[n] in self._doubted]:
            self._processes.renew(node, f"runs, but has reported nothing for {QUIET_S:g} s")
        if any(running[n] not in self._doubted for n in quiet):
            self._doubted |= {running[n] for n in quiet}
            self._ask_again()

    def _say(self, running: Mapping[str, int], known: Mapping[str, Mapping[str, str]]) -> None:
        waiting = sorted(n for n in running if known.get(n, {}).get("ready") != "1")
        if self._said or self._now() - self._began_s < SAID_S:
            return
        self._said = True
        if waiting:
            words = ", ".join(f"{n} ({known.get(n, {}).get('message', 'has not reported yet')})" for n in waiting)
            load = f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
            log.warning("not ready after %g s at a load of %s: %s", SAID_S, load, words)


def processor_s(pid: int) -> float:
    """Processor time that a process has used; infinite where it is stopped, as by a debugger, or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return float("inf")
    if fields[0] in "TtZX":
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
