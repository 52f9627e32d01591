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

    result = asdict(measure(FRAMES if frames is None else frames, out))
    write_json(out / "scale.json", result)
    return result


def show(scale: dict[str, Any]) -> None:
    """Prints the times by tenths of the tour and a summary below."""
    names = ("p50_ms", "p95_ms", "keyframe_p50_ms", "longest_ms")
    rows = [
        (f"{k + 1}", *(f"{scale[name][k]:.1f}" for name in names), f"{scale['keyframe_share'][k]:.0%}")
        for k in range(10)
    ]
    title = f"{scale['frames']} frames through {scale['rooms']} rooms: CPU time of a frame on this host, ms"
    print_table("tenth|p50|p95|keyframes' p50|longest|keyframes", rows, title=title)
    stored = scale["stored"]
    lines = [
        f"p95 of the last tenth is {scale['p95_ratio']:.2f} times the first's; the longest frame took "
        f"{scale['over_keyframe_ms']:.0f} ms more than the median keyframe, {scale['stalls']} frames more than 30 ms",
        f"tracked {scale['tracked']} of {scale['frames']}; {scale['keyframes']} keyframes made, {scale['live']} kept, "
        f"{scale['points']} points, {scale['loops']} loops",
        f"ATE {scale['ate_m']:.3f} m, {scale['ate_share']:.2%} of the path of {scale['path_m']:.0f} m",
        f"memory grew by {scale['rss_growth_mb']:.0f} MB at its peak: {scale['rss_mb_per_1000_keyframes']:.0f} MB per "
        f"1000 keyframes kept, {scale['rss_end_mb_per_1000_keyframes']:.0f} at the end",
        f"the map's file: {stored['keyframes']} keyframes, {stored['file_mb']:.0f} MB; CPU time to save it "
        f"{stored['save_s']:.1f} s, to load it {stored['load_s']:.1f} s",
        f"sought in it without a prediction: {stored['found']} of {stored['sought']} frames found, {stored['wrong']} "
        f"wrong; {stored['relocalise_p50_ms']:.0f} ms a frame, {stored['relocalise_longest_ms']:.0f} ms the longest",
    ]
    print_lines(lines)
