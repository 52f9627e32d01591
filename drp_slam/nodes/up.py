# SPDX-License-Identifier: Apache-2.0
"""Runs the nodes as processes until the sequence ends or the user stops them, for `up`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam import resources
from drp_slam.atomic import Interrupts, uninterrupted
from drp_slam.errors import DrpSlamError, GraphError, pip_install
from drp_slam.nodes import frame_tables
from drp_slam.nodes.child import started
from drp_slam.nodes.odometry import recover
from drp_slam.nodes.processes import Processes
from drp_slam.nodes.renewal import Renewal
from drp_slam.nodes.reports import PERIOD_S, Reports
from drp_slam.nodes.shared_memory import lacking_room, remove_orphans
from drp_slam.nodes.table import ROOT, NodeSpec, Place, contained, environment, nodes, transport
from drp_slam.reporting import folder as files

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence
    from drp_slam.nodes.live import View

log = logging.getLogger(__name__)

HURRY = 3
"""After this many interrupts the nodes are not waited for."""

OPEN = (
    "every machine of the subnet may listen and publish (ROS 2's default); narrow it with "
    "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, ROS_DOMAIN_ID or SROS 2: docs/security.md"
)
"""Printed for a graph with a camera, which accepts messages from any sender."""

VIEWER_S = 10.0
"""The viewer writes its file within this time, or is killed."""

START_S = 180.0
"""Longest time until all nodes are ready."""


def run_graph(
    config: Config,
    sequence: Sequence | None,
    out: Path,
    about: dict[str, Any],
    respawn: bool = False,
    place: Place = ROOT,
    container: bool = False,
    rerun: str | None = None,
) -> None:
    """Starts the graph, waits for its end, and writes the results that the nodes do not write themselves.

    Ends with the sequence or with SIGINT, which never loses results; the third SIGINT stops waiting
    for nodes. `respawn` restarts nodes that die; `container` runs all nodes in one process; `rerun` is
    the file that the Rerun viewer records to, or empty to open the viewer. Raises GraphError that names
    a node which died for good; results until then are kept in `out`.
    """
    verify(config)
    if rerun is not None and find_spec("rerun") is None:
        raise GraphError(f"--rerun needs the Python package rerun-sdk: {pip_install('drp_slam[view]')}")
    logs = out / "log"
    remove_orphans()
    if lack := lacking_room():
        log.warning(lack)
    local = sequence is not None
    if not local and os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET") == "SUBNET":
        log.warning(OPEN)
    inherited = {**os.environ, **environment(local, logs), **transport(sends_images=False, local=local)}
    specs = nodes(config, local, place)
    processes = Processes(contained(specs) if container else specs, logs, inherited, respawn)
    with uninterrupted() as interrupts, shown(rerun, place, logs, inherited):
        failure = lead(processes, config, sequence, interrupts, place.namespace)
        failure = conclude(config, sequence, out, about | {"restarts": dict(processes.restarts)}, failure)
    if failure is not None:
        log.warning("what was tracked is in %s", out)
        raise failure


def verify(config: Config) -> None:
    """Raises, before any node starts, what each node would end with: a unit that the chip lacks, a network that is
    not there, a mount that is no pose."""
    from drp_slam.frontend.front_end import network_of
    from drp_slam.frontend.modelled import open_soc
    from drp_slam.pipeline import stages
    from drp_slam.slam.extrinsic import mount

    open_soc(config, [stage.unit for stage in stages(config.graph.features, config.graph.pair)])
    if name := network_of(config):
        resources.network(name)
    mount(config.graph.mount)
    if config.graph.dense:
        verify_dense(config)


def verify_dense(config: Config) -> None:
    """Raises GraphError where `dense_node` would have nothing to fuse, or cannot."""
    if find_spec("open3d") is None:
        raise GraphError(f"the dense map needs Open3D: {pip_install('drp_slam[dense]')}")
    if config.slam.sensor == "mono":
        raise GraphError(
            "the dense map fuses depth, and this camera has none; leave it out, or add depth or a second camera"
        )
    if config.graph.pair and config.drp.stereo != "dense":
        raise GraphError(
            "the dense map of a stereo pair needs depth at every pixel; set drp.stereo=dense, or leave the map out"
        )


@contextmanager
def shown(rerun: str | None, place: Place, logs: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The Rerun viewer beside the graph, where it is asked for; the graph does not depend on it."""
    if rerun is None:
        yield
        return
    spec = NodeSpec("rerun_view", {}, place.remappings(), namespace=place.namespace)
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "rerun_view.log").open("wb") as output:
        arguments = [*([rerun] if rerun else []), "--ros-args", *spec.renames]
        process = started(spec.module, arguments, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(VIEWER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def conclude(
    config: Config, sequence: Sequence | None, out: Path, about: dict[str, Any], failure: DrpSlamError | None
) -> DrpSlamError | None:
    """After the last node: cleans up after killed nodes and writes the remaining results. Returns the failure."""
    remove_orphans()
    try:
        if recover(out):
            log.warning("pose_node was killed: the trajectory is the odometry that it published")
        if frame_tables.recover(out):
            log.warning("profiler_node was killed: the tables of frames lack its last seconds")
    except DrpSlamError as error:
        failure = failure or error
    finish(config, sequence, out, about, failure)
    return failure


def lead(
    processes: Processes, config: Config, sequence: Sequence | None, interrupts: Interrupts, namespace: str = ""
) -> DrpSlamError | None:
    """Starts and watches the nodes until the end; none runs afterwards. Returns the failure."""
    from drp_slam.nodes.live import View

    failure: DrpSlamError | None = None
    try:
        with View(config, sequence) as view:
            processes.start()
            reports = Reports(processes.logs / "monitor.log", processes.environment, namespace)
            watch(processes, reports, view, interrupts, config.graph.autostart)
    except DrpSlamError as error:
        failure = error
    try:
        processes.interrupt(hurry=lambda: interrupts.count >= HURRY)
    except DrpSlamError as error:
        failure = failure or error
    finally:
        processes.kill()
    return failure


def watch(processes: Processes, reports: Reports, view: View, interrupts: Interrupts, autostart: bool = True) -> None:
    """Watches until the sequence has ended or the user stops it.

    Raises GraphError for a node that died or never became ready, and where another graph already
    runs on the domain.
    """
    start_s, ready = time.monotonic(), False
    renewal = Renewal(processes, reports.renew)
    try:
        while processes.check() and not interrupts.count:
            reports.wait(PERIOD_S)
            view.update(reports.health, reports.findings)
            names = processes.nodes()
            working = {n for n in names if reports.health.get(n, {}).get("ready") == "1"}
            for name in working:
                processes.was_ready(name)
            if autostart:
                renewal.step(reports.health)
            if ready:
                continue
            ready = working == names
            if rival := reports.rival(names):
                raise GraphError(
                    f"another graph runs on this ROS domain ({rival}); end it, give --namespace, or set ROS_DOMAIN_ID "
                    "to another number"
                )
            if autostart and time.monotonic() - start_s > START_S:
                late = ", ".join(sorted(names - working))
                raise GraphError(f"{late} not ready after {START_S:g} s; see the logs")
    finally:
        reports.close()


def finish(
    config: Config, sequence: Sequence | None, out: Path, about: dict[str, Any], failure: DrpSlamError | None
) -> None:
    """Writes `groundtruth.txt` and `run.json`."""
    from drp_slam.data.trajectory import write_tum

    if sequence is not None and sequence.ground_truth is not None:
        write_tum(out / files.GROUND_TRUTH, sequence.ground_truth)
    graph = files.read_json(out / files.GRAPH) if (out / files.GRAPH).is_file() else {}
    facts: dict[str, Any] = {
        "sequence": sequence.name if sequence else "live",
        "frames": graph.get("frames", 0),
        "wall_total_s": graph.get("wall_total_s"),
        "frames_expected": len(sequence) if sequence else None,
        "problems": graph.get("problems"),
        "findings": graph.get("findings", []),
        **({} if sequence else {"images": graph.get("images", {})}),
        **(sequence.facts(graph.get("frames_skipped"), graph.get("first_skipped", "")) if sequence else {}),
    }
    files.write_run(out, config, failure=failure, complete=True, **(facts | about))
