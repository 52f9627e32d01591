# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: networks against the first, by their effect on SLAM."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_camera, add_out, add_sequence, kept, out_folder
from drp_slam.commands._tables import print_table, print_written
from drp_slam.profiler.terminal import print_lines

HELP = "evaluate networks against the first: inliers, relative pose error, trajectory"
EXAMPLE = "evaluate xfeat-fp32 xfeat xfeat-p70 --sequence DIR --ate"
COLUMNS = "network|zero|kB|part|inliers|%|overlap|lost|cm|% cm|median cm|deg|% deg|median deg"
SPARE = "kB|median deg|% deg|deg|% cm|median cm|overlap|zero"
"""Omitted in this order on a narrow terminal."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="shipped networks, ONNX files, or orb; the reference first"
    )
    add_sequence(p, "--sequence", required=True)
    add_camera(p)
    p.add_argument("--config", type=Path, metavar="FILE", help="read parameters from a YAML like config/drp_slam.yaml")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="pair frames this many seconds apart (0.4)")
    p.add_argument("--pairs", type=int, metavar="N", help="evaluate this many pairs, evenly spaced (all)")
    p.add_argument("--ate", action="store_true", help="also measure the trajectory error")
    text = "vary start frame and keyframe threshold this many times for --ate (10)"
    p.add_argument("--configurations", type=int, default=10, metavar="N", help=text)
    p.add_argument("--card", action="store_true", help="write the measurements into the networks' cards")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The comparison. With `--out`, measurements are stored there and reused."""
    from drp_slam.config.config_file import load
    from drp_slam.data.dataset import open_sequence
    from drp_slam.evaluation.agreement import write_agreement
    from drp_slam.evaluation.evaluate import compare

    recording = open_sequence(args.sequence, args.camera)
    out = out_folder(args) if args.out else None
    networks, configurations = list(dict.fromkeys(args.networks)), args.configurations if args.ate else 0
    options: dict[str, Any] = {"gap_s": args.gap, "limit": args.pairs, "configurations": configurations}
    result = compare(networks, recording, load(args.config), keep=out, **options)
    result = kept(args, result)
    if args.card:
        result["cards"] = [str(write_agreement(n, result)) for n in args.networks]
    return result


def show(result: Mapping[str, Any]) -> None:
    """Prints one row per network and part."""
    rows = []
    for name, body in result["networks"].items():
        head = (name, f"{body['sparsity']:.0%}", f"{body['bytes'] / 1000:.0f}")
        for part in ("all", "kept_out"):
            if body[part] is not None:
                rows.append((*(head if part == "all" else ("", "", "")), part.replace("_", " "), *_cells(body[part])))
    pairs = f"{result['pairs']} pairs {result['gap_s']:g} s apart, {result['pairs_kept_out']} held out"
    title = f"{result['sequence']}: {pairs}; % with 95 % intervals: ratios to {result['reference']}"
    print_table(COLUMNS, rows, title=title, left=("network", "part"), spare=SPARE)
    for name, body in result["networks"].items():
        if "ate_m" in body:
            ate = body["ate_m"]
            mean, low, high = (100 * ate[key] for key in ("mean", "low", "high"))
            error = f"ATE {mean:.2f} cm [{low:.2f}, {high:.2f}] over {ate['count']} configurations"
            print_lines([f"{name}: {error}, ratio {_ratio(ate)} %, {body['tracked']:.1%} tracked"], indent=2)
    print_written(result)


def _cells(part: Mapping[str, Any]) -> list[str]:
    inliers, shared = part["inliers"], part["overlap"]
    cells = [f"{inliers['mean']:.0f}", _ratio(inliers), f"{shared['mean']:.0%}", str(part["lost_pairs"])]
    for metric, scale in (("error_m", 100), ("error_deg", 1)):
        mean, middle = part[metric]["mean"], part[metric]["median_ratio"]
        cells += ["–" if mean is None else f"{mean * scale:.2f}", _ratio(part[metric])]
        cells += ["–" if middle is None else f"{middle:.0%}"]
    return cells


def _ratio(body: Mapping[str, Any]) -> str:
    if body["ratio"] is None:
        return "–"
    middle, low, high = (100 * body[key] for key in ("ratio", "ratio_low", "ratio_high"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"
