# SPDX-License-Identifier: Apache-2.0
"""Compares a folder written by the vendor's compiler with the model's prediction for the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drp_slam.drpai3.board_artifacts import Estimated, Profiled, read_addresses, read_plan, read_profile, read_summary
from drp_slam.errors import DataError

AREAS = {"inputs": ("data_in",), "features": ("data", "work"), "weights": ("weight",), "configuration": ("drp_config",)}
"""Area of `footprint.Footprint` -> areas of `addr_map.txt`. `data_out` is a part of the features."""
APART = 0.15
"""Relative difference above which two figures are reported as different."""
NOTABLE = 0.02
"""Share of the translator's sum below which an operator's difference is not reported."""
CONVERSIONS = "conversions, transposes"
"""Changes of type and layout. Those of a resizing are part of its modelled time."""
SAME = {
    "nop": "Concat",
    "focus": "Slice",
    "slice": "Slice",
    "split": "Slice",
    "gemm": "Conv",
    "matmul": "Conv",
} | dict.fromkeys(
    ("quantizelinear", "dequantizelinear", "cast_fp16_fp32", "cast_fp32_fp16", "cast", "transpose", "imagescaler"),
    CONVERSIONS,
)
"""Copies of a concatenation are rows `NOP`; a translator's Focus is Slice and Concat in a graph."""


def board_compare(folder: Path, predicted: Mapping[str, Any], ideal: Mapping[str, Any]) -> dict[str, Any]:
    """`predicted` is `estimate_result.as_dict` of the network, `ideal` the same without contention between work
    and traffic, which a translator does not count. Raises DataError for an empty folder.

    Sections `placement`, `memory`, `translator` and `profile` exist if the folder has their file;
    `parts` lists differences of more than 15 %.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that the compiler wrote")
    found: dict[str, Any] = {"folder": str(folder), "network": predicted["name"], "device": predicted["device"]}
    plan, maps = _files(folder, "mera.plan"), _files(folder, "addr_map.txt")
    summaries = _files(folder, "*summary*.csv") or _files(folder, "*summary*.xlsx")
    profiles = _files(folder, "*rofile*.csv")
    if plan:
        found["placement"] = _placement(plan[0], predicted)
    if maps:
        found["memory"] = _memory(maps, predicted)
    if summaries:
        found["translator"] = _translator([row for path in summaries for row in read_summary(path)], ideal)
    if profiles:
        found["profile"] = _profile([row for path in profiles for row in read_profile(path)], predicted)
    if not plan and not maps and not summaries and not profiles:
        raise DataError(f"{folder}: no mera.plan, addr_map.txt, *summary*.csv or *profile*.csv below it")
    found["parts"] = list(_parting(found))
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def _placement(path: Path, predicted: Mapping[str, Any]) -> dict[str, Any]:
    plan = read_plan(path)
    on_cpu = [s.name for s in plan.subgraphs if s.on_cpu]
    fallbacks = Counter(f"{row['op']}: {row['reason']}" for row in predicted["fallbacks"])
    runs, before = 0, False
    for row in predicted["layers"]:
        here = row["unit"] == "cpu"
        runs, before = runs + (here and not before), here
    return {
        "file": str(path),
        "subgraphs": len(plan.subgraphs),
        "on_cpu": on_cpu,
        "buffer_mib": sum(plan.buffers.values()) / 2**20,
        "predicted_cpu_runs": runs,
        "predicted_fallbacks": dict(fallbacks),
    }


def _memory(paths: Sequence[Path], predicted: Mapping[str, Any]) -> dict[str, Any]:
    sizes: Counter[str] = Counter()
    for path in paths:
        for area, (_, size) in read_addresses(path).items():
            sizes[area] += size
    areas = {
        ours: {
            "compiled_mib": sum(sizes[theirs] for theirs in names) / 2**20,
            "modelled_mib": predicted["memory_areas_mib"][ours],
        }
        for ours, names in AREAS.items()
    }
    known = {theirs for names in AREAS.values() for theirs in names} | {"data_out"}
    others = {area: size / 2**20 for area, size in sizes.items() if area not in known}
    return {"files": [str(p) for p in paths], "areas": areas, "not_modelled_mib": others}


def _translator(rows: Sequence[Estimated], predicted: Mapping[str, Any]) -> dict[str, Any]:
    theirs: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for row in rows:
        theirs[_kind(row.operator)] += row.time_us  # type: ignore[assignment]
    for layer in predicted["layers"]:
        ours[_kind(layer["op"])] += layer["us"]
        ours[CONVERSIONS] += layer["crossing_us"]
    kinds = sorted(set(theirs) | set(ours), key=lambda k: -max(theirs[k], ours[k]))
    return {
        "rows": len(rows),
        "translator_us": sum(theirs.values()),
        "modelled_us": sum(ours.values()),
        "kinds": {k: {"translator_us": theirs[k], "modelled_us": ours[k]} for k in kinds if theirs[k] or ours[k]},
    }


def _kind(operator: str) -> str:
    return SAME.get(operator.lower(), operator[:1].upper() + operator[1:])


def _profile(rows: Sequence[Profiled], predicted: Mapping[str, Any]) -> dict[str, Any]:
    devices: Counter[str] = Counter()
    for row in rows:
        devices[row.device or "?"] += row.wall_us  # type: ignore[assignment]
    cpu_us = sum(row["us"] for row in predicted["layers"] if row["unit"] == "cpu")
    return {
        "measured_us": {device: float(us) for device, us in devices.items()},
        "measured_total_us": float(sum(devices.values())),
        "modelled_total_us": predicted["total_ms"] * 1e3,
        "modelled_cpu_us": cpu_us + predicted["crossing_ms"] * 1e3,
    }


def _parting(found: Mapping[str, Any]) -> Sequence[str]:
    """Sentences that describe the differences."""
    said = []
    placed = found.get("placement")
    if placed and bool(placed["on_cpu"]) != bool(placed["predicted_cpu_runs"]):
        theirs, ours = len(placed["on_cpu"]), placed["predicted_cpu_runs"]
        said.append(f"placement: compiled with {theirs} subgraphs on the CPU, predicted {ours}")
    pairs = [
        (f"memory of {area}", row["compiled_mib"], row["modelled_mib"], "MiB")
        for area, row in found.get("memory", {}).get("areas", {}).items()
    ]
    if "translator" in found:
        t = found["translator"]
        pairs.append(("translator's sum", t["translator_us"], t["modelled_us"], "us"))
        pairs += [
            (f"translator's {kind}", row["translator_us"], row["modelled_us"], "us")
            for kind, row in t["kinds"].items()
            if max(row.values()) > NOTABLE * t["translator_us"]
        ]
    if "profile" in found:
        p = found["profile"]
        pairs.append(("profile's sum, measured", p["measured_total_us"], p["modelled_total_us"], "us"))
    for name, theirs, ours, unit in pairs:
        if abs(ours - theirs) > APART * max(theirs, 1e-9):
            said.append(f"{name}: {theirs:.4g} {unit}, modelled {ours:.4g} {unit}")
    return said
