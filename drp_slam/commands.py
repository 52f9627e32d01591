# SPDX-License-Identifier: Apache-2.0
"""The table of commands, at the end, and the arguments of each: nothing heavy is imported here.

A handler takes the parsed arguments and returns a JSON-able dict; its `show` prints it for people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """`handler` and `show` are `module:function`, imported when the command runs."""

    name: str
    help: str
    example: str
    handler: str
    show: str
    arguments: Callable[[argparse.ArgumentParser], None]


def _slam_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--backend", choices=("emulated", "cpu"), help="default: emulated")
    p.add_argument("--network", metavar="NAME|FILE", help="shipped network or ONNX file")
    p.add_argument("--features", choices=("xfeat",), default="xfeat")
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML like config/drp_slam.yaml")
    p.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                   help="override one parameter; may be repeated")  # fmt: skip
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")


def _run(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    _slam_options(p)
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def _player_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--rate", default="1.0", metavar="1.0|max",
                   help="speed of playback; max: as fast as the graph gives credit")  # fmt: skip
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")
    p.add_argument("--in-flight", type=int, default=3, metavar="N", help="frames under way at max")
    p.add_argument("--loop", action="store_true", help="start again at the end")


def _up(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sequence", metavar="SEQ", help="TUM RGB-D folder, rosbag2, or `synthetic`; "
                   "without it a camera publishes image, depth and camera_info")  # fmt: skip
    _slam_options(p)
    _player_options(p)


def _play(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    _player_options(p)


def _report(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, help="folder of results of `run` or `up`")
    p.add_argument("--baseline", type=Path, metavar="DIR",
                   help="results of the same frames with --backend cpu")  # fmt: skip


def _sweep(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sequence", required=True, help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--networks", metavar="A,B,...", help="shipped networks or ONNX files")
    p.add_argument("--rates", metavar="R,R,...", help="prune at these rates, one-shot, such as "
                   "0,0.5,0.7,0.9; without both: all shipped networks")  # fmt: skip
    p.add_argument(
        "--patterns",
        metavar="P,...",
        default="flexible-nm",
        help="flexible-nm, unstructured, fixed-nm, filter, channel, shape",
    )
    p.add_argument("--saliencies", metavar="S,...", default="magnitude",
                   help="magnitude, taylor, obd, obs, random")  # fmt: skip
    p.add_argument("--reference", metavar="NAME|FILE", default="xfeat-fp32",
                   help="network that the others are compared with (xfeat-fp32)")  # fmt: skip
    p.add_argument("--calibration", type=Path, metavar="DIR", help="images to prune and quantise "
                   "with, beside the photographs of installed packages")  # fmt: skip
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")
    p.add_argument("--pairs", type=int, default=100, metavar="N", help="frame pairs a point (100)")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="seconds between a pair")
    p.add_argument("--configurations", type=int, default=5, metavar="N",
                   help="perturbed trajectories a point (5); 0: no ATE")  # fmt: skip
    p.add_argument("--jobs", type=int, metavar="N", help="processes here (one a core)")
    p.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="dask.distributed scheduler "
                   "whose workers measure the points")  # fmt: skip


def _advise(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sweep", type=Path, metavar="DIR", help="results of `sweep` (the newest)")
    p.add_argument("--max-latency", metavar="2ms", help="modelled, of the network on DRP-AI3")
    p.add_argument("--max-energy", metavar="1mJ", help="modelled, of one inference")
    p.add_argument("--max-ate-increase", metavar="5%", help="mean ATE beyond the reference's")
    p.add_argument("--max-inliers-lost", metavar="5%", help="PnP inliers below the reference's")


def _rebuild(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", help="shipped network, such as xfeat-p70")
    p.add_argument("--data", type=Path, metavar="DIR",
                   help="folder of images or sequences to calibrate and train on, beside the "
                        "photographs of installed packages")  # fmt: skip


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("networks", nargs="+", metavar="NETWORK", help="the reference first")
    p.add_argument("--sequence", required=True, help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML like config/drp_slam.yaml")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="seconds between a pair")
    p.add_argument("--pairs", type=int, metavar="N", help="so many pairs, evenly taken (all)")
    p.add_argument("--ate", action="store_true", help="also the trajectory error")
    p.add_argument("--configurations", type=int, default=10, metavar="N",
                   help="start frames and keyframe thresholds tried for --ate")  # fmt: skip
    p.add_argument("--card", action="store_true", help="write what was measured into the cards")


def _convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("destination", type=Path, help="folder that is made")
    p.add_argument("--format", choices=("tum", "mcap", "sqlite3"),
                   help="default: tum for a bag, else mcap")  # fmt: skip
    p.add_argument("--compressed", action="store_true", help="JPEG colour, PNG for 16UC1 depth")
    p.add_argument("--depth", choices=("16UC1", "32FC1"),
                   help="depth in a bag; default: 16UC1 where it is exact, else 32FC1")  # fmt: skip
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the source has none")
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def _demo(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sequence", default="synthetic", metavar="SEQ",
                   help="TUM RGB-D folder, rosbag2, or `synthetic` (default)")  # fmt: skip
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def _bench(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", nargs="?", default="synthetic", help="default: synthetic")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def _prune(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", help="ONNX file, shipped float network, or package.module:factory")
    p.add_argument("--rate", type=float, required=True, help="part that is removed, in [0, 1)")
    p.add_argument("--pattern", default="flexible-nm", choices=(
        "unstructured", "flexible-nm", "fixed-nm", "filter", "channel", "shape"))  # fmt: skip
    p.add_argument("--saliency", default="obs", choices=(
        "magnitude", "taylor", "obd", "obd-network", "obs", "random", "weight-decay"))  # fmt: skip
    p.add_argument("--calibration", type=Path, metavar="DIR", help="folder of images")
    p.add_argument("--images", type=int, default=100, metavar="N", help="calibration images used")
    p.add_argument(
        "--shape", metavar="1,C,H,W", help="input shape, where the source leaves it open"
    )
    p.add_argument("--budget", choices=("weights", "cycles"), default="weights",
                   help="what the rate counts in flexible-nm")  # fmt: skip
    p.add_argument("--schedule", choices=("one-shot", "iterative", "agp"), default="one-shot")
    p.add_argument("--stages", type=int, default=4, metavar="N", help="of iterative and agp")
    p.add_argument("--layer-rates", default="global",
                   choices=("global", "uniform", "magnitude", "sensitivity"))  # fmt: skip
    p.add_argument("--layers", metavar="A,B", help="prune these only")
    p.add_argument("--spare", metavar="A,B", help="leave these dense")
    p.add_argument("--retrain", type=int, default=0, metavar="STEPS",
                   help="distillation from the dense network afterwards")  # fmt: skip
    p.add_argument("--no-int8", action="store_true", help="write FP32 only")
    p.add_argument("--calibrate-method", choices=("minmax", "percentile"), default="minmax")
    p.add_argument("--compress", action="store_true", help="also a Deep Compression file")
    p.add_argument("--device", default="rzv2h", help="device file whose cells and times are used")
    p.add_argument("--seed", type=int, default=0)


def _study(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", choices=("resnet20", "compression", "regulariser"))
    p.add_argument("--data", type=Path, metavar="DIR",
                   help="folder with networks/resnet_cifar10 and cifar10_test_1000")  # fmt: skip
    p.add_argument("--seeds", type=int, default=3, metavar="N")


def _device_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--device",
        default="rzv2h",
        metavar="NAME|FILE",
        help="device file of config/devices: rzv2h, rzv2n, rzv2l (default: rzv2h)",
    )


def _network_options(p: argparse.ArgumentParser) -> None:
    _device_options(p)
    p.add_argument("--input-shape", action="append", default=[], metavar="[NAME=]1,3,H,W",
                   help="shape of a dynamic input; may be repeated")  # fmt: skip
    p.add_argument(
        "--freq-index",
        type=int,
        default=2,
        metavar="N",
        help="AI-MAC clock index of the runtime, 1 to 127 (default: 2, full speed)",
    )


def _estimate(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="ONNX file (.onnx, .onnx.gz) or shipped network")
    _network_options(p)
    sparsity = p.add_mutually_exclusive_group()
    sparsity.add_argument("--sparsity", type=float, metavar="S",
                          help="suppose this share of zeros instead of the file's own")  # fmt: skip
    sparsity.add_argument("--dense", action="store_true", help="ignore the file's zeros")
    p.add_argument(
        "--pattern",
        choices=("file", "balanced", "random"),
        help="pattern of the zeros (default: the file's; balanced with --sparsity)",
    )
    p.add_argument("--release", type=float, default=2.7, metavar="X.Y",
                   help="release of the vendor's compiler whose placement is supposed")  # fmt: skip
    p.add_argument("--verify", action="store_true",
                   help="prove that packed weights give the dense INT8 accumulators")  # fmt: skip
    p.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="run it in INT8 over a folder of images, which calibrate an FP32 network",
    )
    p.add_argument("--method", choices=("minmax", "percentile"), default="minmax")
    p.add_argument("--percentile", type=float, default=99.99)
    p.add_argument("--csv", action="store_true", help="write layers.csv")
    p.add_argument(
        "--html",
        action="store_true",
        help="write estimate.html, roofline.png and timeline.json (Chrome trace)",
    )


def _compare_networks(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "models", nargs="+", help="ONNX files or shipped networks; the first is the reference"
    )
    _network_options(p)


def _overhead(p: argparse.ArgumentParser) -> None:
    p.add_argument("network", nargs="?", default="xfeat", help="shipped network with a card")
    p.add_argument("--height", type=int, default=480)
    p.add_argument("--width", type=int, default=640)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeats", type=int, default=50)


def _validate_device(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, help="folder with index.csv and graphs/")
    _device_options(p)
    p.add_argument("--pairs", type=Path, metavar="FILE", help="table of dense and pruned latencies")
    p.add_argument(
        "--cross-validate",
        action="store_true",
        help="also fit without each fold's families and predict them (minutes)",
    )


def _fit_device(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, help="folder with index.csv and graphs/")
    _device_options(p)
    p.add_argument("--pairs", type=Path, metavar="FILE", help="table of dense and pruned latencies")
    p.add_argument("--write", action="store_true", help="keep the constants in the device file")


COMMANDS = (
    Command("run", "a sequence through the four stages in one process, without ROS",
            "python -m drp_slam run synthetic --backend emulated --json",
            "drp_slam.run:run", "drp_slam.results:show", _run),
    Command("up", "the ROS 2 nodes as processes, with a recorded sequence or a camera",
            "python -m drp_slam up --sequence synthetic --rate max --json",
            "drp_slam.nodes.up:up", "drp_slam.results:show", _up),
    Command("play", "a sequence as ROS 2 topics, with /clock",
            "python -m drp_slam play synthetic --rate 0.5",
            "drp_slam.nodes.play:play", "drp_slam.nodes.play:show", _play),
    Command("demo", "the graph on the synthetic room, emulated and CPU only, side by side",
            "python -m drp_slam demo --out results/demo",
            "drp_slam.demo:demo", "drp_slam.results:show", _demo),
    Command("bench", "frame rate and latency of the graph on this host",
            "python -m drp_slam bench rgbd_dataset_freiburg1_xyz",
            "drp_slam.bench:bench", "drp_slam.bench:show", _bench),
    Command("report", "the report of a folder of results, made again",
            "python -m drp_slam report results/run-1 --baseline results/run-cpu",
            "drp_slam.results:report", "drp_slam.results:show", _report),
    Command("sweep", "pruning choices against cycles, latency, energy and accuracy; resumes with "
            "the same --out",
            "python -m drp_slam sweep --sequence DIR --rates 0.5,0.7 --saliencies magnitude,obs",
            "drp_slam.sweep:sweep", "drp_slam.sweep:show", _sweep),
    Command("advise", "the network of a sweep that fits limits, and why",
            "python -m drp_slam advise --max-latency 2ms --max-ate-increase 5%",
            "drp_slam.advise:advise", "drp_slam.advise:show", _advise),
    Command("prune", "a network pruned as DRP-AI3 packs it, in FP32 and INT8, with its cost",
            "python -m drp_slam prune model.onnx --rate 0.9 --calibration DIR --out pruned",
            "drp_slam.prune:prune", "drp_slam.prune:show", _prune),
    Command("study", "pruning methods measured on small networks: accuracy, size, where it gains",
            "python -m drp_slam study resnet20 --data DIR",
            "drp_slam.pruning.studies:study", "drp_slam.pruning.studies:show", _study),
    Command("rebuild", "make a shipped network again, from published weights to ONNX and card",
            "python -m drp_slam rebuild xfeat --out models",
            "drp_slam.rebuild:rebuild", "drp_slam.rebuild:show", _rebuild),
    Command("evaluate", "networks against the first: inliers, relative pose error, trajectory",
            "python -m drp_slam evaluate xfeat-fp32 xfeat xfeat-p70 --sequence DIR --ate",
            "drp_slam.evaluate:evaluate", "drp_slam.agreement:show", _evaluate),
    Command("estimate", "what DRP-AI3 would do with a network: placed, packed, timed, its energy",
            "python -m drp_slam estimate model.onnx --sparsity 0.9 --html",
            "drp_slam.drpai3.command:run_estimate", "drp_slam.drpai3.command:show_estimate",
            _estimate),
    Command("compare-networks", "networks on DRP-AI3 side by side",
            "python -m drp_slam compare-networks xfeat xfeat-p50 --input-shape 1,1,480,640",
            "drp_slam.drpai3.command:compare_networks", "drp_slam.drpai3.command:show_comparison",
            _compare_networks),
    Command("overhead", "emulated execution against bare onnxruntime on this host",
            "python -m drp_slam overhead xfeat --repeats 50",
            "drp_slam.drpai3.overhead:measure", "drp_slam.drpai3.overhead:show", _overhead),
    Command("validate-device", "the timing model against published board latencies",
            "python -m drp_slam validate-device calibration --pairs pruning_speedup.csv",
            "drp_slam.drpai3.validate:validate", "drp_slam.drpai3.validate:show", _validate_device),
    Command("fit-device", "fit the timing model to published latencies, cross-validated",
            "python -m drp_slam fit-device calibration --pairs pruning_speedup.csv --write",
            "drp_slam.drpai3.validate:fit_device", "drp_slam.drpai3.validate:show", _fit_device),
    Command("convert", "a sequence from one format into another (TUM folder, rosbag2)",
            "python -m drp_slam convert rgbd_dataset_freiburg1_xyz xyz.bag --format mcap",
            "drp_slam.data.convert:convert", "drp_slam.data.convert:show", _convert),
)  # fmt: skip
