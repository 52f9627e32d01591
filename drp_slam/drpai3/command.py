# SPDX-License-Identifier: Apache-2.0
"""The commands `estimate` and `compare-networks`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.device import Constants, load_constants
from drp_slam.drpai3.estimate import Estimate, estimate
from drp_slam.drpai3.graph import Graph, load
from drp_slam.errors import DrpAi3Error


def input_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """`--input-shape` texts, `NAME=1,3,H,W` or `1,3,H,W` for the only input."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        try:
            shapes[name] = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            raise DrpAi3Error(f"--input-shape {text!r}, expected NAME=1,3,224,224 or 1,3,224,224") from None
    return shapes


def read(name: str, shapes: Iterable[str] = ()) -> Graph:
    """A network file, or a shipped network by name, as a graph."""
    path = Path(name).expanduser()
    if not path.is_file() and path.suffix not in (".gz", ".onnx"):
        path = resources.network(name)
    return load(path, input_shapes(shapes))


def run_estimate(args: argparse.Namespace) -> dict[str, Any]:
    """`estimate`: the report of one network."""
    start = time.perf_counter()
    constants = load_constants(args.device)
    graph = read(args.model, args.input_shape)
    sparsity = 0.0 if args.dense else args.sparsity
    pattern = args.pattern or ("file" if sparsity is None else "balanced")
    if sparsity is None and pattern != "file":
        raise DrpAi3Error(f"--pattern {pattern} needs --sparsity; without it the file's own zeros count")
    found = estimate(
        graph,
        constants,
        args.freq_index,
        sparsity=sparsity,
        pattern=pattern,
        release=args.release,
        results_stay=args.results_stay,
    )
    result = as_dict(found, constants, pattern)
    if args.verify:
        from drp_slam.drpai3.verify import verify

        result["verified"] = verify(graph, constants)
    if args.run is not None:
        from drp_slam.cli import out_folder
        from drp_slam.drpai3.execute import execute

        result["executed"] = execute(graph, args.run, args.method, args.percentile, out_folder(args))
    result["wall_s"] = time.perf_counter() - start
    if args.html or args.csv:
        from drp_slam.cli import out_folder
        from drp_slam.drpai3 import estimate_page

        folder = out_folder(args)
        result["files"] = [str(p) for p in estimate_page.write(folder, result, constants, args.html, args.csv)]
    return result


def as_dict(found: Estimate, constants: Constants, pattern: str) -> dict[str, Any]:
    """An estimate as JSON; modelled figures only."""
    layers: list[dict[str, Any]] = [
        {
            "name": row.name,
            "op": row.op,
            "unit": row.unit,
            "shape": list(row.shape),
            "macs": row.macs,
            "sparsity": row.sparsity,
            "mean_n": row.mean_n,
            "group_rows": int(constants["drpai3.group_rows"]),
            "cycles": row.cycles,
            "us": row.seconds * 1e6,
            "crossing_us": row.wait_s * 1e6,
            "bytes": row.bytes,
            "bound_by": row.bound_by,
            "utilisation": row.utilisation,
            "uj": row.energy_j * 1e6,
            "reason": row.reason,
        }
        for row in found.rows
    ]
    kinds = {"cited": 0, "fitted": 0, "assumed": 0}
    for entry in constants.entries():
        if entry.key.startswith(("drpai3.", "fallback.")):
            kinds[entry.kind] += 1
    return {
        "name": found.name,
        "device": f"emulated:{constants.name}",
        "pattern": pattern,
        "mac_mhz": found.mac_hz * 1e-6,
        "total_ms": found.total_s * 1e3,
        "energy_mj": found.energy_j * 1e3,
        "accelerator_mj": found.accelerator_j * 1e3,
        "average_w": found.energy_j / found.total_s,
        "tops_per_w": found.tops_per_w,
        "gmacs": found.macs * 1e-9,
        "cycles": found.cycles,
        "dense_cycles": found.dense_cycles,
        "array_tops": found.array_tops,
        "effective_tops": 2e-12 * found.macs / found.total_s,
        "crossings": found.crossings,
        "crossing_ms": found.crossing_s * 1e3,
        "overhead_ms": found.overhead_s * 1e3,
        "memory_mib": found.memory_bytes / 2**20,
        "traffic_mb": found.bytes * 1e-6,
        "index_bytes": found.index_bytes,
        "groups_by_n": [int(n) for n in found.histogram],
        "packing_loss": {k: float(v) for k, v in found.losses.items()},
        "constants": kinds,
        "layers": layers,
        "fallbacks": [
            {
                "name": row["name"],
                "op": row["op"],
                "reason": row["reason"],
                "ms": row["us"] * 1e-3,
                "crossing_ms": row["crossing_us"] * 1e-3,
            }
            for row in layers
            if row["unit"] == "cpu"
        ],
    }


def wide_console() -> Any:
    """Standard output, as wide as the tables where it is no terminal."""
    import sys

    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=170)


def show_estimate(result: dict[str, Any]) -> None:
    """Prints the layers, totals and fallbacks."""
    from rich.table import Table

    console = wide_console()
    table = Table(
        title=f"{result['name']} on {result['device']}, AI-MAC {result['mac_mhz']:.0f} MHz (modelled)",
        header_style="bold",
    )
    for column in (
        "layer",
        "op",
        "unit",
        "shape",
        "MMAC",
        "zeros",
        "N/M",
        "kcycle",
        "us",
        "+cross",
        "kB",
        "bound by",
        "use",
        "uJ",
    ):
        left = column in ("layer", "op", "unit", "shape", "bound by")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    busy = [row for row in result["layers"] if row["us"] or row["crossing_us"]]
    for row in busy:
        mean = "" if row["mean_n"] is None else f"{row['mean_n']:.1f}/{row['group_rows']}"
        table.add_row(
            row["name"][-28:],
            row["op"],
            row["unit"],
            "x".join(map(str, row["shape"])),
            f"{row['macs'] * 1e-6:.1f}",
            f"{row['sparsity']:.0%}" if row["sparsity"] else "",
            mean,
            f"{row['cycles'] * 1e-3:.1f}",
            f"{row['us']:.1f}",
            f"{row['crossing_us']:.0f}" if row["crossing_us"] else "",
            f"{row['bytes'] * 1e-3:.0f}",
            row["bound_by"],
            f"{row['utilisation']:.0%}",
            f"{row['uj']:.1f}",
            style="red" if row["unit"] == "cpu" else None,
        )
    console.print(table)
    hidden = len(result["layers"]) - len(busy)
    console.print(f"{hidden} layers run behind others and take no time of their own")
    console.print(
        f"[bold]{result['total_ms']:.3f} ms, {result['energy_mj']:.2f} mJ[/] "
        f"({result['average_w']:.2f} W), {result['gmacs']:.3f} GMAC, "
        f"{result['tops_per_w']:.2f} TOPS/W of the accelerator (published: 9 to 11 for pruned "
        f"ResNet-50 class, 23.9 for the ideal layer)"
    )
    console.print(
        f"cycles {result['cycles']:.3g} of {result['dense_cycles']:.3g} dense; memory "
        f"{result['memory_mib']:.1f} MiB; traffic {result['traffic_mb']:.1f} MB; fixed "
        f"{result['overhead_ms']:.2f} ms; {result['crossings']} crossings "
        f"{result['crossing_ms']:.2f} ms"
    )
    if sum(result["groups_by_n"]):
        counts = " ".join(f"{n}:{count}" for n, count in enumerate(result["groups_by_n"]) if count)
        loss = result["packing_loss"]
        console.print(
            f"weight groups by N  {counts}; lost to unequal columns "
            f"{loss['balance']:.1%}, to padding {round(loss['padding'], 3) + 0.0:.1%} of the dense "
            "cycles"
        )
    for key in ("verified", "executed"):
        if key in result:
            console.print(f"{key}: " + ", ".join(f"{k} {v}" for k, v in result[key].items()))
    reasons: dict[str, list[float]] = {}
    for row in result["fallbacks"]:
        entry = reasons.setdefault(f"{row['reason']} ({row['op']})", [0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += row["ms"]
        entry[2] += row["crossing_ms"]
    for reason, (count, ms, crossing) in sorted(reasons.items(), key=lambda r: -sum(r[1][1:])):
        console.print(
            f"[red]{count:.0f} on the Cortex-A55[/]: {reason}: {ms:.2f} ms and {crossing:.2f} ms over and back"
        )
    kinds = result["constants"]
    console.print(f"rests on {kinds['cited']} cited, {kinds['fitted']} fitted and {kinds['assumed']} assumed constants")
    for path in result.get("files", ()):
        console.print(f"wrote {path}")


def compare_networks(args: argparse.Namespace) -> dict[str, Any]:
    """`compare-networks`: several networks side by side."""
    constants = load_constants(args.device)
    rows = []
    for name in args.models:
        found = estimate(read(name, args.input_shape), constants, args.freq_index, results_stay=args.results_stay)
        whole = as_dict(found, constants, "file")
        keys = (
            "name",
            "total_ms",
            "energy_mj",
            "gmacs",
            "cycles",
            "dense_cycles",
            "memory_mib",
            "tops_per_w",
            "crossings",
            "crossing_ms",
        )
        rows.append({k: whole[k] for k in keys} | {"fallbacks": len(whole["fallbacks"])})
    for row in rows:
        row["speedup"] = rows[0]["total_ms"] / row["total_ms"]
    return {"device": f"emulated:{constants.name}", "networks": rows}


def show_comparison(result: dict[str, Any]) -> None:
    """Prints the comparison; the first network is the reference."""
    from rich.table import Table

    table = Table(title=f"{result['device']} (modelled)", header_style="bold")
    for column in (
        "network",
        "ms",
        "against first",
        "mJ",
        "GMAC",
        "Mcycle",
        "of dense",
        "MiB",
        "TOPS/W",
        "on A55",
        "crossings ms",
    ):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in result["networks"]:
        share = row["cycles"] / row["dense_cycles"] if row["dense_cycles"] else 1.0
        table.add_row(
            row["name"],
            f"{row['total_ms']:.3f}",
            f"{row['speedup']:.2f} x",
            f"{row['energy_mj']:.2f}",
            f"{row['gmacs']:.3f}",
            f"{row['cycles'] * 1e-6:.3f}",
            f"{share:.0%}",
            f"{row['memory_mib']:.1f}",
            f"{row['tops_per_w']:.2f}",
            str(row["fallbacks"]),
            f"{row['crossing_ms']:.2f}",
        )
    wide_console().print(table)
