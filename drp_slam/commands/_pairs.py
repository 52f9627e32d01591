# SPDX-License-Identifier: Apache-2.0
"""`bench --pairs`: what profiling and a detector cost the running graph, measured alternately on the same frames."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from drp_slam.commands import up
from drp_slam.commands._options import parsed
from drp_slam.commands._tables import print_table

EVERY = 5
"""The detector runs on every n-th frame."""


def measure(args: argparse.Namespace, count: int, out: Path) -> list[dict[str, Any]]:
    """Runs the graph `count` times with and without each addition, alternately, and measures rates and latencies."""
    common = ["--sequence", args.sequence, "--rate", "max", "--device", args.device]
    common += ["--frames", str(args.frames)] if args.frames else []
    bare: list[str] = ["--set", "graph.profile=false"]
    things: dict[str, tuple[list[str], list[str]]] = {"profiling": ([], bare)}
    if args.detector:
        with_detector = ["--detector", args.detector, "--set", f"drpai3.detector_every={EVERY}"]
        things[f"detector on every {EVERY}th frame"] = (with_detector, [])
    rows = []
    for name, variants in things.items():
        runs: tuple[list[dict[str, Any]], ...] = ([], [])
        for k in range(count):
            # the order alternates, so that a host that slows down favours neither
            for v in (0, 1) if k % 2 == 0 else (1, 0):
                folder = out / f"{name.replace(' ', '-')}-{k}-{'without' if v else 'with'}"
                runs[v].append(_run([*common, *variants[v], "--out", str(folder)]))
        rows.append(_row(name, *runs))
    return rows


def _run(argv: list[str]) -> dict[str, Any]:
    """The report of one graph, and the processor time of its nodes, including their start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = up.run(parsed(up, argv))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return report | {"cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def _row(name: str, own: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median of the ratios of pairs, and the added delay of the pose in frame periods."""
    ratios = [a["fps"] / b["fps"] for a, b in zip(own, others)]
    pairs = [(a["latency"]["wall_ms"], b["latency"]["wall_ms"]) for a, b in zip(own, others) if b["latency"]]
    delays_ms = [mine["p50"] - theirs["p50"] for mine, theirs in pairs]
    fps = {"with": median(r["fps"] for r in own), "without": median(r["fps"] for r in others)}
    return {
        "what": name,
        "fps_with": fps["with"],
        "fps_without": fps["without"],
        "rate_ratios": ratios,
        "rate_ratio": median(ratios),
        "cpu_ratio": median(a["cpu_s"] / b["cpu_s"] for a, b in zip(own, others)),
        "delay_ms": median(delays_ms) if delays_ms else None,
        "delay_frames": median(delays_ms) * 1e-3 * fps["without"] if delays_ms else None,
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints one row per addition, all measured on this host."""
    cells = []
    for row in rows:
        low, high = min(row["rate_ratios"]), max(row["rate_ratios"])
        delay = "–" if row["delay_ms"] is None else f"{row['delay_ms']:+.1f} ms, {row['delay_frames']:+.2f} frames"
        rates = f"{row['fps_with']:.1f}", f"{row['fps_without']:.1f}"
        cells.append(
            (
                row["what"],
                *rates,
                f"{row['rate_ratio']:.3f} ({low:.3f} to {high:.3f})",
                f"{row['cpu_ratio']:.3f}",
                delay,
            )
        )
    title = f"measured on this host, medians of {len(rows[0]['rate_ratios'])} alternating pairs"
    print_table(
        "graph with|frames/s with|without|ratio|processor time, ratio|pose later by",
        cells,
        title=title,
        left=("graph with",),
    )
