# SPDX-License-Identifier: Apache-2.0
"""`convert`: a recording in another format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_camera, add_frames, add_sequence
from drp_slam.profiler.terminal import print_lines

HELP = "convert a recording (TUM folder, rosbag2), or a trajectory into KITTI's or EuRoC's format"
FORMATS = ("kitti", "euroc")
"""Of trajectories."""
EXAMPLE = "convert rgbd_dataset_freiburg1_xyz xyz.bag --format mcap"
ROWS = {
    "format": "",
    "frames": "",
    "poses": "",
    "files": "",
    "ground_truth": " poses",
    "colour": "",
    "depth_encoding": "",
    "depth_rounding_m": " m at most",
    "megabytes": " MB",
    "wall_s": " s",
}
"""Printed values and their units."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p, "source")
    p.add_argument("destination", type=Path, help="folder, or file of a trajectory, to write")
    text = "write this format (default: tum for a bag, else mcap); kitti, euroc: for a trajectory or a results folder"
    p.add_argument("--format", choices=("tum", "mcap", "sqlite3", *FORMATS), help=text)
    p.add_argument("--keyframes", action="store_true", help="with kitti and euroc: write only the poses of keyframes")
    text = "write colour as the JPEG or PNG files it was read from, else as JPEG; 16UC1 depth as PNG"
    p.add_argument("--compressed", action="store_true", help=text)
    text = "encode depth in a bag like this (default: 16UC1 where it is lossless, else 32FC1)"
    p.add_argument("--depth", choices=("16UC1", "32FC1"), help=text)
    add_camera(p)
    add_frames(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Converts; returns what was written, and where precision was lost. Raises DataError."""
    from drp_slam.data.convert import convert, convert_trajectory
    from drp_slam.data.dataset import open_sequence

    if args.format in FORMATS:
        destination = args.destination.expanduser()
        written = convert_trajectory(args.source, destination, args.format, args.keyframes)
        return {"source": args.source, "destination": str(destination), **written}
    sequence = open_sequence(args.source, args.camera, args.start, args.frames)
    destination = args.destination.expanduser()
    written = convert(sequence, args.source, destination, args.format, args.compressed, args.depth)
    return {"source": args.source, "destination": str(destination), **written}


def show(result: dict[str, Any]) -> None:
    """Prints what was written."""
    from rich.console import Console
    from rich.table import Table

    print_lines([f"{result['source']} → {result['destination']}"], indent=2)
    table = Table(show_header=False)
    for key, unit in ROWS.items():
        if (value := result.get(key)) in (None, ""):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " ").removesuffix(" m").removesuffix(" s"), text + unit)
    Console().print(table)
    if result.get("colour") == "exact" and result["format"] != "tum":
        print_lines(["--compressed makes a smaller bag: colour as the files it was read from, or as JPEG"], indent=2)
    print_lines([f"wrote {result['destination']}"])
