# SPDX-License-Identifier: Apache-2.0
"""The arguments of commands that take or give a sequence."""

from __future__ import annotations

import argparse
from pathlib import Path


def _slam_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--backend", choices=("emulated", "cpu"), help="default: emulated")
    p.add_argument("--network", metavar="NAME|FILE", help="shipped network or ONNX file")
    p.add_argument("--features", choices=("xfeat",), default="xfeat")
    p.add_argument("--config", type=Path, metavar="FILE", help="YAML like config/drp_slam.yaml")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one parameter; may be repeated",
    )
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")


def run(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    _slam_options(p)
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def _player_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--rate", default="1.0", metavar="1.0|max", help="speed of playback; max: as fast as the graph gives credit"
    )
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")
    p.add_argument("--in-flight", type=int, default=3, metavar="N", help="frames under way at max")
    p.add_argument("--loop", action="store_true", help="start again at the end")


def up(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--sequence",
        metavar="SEQ",
        help="TUM RGB-D folder, rosbag2, or `synthetic`; without it a camera publishes image, depth and camera_info",
    )
    _slam_options(p)
    _player_options(p)


def play(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the sequence has none")
    _player_options(p)


def report(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, help="folder of results of `run` or `up`")
    p.add_argument("--baseline", type=Path, metavar="DIR", help="results of the same frames with --backend cpu")


def convert(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", help="TUM RGB-D folder, rosbag2, or `synthetic`")
    p.add_argument("destination", type=Path, help="folder that is made")
    p.add_argument("--format", choices=("tum", "mcap", "sqlite3"), help="default: tum for a bag, else mcap")
    p.add_argument("--compressed", action="store_true", help="JPEG colour, PNG for 16UC1 depth")
    p.add_argument(
        "--depth", choices=("16UC1", "32FC1"), help="depth in a bag; default: 16UC1 where it is exact, else 32FC1"
    )
    p.add_argument("--camera", metavar="NAME|FILE", help="calibration, where the source has none")
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def demo(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--sequence", default="synthetic", metavar="SEQ", help="TUM RGB-D folder, rosbag2, or `synthetic` (default)"
    )
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")


def bench(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", nargs="?", default="synthetic", help="default: synthetic")
    p.add_argument("--frames", type=int, metavar="N", help="at most so many frames")
