# SPDX-License-Identifier: Apache-2.0
"""The table of commands: nothing heavy is imported here.

A handler takes the parsed arguments and returns a JSON-able dict; its `show` prints it for people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from drp_slam import arguments
from drp_slam.drpai3 import arguments as accelerator
from drp_slam.pruning import arguments as networks


@dataclass(frozen=True)
class Command:
    """`handler` and `show` are `module:function`, imported when the command runs."""

    name: str
    help: str
    example: str
    handler: str
    show: str
    arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS = (
    Command(
        "run",
        "a sequence through the four stages in one process, without ROS",
        "python -m drp_slam run synthetic --backend emulated --json",
        "drp_slam.offline:run",
        "drp_slam.profiler.terminal:show",
        arguments.run,
    ),
    Command(
        "up",
        "the ROS 2 nodes as processes, with a recorded sequence or a camera",
        "python -m drp_slam up --sequence synthetic --rate max --json",
        "drp_slam.nodes.up:up",
        "drp_slam.profiler.terminal:show",
        arguments.up,
    ),
    Command(
        "play",
        "a sequence as ROS 2 topics, with /clock",
        "python -m drp_slam play synthetic --rate 0.5",
        "drp_slam.nodes.play:play",
        "drp_slam.nodes.play:show",
        arguments.play,
    ),
    Command(
        "demo",
        "the graph on the synthetic room, emulated and CPU only, side by side",
        "python -m drp_slam demo --out results/demo",
        "drp_slam.demo:demo",
        "drp_slam.profiler.terminal:show",
        arguments.demo,
    ),
    Command(
        "bench",
        "frame rate and latency of the graph on this host",
        "python -m drp_slam bench rgbd_dataset_freiburg1_xyz",
        "drp_slam.bench:bench",
        "drp_slam.bench:show",
        arguments.bench,
    ),
    Command(
        "report",
        "the report of a folder of results, made again",
        "python -m drp_slam report results/run-1 --baseline results/run-cpu",
        "drp_slam.reporting.results:report",
        "drp_slam.profiler.terminal:show",
        arguments.report,
    ),
    Command(
        "sweep",
        "pruning choices against cycles, latency, energy and accuracy; resumes with the same --out",
        "python -m drp_slam sweep --sequence DIR --rates 0.5,0.7 --saliencies magnitude,obs",
        "drp_slam.sweep.sweep:sweep",
        "drp_slam.sweep.sweep:show",
        networks.sweep,
    ),
    Command(
        "advise",
        "the network of a sweep that fits limits, and why",
        "python -m drp_slam advise --max-latency 2ms --max-ate-increase 5%",
        "drp_slam.sweep.advise:advise",
        "drp_slam.sweep.advise:show",
        networks.advise,
    ),
    Command(
        "prune",
        "a network pruned as DRP-AI3 packs it, in FP32 and INT8, with its cost",
        "python -m drp_slam prune model.onnx --rate 0.9 --calibration DIR --out pruned",
        "drp_slam.prune:prune",
        "drp_slam.prune:show",
        networks.prune,
    ),
    Command(
        "study",
        "pruning methods measured on small networks: accuracy, size, where it gains",
        "python -m drp_slam study resnet20 --data DIR",
        "drp_slam.pruning.studies.command:study",
        "drp_slam.pruning.studies.command:show",
        networks.study,
    ),
    Command(
        "rebuild",
        "make a shipped network again, from published weights to ONNX and card",
        "python -m drp_slam rebuild xfeat --out models",
        "drp_slam.evaluation.rebuild:rebuild",
        "drp_slam.evaluation.rebuild:show",
        networks.rebuild,
    ),
    Command(
        "evaluate",
        "networks against the first: inliers, relative pose error, trajectory",
        "python -m drp_slam evaluate xfeat-fp32 xfeat xfeat-p70 --sequence DIR --ate",
        "drp_slam.evaluation.evaluate:evaluate",
        "drp_slam.evaluation.agreement:show",
        networks.evaluate,
    ),
    Command(
        "estimate",
        "what DRP-AI3 would do with a network: placed, packed, timed, its energy",
        "python -m drp_slam estimate model.onnx --sparsity 0.9 --html",
        "drp_slam.drpai3.command:run_estimate",
        "drp_slam.drpai3.command:show_estimate",
        accelerator.estimate,
    ),
    Command(
        "compare-networks",
        "networks on DRP-AI3 side by side",
        "python -m drp_slam compare-networks xfeat xfeat-p50 --input-shape 1,1,480,640",
        "drp_slam.drpai3.command:compare_networks",
        "drp_slam.drpai3.command:show_comparison",
        accelerator.compare_networks,
    ),
    Command(
        "overhead",
        "emulated execution against bare onnxruntime on this host",
        "python -m drp_slam overhead xfeat --repeats 50",
        "drp_slam.drpai3.overhead:measure",
        "drp_slam.drpai3.overhead:show",
        accelerator.overhead,
    ),
    Command(
        "validate-device",
        "the timing model against published board latencies",
        "python -m drp_slam validate-device calibration --pairs pruning_speedup.csv",
        "drp_slam.drpai3.fitting.validate:validate",
        "drp_slam.drpai3.fitting.validate:show",
        accelerator.validate_device,
    ),
    Command(
        "fit-device",
        "fit the timing model to published latencies, cross-validated",
        "python -m drp_slam fit-device calibration --pairs pruning_speedup.csv --write",
        "drp_slam.drpai3.fitting.validate:fit_device",
        "drp_slam.drpai3.fitting.validate:show",
        accelerator.fit_device,
    ),
    Command(
        "convert",
        "a sequence from one format into another (TUM folder, rosbag2)",
        "python -m drp_slam convert rgbd_dataset_freiburg1_xyz xyz.bag --format mcap",
        "drp_slam.data.convert:convert",
        "drp_slam.data.convert:show",
        arguments.convert,
    ),
)
