# SPDX-License-Identifier: Apache-2.0
"""Prints lines and reports on the terminal, for all commands; the report of `run`, `up`, `demo` and `report`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from drp_slam.profiler.verdict import reasons


def print_lines(lines: Iterable[str], *, indent: int = 0, style: str | None = None, out: Any = None) -> None:
    """Prints each line: on a terminal wrapped at words, continued behind `indent` spaces; elsewhere whole.

    No path is broken, so that it can be copied. `out` is a rich console (default: standard output).
    """
    from rich.console import Console

    out = out or Console(highlight=False)
    for text in lines:
        if out.is_terminal:
            text = textwrap.fill(
                text, out.width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
            )
        out.print(text, soft_wrap=True, markup=False, style=style)


def show(result: dict[str, Any]) -> None:
    """Prints a report as text."""
    from rich.console import Console

    def line(name: str, text: str) -> None:
        print_lines([f"{name:11} {text}"], indent=12)

    if result["stages"]:
        Console().print(_stage_table(result))
    line("frames", f"{result['frames']}, tracked {result['tracked']}, keyframes {result['keyframes']}{_missed(result)}")
    for text in reasons(result):
        line("", text)
    for role, topic, why in chosen_topics(result):
        line(role, f"{topic}: {why}")
    for one in result["findings"]:
        line(one["level"].lower(), f"{one['where']}: {one['seen']}; {one['remedy']}")
    ate, live = result["ate_rmse_m"], result["ate_live_rmse_m"]
    published = "" if live is None else f" (as published live {live:.4f} m)"
    mirrored = f"; {result['ate_note']}" if result["ate_note"] else ""
    line("ATE RMSE", result["ate_note"] if ate is None else f"{ate:.4f} m{published}{mirrored}")
    line("frame rate", f"{_text(result['fps'], 1)} Hz, measured on this host")
    host, a55 = result["comparison"]["host_cpu"], result["comparison"]["modelled_a55"]
    if host:
        ours, theirs = _text(_p50(host["wall_ms"])), _text(_p50(host["cpu_wall_ms"]))
        line(
            "CPU only",
            f"measured here, the same {host['frames']} frames: {theirs} ms per frame "
            f"with backend cpu, {ours} ms with this one",
        )
    if a55:
        line(
            "CPU only",
            f"modelled, first order: {_text(a55['cpu_ms'])} ms per frame on its A55 alone, "
            f"{_text(a55['chip_ms'])} ms on the chip: {_text(a55['latency_speedup'])} "
            f"times as fast at {_text(a55['energy_ratio'])} of the energy",
        )
    if pacing := result.get("pacing"):
        late = ", ".join(f"{node} {body['late_ms']} ms" for node, body in pacing["late"].items())
        ours, chip = pacing["graph"], pacing["schedule"]
        line(
            "pacing",
            f"measured {_text(ours['fps'])} frames/s, {_text(ours['latency_ms'])} ms; the chip's schedule (modelled) "
            f"{_text(chip['fps'])} frames/s, {_text(chip['latency_ms'])} ms; late by (p50) {late or 'unknown'}",
        )
    if dense := result.get("dense"):
        line("dense map", f"{dense['triangles']} triangles, voxels of {dense['voxel_m']} m, {dense['frames']} frames")
        line("", ", ".join(dense["files"]))
    line("report", result["report"])


def chosen_topics(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Role, topic and reason, of a recording with topics."""
    known = result["topics"] or {}
    return [
        (str(role), str(chosen.get("topic")), str(chosen.get("why")))
        for role, chosen in known.items()
        if isinstance(chosen, dict)
    ]


def _missed(result: dict[str, Any]) -> str:
    """A note if fewer frames were processed than the recording has, as on a slow host."""
    expected, frames = result["frames_expected"] or 0, result["frames"] or 0
    remedy = "" if result["error"] else "; --rate max plays them all"
    return f", {expected - frames} of {expected} not processed{remedy}" if expected > frames else ""


def _text(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _p50(spread: dict[str, float] | None) -> float | None:
    return None if spread is None else spread["p50"]


def _stage_table(result: dict[str, Any]) -> Any:
    """Measured and modelled in separate columns of separate colours."""
    from rich.table import Table

    def pair(spread: dict[str, float] | None) -> str:
        return "–" if spread is None else f"{spread['p50']:.2f} / {spread['p95']:.2f}"

    about = (result["sequence"], result["features"], result["network"], result["backend"], result["device"])
    table = Table(title=" · ".join(str(a) for a in about if a), title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("measured ms\np50 / p95", justify="right", style="blue", no_wrap=True)
    for name in ("modelled ms\np50 / p95", "model\nmJ", "model ms\nA55 alone"):
        table.add_column(name, justify="right", style="dark_orange3", no_wrap=True)
    for name, s in result["stages"].items():
        table.add_row(
            name,
            s["unit"],
            pair(s["wall_ms"]),
            pair(s["modelled_ms"]),
            _text(s["energy_mj"]),
            _text(_p50(s["cpu_modelled_ms"])),
        )
    latency = result["latency"]
    table.add_section()
    table.add_row(
        "frame", "", pair(latency["wall_ms"]), pair(latency["modelled_ms"]), "", _text(_p50(latency["cpu_modelled_ms"]))
    )
    return table
