# SPDX-License-Identifier: Apache-2.0
"""`compare-detectors`: a detector's boxes against another's, on images without labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import print_table, print_written
from drp_slam.errors import DataError

HELP = "compare detectors' boxes with the first one's, on images without labels"
EXAMPLE = "compare-detectors FastestDet.onnx pruned/FastestDet-p50-int8.onnx --images DIR"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("reference", type=Path, help="ONNX file of FastestDet's form; its boxes are the ground truth")
    p.add_argument("others", nargs="+", type=Path, metavar="NETWORK", help="float or INT8 files to compare with it")
    p.add_argument("--images", type=Path, required=True, metavar="DIR", help="read all images below this folder")
    p.add_argument("--count", type=int, default=200, metavar="N", help="use this many, evenly spaced (200)")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Mean average precision of each network. Raises DataError, DrpAi3Error."""
    from drp_slam.decoding import read_image
    from drp_slam.evaluation.boxes import agreement

    files = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files or args.count < 1:
        raise DataError(f"--images {args.images}: {len(files)} images; --count {args.count}: both must be at least 1")
    chosen = files[:: max(1, len(files) // args.count)][: args.count]
    return kept(args, agreement(args.reference, args.others, (read_image(file, DataError) for file in chosen)))


def show(result: dict[str, Any]) -> None:
    """Prints one row per network."""
    rows = []
    for row in result["networks"]:
        means = ["–" if row[key] is None else f"{row[key]:.3f}" for key in ("map50", "map")]
        rows.append((Path(row["network"]).name, *means, str(row["boxes"])))
    title = f"boxes of {Path(result['reference']).name} on {result['images']} images"
    print_table("network|mAP at 0.5|mAP 0.5 to 0.95|boxes", rows, title=title, left=("network",))
    print(f"{result['reference_boxes']} boxes of {result['classes']} classes are the ground truth")
    print_written(result)
