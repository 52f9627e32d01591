# SPDX-License-Identifier: Apache-2.0
"""The arguments of commands that make and compare networks. Nothing heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from drp_slam.pruning.methods import BUDGETS, LAYER_RATES, PATTERNS, SALIENCIES, SCHEDULES


def sweep(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sequence", required=True, help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--networks", metavar="A,B,...", help="shipped networks or ONNX files")
    p.add_argument(
        "--rates",
        metavar="R,R,...",
        help="prune at these rates, one-shot, such as 0,0.5,0.7,0.9; without both: all shipped networks",
    )
    p.add_argument("--patterns", metavar="P,...", default="flexible-nm", help=", ".join(PATTERNS))
    p.add_argument("--saliencies", metavar="S,...", default="magnitude", help=", ".join(SALIENCIES))
    p.add_argument(
        "--reference",
        metavar="NAME|FILE",
        default="xfeat-fp32",
        help="network that the others are compared with (xfeat-fp32)",
    )
    p.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="images to prune and quantise with, beside the photographs of installed packages",
    )
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")
    p.add_argument("--pairs", type=int, default=100, metavar="N", help="frame pairs a point (100)")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="seconds between a pair")
    p.add_argument(
        "--configurations", type=int, default=5, metavar="N", help="perturbed trajectories a point (5); 0: no ATE"
    )
    p.add_argument("--jobs", type=int, metavar="N", help="processes here (one a core)")
    p.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="dask.distributed scheduler whose workers measure the points"
    )


def advise(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sweep", type=Path, metavar="DIR", help="results of `sweep` (the newest)")
    p.add_argument("--max-latency", metavar="2ms", help="modelled, of the network on DRP-AI3")
    p.add_argument("--max-energy", metavar="1mJ", help="modelled, of one inference")
    p.add_argument("--max-ate-increase", metavar="5%", help="mean ATE beyond the reference's")
    p.add_argument("--max-inliers-lost", metavar="5%", help="PnP inliers below the reference's")


def rebuild(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", help="shipped network, such as xfeat-p70")
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of images or sequences to calibrate and train on, beside the photographs of installed packages",
    )


def evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("networks", nargs="+", metavar="NETWORK", help="the reference first")
    p.add_argument("--sequence", required=True, help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML like config/drp_slam.yaml")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="seconds between a pair")
    p.add_argument("--pairs", type=int, metavar="N", help="so many pairs, evenly taken (all)")
    p.add_argument("--ate", action="store_true", help="also the trajectory error")
    p.add_argument(
        "--configurations",
        type=int,
        default=10,
        metavar="N",
        help="start frames and keyframe thresholds tried for --ate",
    )
    p.add_argument("--card", action="store_true", help="write what was measured into the cards")


def prune(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", help="ONNX file, shipped float network, or package.module:factory")
    p.add_argument("--rate", type=float, required=True, help="part that is removed, in [0, 1)")
    p.add_argument("--pattern", default="flexible-nm", choices=PATTERNS)
    p.add_argument("--saliency", default="obs", choices=tuple(SALIENCIES))
    p.add_argument("--calibration", type=Path, metavar="DIR", help="folder of images")
    p.add_argument("--images", type=int, default=100, metavar="N", help="calibration images used")
    p.add_argument("--shape", metavar="1,C,H,W", help="input shape, where the source leaves it open")
    p.add_argument("--budget", choices=BUDGETS, default="weights", help="what the rate counts in flexible-nm")
    p.add_argument("--schedule", choices=SCHEDULES, default="one-shot")
    p.add_argument("--stages", type=int, default=4, metavar="N", help="of iterative and agp")
    p.add_argument("--layer-rates", default="global", choices=LAYER_RATES)
    p.add_argument("--layers", metavar="A,B", help="prune these only")
    p.add_argument("--spare", metavar="A,B", help="leave these dense")
    p.add_argument(
        "--retrain", type=int, default=0, metavar="STEPS", help="distillation from the dense network afterwards"
    )
    p.add_argument("--no-int8", action="store_true", help="write FP32 only")
    p.add_argument("--calibrate-method", choices=("minmax", "percentile"), default="minmax")
    p.add_argument(
        "--compress",
        action="store_true",
        help="also a Deep Compression file; with --retrain its centroids are trained for a quarter as many steps",
    )
    p.add_argument("--device", default="rzv2h", help="device file whose cells and times are used")
    p.add_argument("--seed", type=int, default=0)


def study(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", choices=("resnet20", "compression", "regulariser"))
    p.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with networks/resnet_cifar10 and cifar10_test_1000 (compression: without it only digits)",
    )
    p.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="splits of the images; a study that was stopped goes on with those that are missing in --out",
    )
