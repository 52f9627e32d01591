# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from drp_slam.atomic import write_text
from drp_slam.errors import ProfilerError
from drp_slam.profiler.page import (
    MEASURED,
    MODELLED,
    breakable,
    number,
    page,
    section,
    table,
    tag,
    tile,
    tiles,
    unit_of,
    verdict_box,
)


def write_page(path: Path, found: Mapping[str, Any]) -> Path:
    """Writes the page of `evaluation.compare.compare`. Raises ProfilerError."""
    head = found["headline"]
    body = verdict_box(verdict(found)) + tiles(
        [
            tile("Speed-up", number(found["speedup"]), "×", between(found["speedup_range"]), MODELLED),
            tile(
                "Energy a frame",
                number(found["energy_ratio"]),
                "× its CPU's",
                between(found["energy_ratio_range"]),
                MODELLED,
            ),
            tile("Assumed share", number(found["assumed_share_pct"]), "%", "of the speed-up's sensitivity"),
            tile("Article", "17", "×", "1/12 of the power; conditions not public"),
        ]
    )
    body += section(
        "Workloads and systems",
        f"{tag(MODELLED)} As fast as it goes, and live at {found['camera_hz']:.0f} Hz, at most three frames under way. "
        "Speed-up and energy are beside the CPU alone, C++ beside C++ and Python beside Python; ranges hold nine of "
        "ten draws of all fitted and assumed constants. Jitter is the standard deviation of the time between "
        "poses. Power is of the busy units.",
        *_systems(found["workloads"]),
    )
    body += section(
        "This host",
        f"{tag(MEASURED)} The emulation, stages in sequence.",
        table(HOST, [_host(r) for r in found["host_measured"]]),
    )
    body += section(
        "Sensitivity of the speed-up",
        "One constant at a time, from one end of its interval to the other; others change it by less than "
        f"{100 * MOVES:.0f} %.",
        table(TORNADO, [_swing(r) for r in found["tornado"] if _moves(r)]),
    )
    pair, article = found["yolox_nano"], found["article"]
    body += section(
        "The only public pair",
        escape(pair["published"]["source"]) + ". The CPU's model is first order: a ratio below the published one means "
        "that it underestimates the CPU's time.",
        table(
            [("", "text"), ("accelerator ms", ""), ("CPU ms", ""), ("ratio", "")],
            [
                [kind, pair[kind]["accelerator_ms"], pair[kind]["cpu_ms"], pair[kind]["ratio"]]
                for kind in ("published", "modelled")
            ],
        ),
    )
    body += section(
        "The article's figures",
        escape(article["source"]) + ". Conditions for them, everything else as modelled:",
        table(
            [("", "text"), ("modelled", MODELLED), ("needed", MODELLED)],
            [
                ["tracker, ms per frame, for 17 times", article["tracker_ms"], article["tracker_ms_needed"]],
                ["CPU alone, ms per frame, for 17 times", article["cpu_alone_ms"], article["cpu_alone_ms_needed"]],
                ["chip, mJ per frame, for 1/12 of the energy", article["chip_mj"], article["chip_mj_needed"]],
                ["speed-up, all units but the CPU infinitely fast", article["most_speedup_with_this_tracker"], "17"],
            ],
        ),
    )
    subtitle = (
        f"device <b>{escape(found['device'])}</b> · {head['features']}, {head['workload']}, against {head['against']}"
    )
    footer = "Modelled figures are computed from the device file; nothing here was measured on the chip."
    title = f"drp_slam compare: {Path(found['sequence']).name}"
    write_text(path, page(title, subtitle, body, footer), ProfilerError)
    return path


MOVES = 0.01
"""Constants that change both ratios by less than this are omitted."""
COLUMNS = [
    ("system", "text"),
    *((n, MODELLED) for n in ("speed-up", "energy", "fps", "mJ a frame", "W", "p50 ms", "p95 ms", "p99 ms")),
    *((n, MODELLED) for n in ("jitter ms", "dropped")),
    ("bottleneck", "text"),
]
HOST = [("features", "text"), ("workload", "text"), *((n, MEASURED) for n in ("fps", "p50 ms", "p95 ms", "p99 ms"))]
TORNADO = [
    *((name, "text") for name in ("constant", "kind", "unit")),
    *((name, "") for name in ("value", "low", "high", "speed-up at low", "at high", "energy at low", "energy at high")),
]


def between(ends: tuple[float, float] | list[float]) -> str:
    """A range in words."""
    return f"{number(ends[0])} to {number(ends[1])}"


def verdict(found: Mapping[str, Any]) -> list[str]:
    """Comparison of the chip with its CPU alone, bottleneck, assumptions, and the article."""
    head = found["headline"]
    chip, alone = (_system(found, head, head[key]) for key in ("system", "against"))
    lines = [
        f"{head['features']}, {head['workload']}: {chip['fps']:.3g} frames/s and {chip['energy_j'] * 1e3:.3g} mJ per "
        f"frame on the chip, {alone['fps']:.3g} and {alone['energy_j'] * 1e3:.3g} on its CPU alone (modelled): "
        f"{_times(found)}.",
        f"The {chip['bottleneck']} bounds the chip; live at {found['camera_hz']:.0f} Hz it "
        + ("drops no frame." if not chip["live"]["dropped"] else f"drops {chip['live']['dropped']} frames."),
    ]
    for row in found["workloads"]:
        same = (row["workload"], row["system"]) == (head["workload"], head["system"])
        if same and row["features"] != head["features"]:
            lines.append(f"{row['features']}, the same: {row['fps']:.3g} frames/s, {_times(row)}.")
    rests = f"{found['assumed_share_pct']:.0f} % of the sensitivity of the first ratio is to assumed constants"
    if found["tornado"]:
        most = found["tornado"][0]
        rests += f"; {most['key']} ({most['kind']}) has the most influence, {between(sorted(most['speedup']))} times"
    pair = found["yolox_nano"]
    lines.append(
        f"{rests}. YOLOX-nano on the chip against its CPU: {pair['published']['ratio']:.1f} times published, "
        f"{pair['modelled']['ratio']:.1f} modelled."
    )
    return [*lines, _article(found["article"])]


def _system(found: Mapping[str, Any], head: Mapping[str, Any], system: str) -> Mapping[str, Any]:
    wanted = (head["features"], head["workload"], system)
    return next(r for r in found["workloads"] if (r["features"], r["workload"], r["system"]) == wanted)


def _times(row: Mapping[str, Any]) -> str:
    """The ratios of a row in words, with the ends of their ranges."""
    speedup, energy = row["speedup"], row["energy_ratio"]
    word = "as fast" if speedup >= 1 else "as fast, so slower"
    return (
        f"{number(speedup)} times {word} ({between(row['speedup_range'])}) at {number(energy, 2)} of the energy "
        f"({between(row['energy_ratio_range'])})"
    )


def _article(a: Mapping[str, Any]) -> str:
    """Conditions for the article's figures."""
    return (
        f"The article says {a['speedup']:.0f} times at 1/12 of the power; its conditions are not public. "
        f"With this tracker at most {a['most_speedup_with_this_tracker']:.1f} times is possible. For 17 the tracker "
        f"would have to take {a['tracker_ms_needed']:.2f} ms (modelled {a['tracker_ms']:.2f}), or the CPU alone "
        f"{a['cpu_alone_ms_needed']:.0f} ms (modelled {a['cpu_alone_ms']:.0f}); for 1/12 of the energy "
        f"the chip {a['chip_mj_needed']:.1f} mJ (modelled {a['chip_mj']:.1f})."
    )


def _moves(r: Mapping[str, Any]) -> bool:
    """Whether a constant changes a ratio visibly."""
    return any(max(r[key]) > (1 + MOVES) * min(r[key]) for key in ("speedup", "energy_ratio"))


def _systems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A heading and a table of the systems for each front end and workload."""
    parts = []
    for features, workload in dict.fromkeys((r["features"], r["workload"]) for r in rows):
        mine = [_row(r) for r in rows if (r["features"], r["workload"]) == (features, workload)]
        parts += [f"<h3>{escape(features)}, {escape(workload)}</h3>", table(COLUMNS, mine)]
    return parts


def _row(r: Mapping[str, Any]) -> list[Any]:
    live = r["live"]
    p = live["latency_ms"] or dict.fromkeys(("p50", "p95", "p99"))
    ratios = ["1", "1"]  # the CPU alone
    if "speedup" in r:
        ratios = [f"{number(r[n])}<br><small>{between(r[f'{n}_range'])}</small>" for n in ("speedup", "energy_ratio")]
    figures = [r["fps"], r["energy_j"] * 1e3, r["power_w"], p["p50"], p["p95"], p["p99"], live["jitter_ms"]]
    return [escape(r["system"]), *ratios, *figures, live["dropped"], escape(r["bottleneck"])]


def _host(r: Mapping[str, Any]) -> list[Any]:
    p = r["latency_ms"]
    return [escape(r["features"]), escape(r["workload"]), r["fps"], p["p50"], p["p95"], p["p99"]]


def _swing(r: Mapping[str, Any]) -> list[Any]:
    names = [breakable(r["key"]), tag(r["kind"]), escape(unit_of(r["unit"]))]
    return [*names, r["value"], r["low"], r["high"], *r["speedup"], *r["energy_ratio"]]
