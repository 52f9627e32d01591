# SPDX-License-Identifier: Apache-2.0
"""The page of an estimate: verdict in words, time by cause, roofline and memory, every layer in a sortable table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from drp_slam.profiler.page import MODELLED, breakable, number, page, section, table, tag, tile, tiles, verdict_box
from drp_slam.reporting.estimate_pictures import UNIT_COLOURS

PARTS = {**UNIT_COLOURS, "crossing": "#d69e2e", "fixed overhead": "#a0aec0"}
UNITS = {"ai-mac": "AI-MAC array", "drp": "DRP", "copy": "memory copies", "cpu": "Cortex-A55"}
HELP = {
    "macs": "bound by arithmetic: N:M pruning shortens it",
    "weights": "bound by reading weights: pruning shortens it",
    "features": "bound by moving features through DDR: smaller or fewer tensors help, pruning does not",
}
"""Remedy for a layer of the AI-MAC array, by its bound."""
LARGE = 0.1
"""Minimum share of the time of a group of layers in the verdict."""
LAYERS = (
    f"{tag(MODELLED)} Click a heading to sort. What binds a layer: <i>macs</i>, arithmetic; <i>features</i> or "
    "<i>weights</i>, moving them; <i>fixed</i>, starting it; <i>drp</i>, <i>copy</i>, <i>cpu</i>, the unit it runs on. "
    "Crossing: to the Cortex-A55 and back. N of M: rows that are left of a group of M, on average. Use: of the dense "
    "peak, so that packing can take it above 100 %."
)
FOOTER = "Every figure is modelled from the device file; nothing here was measured."


def render(result: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The complete page; `pictures` are inline SVGs."""
    title = f"drp_slam estimate: {result['name']}"
    subtitle = f"device <b>{escape(result['device'])}</b> · AI-MAC <b>{result['mac_mhz']:.0f} MHz</b>"
    body = (
        verdict_box(verdict(result))
        + _tiles(result)
        + section("Time by cause", "All layers of a kind added up; the fixed overhead counts once.", _shares(result))
        + _fallbacks(result)
        + section(
            "Roofline and memory",
            "Each matrix layer by its rate and by operations per streamed byte; then the contents of memory over time. "
            "<a href='timeline.json'>timeline.json</a> beside this page is a trace for ui.perfetto.dev.",
            *pictures,
        )
        + section("Layers", LAYERS, _layers(result))
    )
    return page(title, subtitle, body, FOOTER)


def verdict(result: Mapping[str, Any]) -> list[str]:
    """Where the time goes and how to shorten it, the largest part first."""
    whole_us = max(result["total_ms"] * 1e3, 1e-9)
    groups: dict[tuple[str, str], list[float]] = {}
    bound: dict[str, float] = {}
    for row in result["layers"]:
        entry = groups.setdefault((row["unit"], row["op"]), [0, 0.0])
        entry[0], entry[1] = entry[0] + 1, entry[1] + row["us"] + row["crossing_us"]
        if row["unit"] == "ai-mac":
            bound[row["bound_by"]] = bound.get(row["bound_by"], 0.0) + row["us"]
    found = [f"Incomplete, not in any sum: {reason}." for reason in result["incomplete"]]
    if convolved := result.get("shuffles_convolved_ms"):
        text = f"With its channel shuffles as 1 x 1 convolutions it takes {convolved:.2f} ms instead of"
        found.append(
            f"{text} {result['total_ms']:.2f}: --convolve-shuffles of estimate and board-kit, the same outputs."
        )
    largest = sorted(groups.items(), key=lambda item: -item[1][1])
    for (unit, op), (count, us) in [g for g in largest if g[1][1] >= LARGE * whole_us][:4]:
        layers = "1 layer" if count == 1 else f"{count:.0f} layers"
        text = f"{us * 1e-3:.2f} of {whole_us * 1e-3:.2f} ms: {op} on the {UNITS.get(unit, unit)} ({layers})"
        if unit == "ai-mac" and bound:
            kind = max(bound, key=lambda name: bound[name])
            text += f"; {HELP.get(kind, f'most of it is bound by {kind}')}"
        elif unit in ("drp", "copy"):
            text += "; the AI-MAC array waits: omit the operator, or move it before or after the network"
        elif unit == "cpu":
            text += ", transfers included; replace the operator, or end the network before it"
        found.append(f"{text}.")
    if result["overhead_ms"] >= LARGE * whole_us * 1e-3:
        text = f"{result['overhead_ms']:.2f} ms are the fixed overhead of an inference"
        found.append(f"{text}: the network is small, so a faster one gains little.")
    notes = (f"{note[:1].upper()}{note[1:]}." for note in map(str, result["notes"]))
    return [*found, *notes] or ["No layer takes time."]


def _tiles(result: Mapping[str, Any]) -> str:
    kinds, areas = result["constants"], result["memory_areas_mib"]
    memory = ", ".join(f"{area} {size:.1f}" for area, size in areas.items())
    rests = f"based on {kinds['cited']} cited, {kinds['fitted']} fitted, {kinds['assumed']} assumed constants"
    published = "accelerator alone; published 9 to 11 for pruned ResNet-50 class, 23.9 for the ideal layer"
    return tiles(
        (
            tile("Latency", number(result["total_ms"]), "ms", rests, MODELLED),
            tile("Energy", number(result["energy_mj"]), "mJ", f"{result['average_w']:.2f} W while it runs", MODELLED),
            tile("Efficiency", number(result["tops_per_w"]), "TOPS/W", published, MODELLED),
            tile("Memory", number(result["memory_mib"]), "MiB", memory, MODELLED),
        )
    )


def _shares(result: Mapping[str, Any]) -> str:
    """The time by cause as a bar, and the result of packing."""
    ms = dict.fromkeys(PARTS, 0.0)
    for row in result["layers"]:
        if row["unit"] in ms:
            ms[row["unit"]] += row["us"] * 1e-3
    ms["crossing"], ms["fixed overhead"] = result["crossing_ms"], result["overhead_ms"]
    whole, shown = sum(ms.values()) or 1.0, {name: value for name, value in ms.items() if value}
    bar = "".join(
        f'<div style="width:{value / whole:.2%};background:{PARTS[name]}"></div>' for name, value in shown.items()
    )
    key = "".join(
        f'<span><i style="background:{PARTS[name]}"></i>{name} {value:.2f} ms</span> ' for name, value in shown.items()
    )
    groups = ", ".join(f"{n}: {count}" for n, count in enumerate(result["groups_by_n"]) if count)
    loss = result["packing_loss"]
    packing = (
        f"<p>Groups of weights by the rows that are left: {groups}. Not saved: {100 * loss['balance']:.1f} % of the "
        f"dense cycles, because columns of one group hold different numbers of zeros, and "
        f"{100 * loss['padding'] + 0.0:.1f} % of padding.</p>"
    )
    return f'<div class="bar">{bar}</div><p class="key">{key}</p>' + (packing if groups else "")


def _fallbacks(result: Mapping[str, Any]) -> str:
    reasons: dict[tuple[str, str], list[float]] = {}
    for row in result["fallbacks"]:
        entry = reasons.setdefault((row["reason"], row["op"]), [0, 0.0, 0.0])
        entry[0], entry[1], entry[2] = entry[0] + 1, entry[1] + row["ms"], entry[2] + row["crossing_ms"]
    ordered = sorted(reasons.items(), key=lambda item: -sum(item[1][1:]))
    rows = [[escape(reason), escape(op), int(n), ms, over] for (reason, op), (n, ms, over) in ordered]
    columns = [("reason", "long"), ("operator", "text"), ("layers", ""), ("ms", MODELLED), ("crossing ms", MODELLED)]
    if not rows:
        return ""
    return section(
        "On the Cortex-A55",
        "Layers that the accelerator does not run, with the cost of transfers.",
        table(columns, rows),
    )


def _layers(result: Mapping[str, Any]) -> str:
    heads = "layer|operator|unit|shape|MMAC|zeros|N of M|kcycle|time [µs]|crossing [µs]|kB|bound by|use|energy [µJ]"
    text = {"layer": "text", "operator": "text", "unit": "text", "shape": "text", "bound by": "text"}
    rows = []
    for row in result["layers"]:
        if not (row["us"] or row["crossing_us"]):
            continue
        rows.append(
            [
                f'<span class="name" title="{escape(row["name"])}">{breakable(row["name"])}</span>',
                escape(row["op"]),
                row["unit"],
                "×".join(map(str, row["shape"])),
                f"{row['macs'] * 1e-6:.2f}",
                f"{row['sparsity']:.0%}",
                "" if row["mean_n"] is None else f"{row['mean_n']:.1f} of {row['group_rows']}",
                f"{row['cycles'] * 1e-3:.1f}",
                f"{row['us']:.1f}",
                f"{row['crossing_us']:.0f}",
                f"{row['bytes'] * 1e-3:.0f}",
                row["bound_by"],
                f"{row['utilisation']:.0%}",
                f"{row['uj']:.1f}",
            ]
        )
    columns = [(head, text.get(head, "")) for head in heads.split("|")]
    return table(columns, rows, sortable=True)
