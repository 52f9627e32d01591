# SPDX-License-Identifier: Apache-2.0
"""`bench --scale`: a long tour of a generated building of many rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drp_slam.commands._tables import print_table
from drp_slam.profiler.terminal import print_lines

FRAMES = 10_000


def measure(frames: int | None, out: Path) -> dict[str, Any]:
    """Tracks the tour; writes `scale.json`."""
    from dataclasses import asdict

    from drp_slam.evaluation.scale import measure
    from drp_slam.reporting.folder import write_json

    result = asdict(measure(FRAMES if frames is None else frames))
    write_json(out / "scale.json", result)
    return result


def show(scale: dict[str, Any]) -> None:
    """Prints the times by tenths of the tour and a summary below."""
    rows = [(f"{k + 1}", *(f"{scale[name][k]:.1f}" for name in ("p50_ms", "p95_ms", "longest_ms"))) for k in range(10)]
    title = f"{scale['frames']} frames through {scale['rooms']} rooms: CPU time of a frame on this host, ms"
    print_table("tenth|p50|p95|longest", rows, title=title)
    lines = [
        f"p95 of the last tenth is {scale['p95_ratio']:.2f} times the first's; "
        f"tracked {scale['tracked']} of {scale['frames']}; {scale['keyframes']} keyframes made, {scale['live']} kept, "
        f"{scale['points']} points, {scale['loops']} loops",
        f"ATE {scale['ate_m']:.3f} m, {scale['ate_share']:.2%} of the path of {scale['path_m']:.0f} m; peak memory "
        f"grew by {scale['rss_growth_mb']:.0f} MB, {scale['rss_mb_per_1000_keyframes']:.0f} MB per 1000 keyframes kept",
    ]
    print_lines(lines)
