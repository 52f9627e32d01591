# SPDX-License-Identifier: Apache-2.0
"""Runs a sequence through the pipeline in one process, without ROS: read `run_sequence` first."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from drp_slam.atomic import make_folder, uninterrupted
from drp_slam.errors import DrpSlamError

if TYPE_CHECKING:
    import numpy as np

    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence
    from drp_slam.datatypes import Frame
    from drp_slam.pipeline import Step
    from drp_slam.profiler.span import Span
    from drp_slam.reporting.folder import FrameRow

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Progress = Callable[["Step", float], None]
"""Called after each frame with its step and the frames per second so far."""
UNFINISHED = DrpSlamError("ended before all results were written")
AHEAD = 4
"""Frames decoded ahead."""


def run_sequence(
    sequence: Sequence, config: Config, out: Path, progress: Progress | None = None, about: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Runs every frame through the pipeline, writes the results into `out`, returns `run.json`.

    Same sequence and configuration, same `trajectory.txt`, byte for byte. `about` is added to
    `run.json`. An error during the run (a truncated image, an interrupt) does not lose results: the
    results so far are written, then it is raised again.
    """
    from drp_slam.data.stamps import StampGate
    from drp_slam.pipeline import Pipeline
    from drp_slam.profiler import work_table
    from drp_slam.reporting import folder as files
    from drp_slam.reporting.moments import Moments
    from drp_slam.slam.mapfile import save as save_map

    make_folder(out)
    gate: StampGate[Frame] = StampGate("sequence")
    pipeline = Pipeline(sequence.camera, config)
    history, moments = History(), Moments()
    failure: DrpSlamError | KeyboardInterrupt | None = None
    start = time.perf_counter()
    try:
        with work_table.writing(out / files.KERNELS) as kernels:
            try:
                # the units work on consecutive frames at the same time, as on the chip: the front end
                # processes the next frame while this one is tracked
                frames = gate.stream(decoded_ahead(sequence))
                for seen, new_epoch in ahead(((pipeline.see(frame), new) for frame, new in frames), 1, "front end"):
                    if new_epoch:
                        pipeline.tracker.begin_epoch()
                    if (
                        not history.rows
                        and not sequence.camera.mono
                        and seen.frame.depth is None
                        and seen.frame.right is None
                    ):
                        log.warning("%s: frame 0 has no depth; tracking begins at the first with it", sequence.name)
                    step = pipeline.follow(seen)
                    for run in step.runs:
                        work_table.add(kernels, seen.frame.stamp_ns, run.stage, run.works)
                    history.add(step)
                    moments.add(step.frame, step.features, step.track, pipeline.tracker.seen)
                    if progress is not None:
                        progress(step, len(history.rows) / (time.perf_counter() - start))
            except (DrpSlamError, KeyboardInterrupt) as error:
                failure = error
    except DrpSlamError as refused:  # the disk is full: the small files may still fit
        failure = failure or refused
    wall_total_s = time.perf_counter() - start

    facts: dict[str, Any] = {
        "frames": len(history.rows),
        "frames_expected": len(sequence),
        "frames_refused": gate.refused,
        "wall_total_s": wall_total_s,
        **sequence.facts(),
    }
    with uninterrupted() as interrupts:
        write = partial(files.write_run, out, config, **{"sequence": sequence.name, **facts, **(about or {})})
        write(failure=failure or UNFINISHED)
        write_results(out, pipeline, sequence, history)
        moments.write(out / files.MOMENTS)
        try:
            if config.slam.save_map:
                save_map(pipeline.tracker.map, Path(config.slam.save_map))
        except DrpSlamError as refused:
            failure = failure or refused
        content = write(failure=failure, complete=True)
    if interrupts.count and failure is None:
        failure = KeyboardInterrupt()
    if failure is not None:
        log.warning("stopped after %d frames; the results so far are in %s", len(history.rows), out)
        raise failure
    return content


@dataclasses.dataclass
class History:
    """The record of every frame: a few numbers, neither images nor features."""

    rows: list[FrameRow] = dataclasses.field(default_factory=list)
    spans: list[Span] = dataclasses.field(default_factory=list)
    poses: list[tuple[int, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, step: Step) -> None:
        """Adds a frame."""
        from drp_slam.reporting.folder import frame_row

        self.rows.append(frame_row(step.track, step.wall_s))
        self.spans += step.spans
        if step.track.T_world_camera is not None:
            self.poses.append((step.track.stamp_ns, step.track.T_world_camera.copy()))


def write_results(out: Path, pipeline: Any, sequence: Sequence, history: History) -> None:
    """Writes the files of `drp_slam.reporting.folder` except `run.json`, `kernels.csv` and the report.

    Small files first: a full disk loses least.
    """
    from drp_slam.data.ply import write_ply
    from drp_slam.data.trajectory import write_tum
    from drp_slam.datatypes import Trajectory
    from drp_slam.profiler.span import write_spans
    from drp_slam.reporting import folder as files

    files.write_trajectories(out, pipeline.tracker.trajectories())
    write_tum(out / files.ODOMETRY, Trajectory.of(history.poses))
    if sequence.ground_truth is not None:
        write_tum(out / files.GROUND_TRUTH, sequence.ground_truth)
    files.write_frames(out / files.FRAMES, history.rows)
    write_spans(out / files.SPANS, history.spans)
    write_ply(out / files.MAP, pipeline.tracker.cloud())


def decoded_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items in the same order, decoded by a thread while the caller works."""
    return ahead(items, AHEAD, "decode")


def ahead(items: Iterable[Item], count: int, name: str) -> Iterator[Item]:
    """The same items in the same order, up to `count` of them produced by a thread while the caller works.

    An exception of the thread is raised here, after the items before it.
    """
    done = object()
    line: queue.Queue[Any] = queue.Queue(count)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((done, None))
        except BaseException as error:
            put((done, error))

    thread = threading.Thread(target=fill, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item, error = line.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def one_thread_a_library() -> None:
    """Limits numpy and OpenCV to one thread each.

    The stages work on small arrays, for which a thread pool costs more time than it saves. Environment variables
    that the user has set stay; numpy reads them when it is first imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import cv2

    cv2.setNumThreads(1)
