# SPDX-License-Identifier: Apache-2.0
"""`compare-networks`: networks on DRP-AI3 side by side."""

from __future__ import annotations

import argparse
from typing import Any

from drp_slam.commands._networks import add_network_model, read_network
from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import print_table, print_written

HELP = "compare networks on DRP-AI3 side by side"
EXAMPLE = "compare-networks xfeat xfeat-p50 --input-shape 1,1,480,640"
SUMS = ("total_ms", "energy_mj", "gmacs", "cycles", "dense_cycles", "memory_mib", "tops_per_w")


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("models", nargs="+", help="ONNX files or shipped networks; the first is the reference")
    add_network_model(p)
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Modelled totals of each network, and its speed-up over the first."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.estimate_result import as_dict

    constants, rows = load_constants(args.device), list[dict[str, Any]]()
    for name in args.models:
        graph = read_network(name, args.input_shape, args.dim, args.results_stay)
        found = estimate(graph, constants, args.freq_index, results_stay=args.results_stay)
        whole = as_dict(found, constants, "file")
        row = {key: whole[key] for key in ("name", *SUMS, "crossings", "crossing_ms", "incomplete")}
        rows.append(row | {"fallbacks": len(whole["fallbacks"])})
    for row in rows:
        row["speedup"] = rows[0]["total_ms"] / row["total_ms"]
    return kept(args, {"device": f"emulated:{constants.name}", "networks": rows})


def show(result: dict[str, Any]) -> None:
    """Prints the comparison; the first network is the reference."""
    rows = []
    for row in result["networks"]:
        share = row["cycles"] / row["dense_cycles"] if row["dense_cycles"] else 1.0
        times = (f"{row['total_ms']:.3f}", f"{row['speedup']:.2f} x", f"{row['energy_mj']:.2f}")
        work = (f"{row['gmacs']:.3f}", f"{row['cycles'] * 1e-6:.3f}", f"{share:.0%}", f"{row['memory_mib']:.1f}")
        rest = (f"{row['tops_per_w']:.2f}", str(row["fallbacks"]), f"{row['crossing_ms']:.2f}")
        name = row["name"] + (" (incomplete)" if row["incomplete"] else "")
        rows.append((name, *times, *work, *rest))
    columns = "network|ms|speed-up|mJ|GMAC|Mcycle|of dense|MiB|TOPS/W|on A55|crossings ms"
    title = f"{result['device']} (modelled)"
    print_table(columns, rows, title=title, left=("network",), spare="TOPS/W|Mcycle|MiB|GMAC|crossings ms")
    print_written(result)
