# SPDX-License-Identifier: Apache-2.0
"""`run`: a recording through the pipeline in one process."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.commands import _options as options
from drp_slam.profiler.terminal import show as show

if TYPE_CHECKING:
    from drp_slam.offline import Progress
    from drp_slam.pipeline import Step

HELP = "run a recording through the four stages in one process, without ROS"
EXAMPLE = "run synthetic --backend emulated --json"


def add_arguments(p: argparse.ArgumentParser) -> None:
    options.add_sequence(p)
    options.add_slam(p)
    options.add_map(p)
    options.add_frames(p)
    options.add_dense(p)
    options.add_export(p)
    options.add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report of the results in `--out`."""
    from drp_slam.offline import one_thread_a_library, run_sequence

    one_thread_a_library()
    from drp_slam.data.dataset import named, open_sequence
    from drp_slam.frontend.front_end import network_of
    from drp_slam.reporting.claim import claimed
    from drp_slam.reporting.results import build

    config = options.configured(args)
    args.sequence = named(args.sequence, config.slam)
    sequence = open_sequence(args.sequence, args.camera, args.start, args.frames)
    options.refuse_dense(args, sequence.camera.mono)
    out = options.out_folder(args)
    path = Path(args.sequence).expanduser()
    about = {
        "sequence": args.sequence,
        "source": str(path.resolve()) if path.exists() else None,
        "camera": args.camera,
        "start": args.start,
    }
    title = f"{network_of(config) or config.graph.features}, {config.drpai3.backend}"
    with claimed(out, args.sequence) as run_id, progress_bar(len(sequence), title) as progress:
        run_sequence(sequence, config, out, progress, about | {"run_id": run_id})
    return build(out) | options.dense_files(args, out) | options.exported(args, out)


@contextmanager
def progress_bar(frames: int, title: str) -> Iterator[Progress]:
    """Shows a progress bar on standard error with frame rate and tracking state."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate, state = TextColumn("{task.fields[fps]:.1f} Hz"), TextColumn("{task.fields[state]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, state, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=frames, fps=0.0, state="")

        def update(step: Step, fps: float) -> None:
            bar.update(task, advance=1, fps=fps, state=f"{step.track.state}, {step.track.inliers} inliers")

        yield update
