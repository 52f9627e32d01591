# SPDX-License-Identifier: Apache-2.0
"""The nodes as processes, until the sequence or the user ends them: what `up` runs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.errors import DrpSlamError, GraphError
from drp_slam.nodes.limits import GRAPH
from drp_slam.nodes.processes import Processes
from drp_slam.nodes.shared_memory import lacking_room, remove_orphans
from drp_slam.nodes.table import environment, nodes, transport
from drp_slam.reporting import folder as files

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence
    from drp_slam.nodes.live import View

log = logging.getLogger(__name__)

PERIOD_S = 0.2
"""A dead node is noticed, and the table renewed, this often."""

START_S = 180.0
"""All nodes are ready within this, or something is wrong."""


def run_graph(config: Config, sequence: Sequence | None, out: Path, about: dict[str, Any]) -> None:
    """Starts the graph, waits for its end, writes what the nodes do not write themselves.

    Ends with the sequence or with SIGINT. Raises GraphError that names a node which died; what
    was tracked until then is kept in `out`.
    """
    from drp_slam.frontend.modelled import open_soc
    from drp_slam.nodes.live import View
    from drp_slam.nodes.odometry import recover
    from drp_slam.pipeline import stages

    open_soc(config, [stage.unit for stage in stages(config.graph.features)])  # says what it cannot model
    logs = out / "log"
    specs = nodes(config, player=sequence is not None)
    os.environ.update(environment(sequence is not None, logs) | transport(sends_images=False))
    processes = Processes(specs, logs, os.environ)
    failure: DrpSlamError | None = None
    remove_orphans()
    if lack := lacking_room():
        log.warning(lack)
    try:
        with interrupts() as stop, View(config, sequence) as view:
            processes.start()
            watch(processes, view, stop)
    except DrpSlamError as error:
        failure = error
    try:
        processes.interrupt()
    except DrpSlamError as error:
        failure = failure or error
    finally:
        processes.kill()
        remove_orphans()
    try:
        if recover(out):
            log.warning("pose_node was killed: the trajectory is the odometry that it published")
    except DrpSlamError as error:
        failure = failure or error
    finish(config, sequence, out, about, failure)
    if failure is not None:
        log.warning("what was tracked is in %s", out)
        raise failure


def watch(processes: Processes, view: View, stop: threading.Event) -> None:
    """Until the sequence has ended or the user wants to stop.

    Raises GraphError for a node that died or never got ready.
    """
    from drp_slam.nodes.monitor import Monitor

    monitor, start_s, ready = Monitor(), time.monotonic(), False
    try:
        while processes.check() and not stop.is_set():
            monitor.spin(PERIOD_S)
            view.update(monitor.health)
            if rivals := monitor.rivals():
                raise GraphError(
                    f"another {rivals[0]} runs on this ROS domain; end it, or set ROS_DOMAIN_ID to another number"
                )
            late = [n for n in processes.pids() if monitor.health.get(n, {}).get("ready") != "1"]
            ready = ready or not late
            if not ready and time.monotonic() - start_s > START_S:
                raise GraphError(f"{', '.join(late)} not ready after {START_S:g} s; see the logs")
    finally:
        monitor.close()


def finish(
    config: Config, sequence: Sequence | None, out: Path, about: dict[str, Any], failure: DrpSlamError | None
) -> None:
    """`groundtruth.txt` and `run.json`."""
    from drp_slam.data.trajectory import write_tum

    if sequence is not None and sequence.ground_truth is not None:
        write_tum(out / files.GROUND_TRUTH, sequence.ground_truth)
    graph = files.read_json(out / GRAPH) if (out / GRAPH).is_file() else {}
    facts: dict[str, Any] = {
        "sequence": sequence.name if sequence else "live",
        "frames": graph.get("frames", 0),
        "wall_total_s": graph.get("wall_total_s"),
        "frames_expected": len(sequence) if sequence else None,
        "problems": graph.get("problems"),
    }
    files.write_run(out, config, failure=failure, **(facts | about))


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM, even where SIGINT was ignored (a shell's `&`).

    Nothing is raised: in the middle of an import KeyboardInterrupt may be swallowed.
    """
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
