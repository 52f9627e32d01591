# SPDX-License-Identifier: Apache-2.0
"""`board-compare`: a folder compiled for the board against the prediction for its network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_network_model, read_network
from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import console as stdout
from drp_slam.commands._tables import print_table, print_written

HELP = "compare the output of the vendor's compiler with the prediction for the network"
EXAMPLE = "board-compare compiled/ yolox_s.onnx"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, help="folder with mera.plan, addr_map.txt, *summary*.csv|xlsx or *profile*.csv")
    p.add_argument("model", help="ONNX file that was compiled, or a shipped network")
    add_network_model(p)
    add_out(p, "none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Placement, memory and times of both, and where they differ."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.board_compare import board_compare
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.estimate_result import as_dict

    constants = load_constants(args.device)
    graph = read_network(args.model, args.input_shape, in_place=args.results_stay)
    calm = constants.replace({"drpai3.exposed_share": 0.0})
    found, ideal = (
        as_dict(estimate(graph, c, args.freq_index, results_stay=args.results_stay), c, "file")
        for c in (constants, calm)
    )
    return kept(args, board_compare(args.dir, found, ideal))


def show(result: dict[str, Any]) -> None:
    """Prints each section, then the differences."""
    console = stdout()
    console.print(f"{result['network']} compiled in {result['folder']}, and on {result['device']} (modelled)")
    if "placement" in result:
        part = result["placement"]
        names = ", ".join(part["on_cpu"])
        console.print(
            f"placement: {part['subgraphs']} subgraphs, {len(part['on_cpu'])} on the CPU ({names}); "
            f"predicted runs on the CPU: {part['predicted_cpu_runs']}"
        )
        for reason, count in part["predicted_fallbacks"].items():
            console.print(f"  predicted on the CPU: {count} x {reason}")
    if "memory" in result:
        rows = [
            (area, f"{row['compiled_mib']:.2f}", f"{row['modelled_mib']:.2f}")
            for area, row in result["memory"]["areas"].items()
        ]
        rows += [(area, f"{size:.2f}", "not modelled") for area, size in result["memory"]["not_modelled_mib"].items()]
        print_table("area|compiled MiB|modelled MiB", rows, left=("area",))
    if "translator" in result:
        part = result["translator"]
        rows = [(k, f"{v['translator_us']:.0f}", f"{v['modelled_us']:.0f}") for k, v in part["kinds"].items()]
        rows.append(("sum", f"{part['translator_us']:.0f}", f"{part['modelled_us']:.0f}"))
        print_table("operator|translator us|modelled us", rows, left=("operator",))
    if "profile" in result:
        part = result["profile"]
        devices = ", ".join(f"{device} {us:.0f} us" for device, us in part["measured_us"].items())
        console.print(f"profile, measured: {devices}, in all {part['measured_total_us']:.0f} us")
        console.print(
            f"modelled: {part['modelled_total_us']:.0f} us, {part['modelled_cpu_us']:.0f} us for the CPU and transfers"
        )
    for line in result["parts"]:
        console.print(f"differs by more than 15 %: {line}")
    print_written(result)
