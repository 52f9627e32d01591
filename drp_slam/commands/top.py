# SPDX-License-Identifier: Apache-2.0
"""`top`: the running graph in a terminal."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

HELP = "watch the running graph: utilisation, latency, drops, energy, tracking, temperature"
EXAMPLE = "top --once --json"
BAR = 30
"""Characters of a full bar."""
SILENT_S = 5.0
"""A node without a message for this long is shown as silent."""
FINDING_STYLES = {"NOTE": "dim", "WARN": "yellow", "ERROR": "red"}


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--namespace", metavar="NAME", default="", help="watch the graph in this ROS namespace")
    p.add_argument("--once", action="store_true", help="print the state once and exit")
    text = "fail if no graph publishes within this many seconds (default: 10)"
    p.add_argument("--timeout", type=float, default=10.0, metavar="S", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The last state. With `--json` or `--once` the first one that is complete; else until Ctrl-C."""
    import os

    from drp_slam.nodes.table import environment, transport

    for name, value in (environment(local=False) | transport(sends_images=False, local=False)).items():
        os.environ.setdefault(name, value)
    from rich.console import Console
    from rich.live import Live

    from drp_slam.nodes.top import watch

    if args.once or args.json:
        return watch(args.namespace, args.timeout, lambda found: False)
    with Live(console=Console(stderr=True), auto_refresh=False, screen=True) as live:

        def show(found: Mapping[str, Any]) -> bool:
            live.update(picture(found), refresh=True)
            return True

        return watch(args.namespace, args.timeout, show)


def show(result: Mapping[str, Any]) -> None:
    """Prints the last state."""
    from drp_slam.commands._tables import console

    if result:
        console().print(picture(result))


def picture(found: Mapping[str, Any]) -> Any:
    """The display: a line on tracking, the units of the chip, the nodes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def number(key: str, unit: str, digits: int = 1) -> str:
        value = found[key]
        return f"{'–' if value is None else format(value, f'.{digits}f')} {unit}"

    state = Text.assemble(
        ("tracking: ", "bold"),
        (found["state"] or "no frame yet", "green" if found["state"] == "tracked" else "yellow"),
        f" {found['reason'].replace('_', ' ')}",
        f"   {found['frames']} frames, {found['lost']} lost, {found['dropped']} dropped",
    )
    measured = Text(f"measured here: {number('fps', 'frames/s')}, latency p50 {number('latency_ms', 'ms')}")
    modelled = Text(
        f"modelled: {number('energy_mj', 'mJ per frame')}, {number('power_w', 'W', 2)}, "
        f"{number('temperature_c', '°C without a fan')}"
    )
    units = Table("unit", "", "busy (modelled)", box=None, padding=(0, 1))
    for unit, share in found["utilisation"].items():
        filled = min(BAR, round(BAR * (share or 0.0)))
        bar = Text("█" * filled, style="red" if filled == BAR else "cyan") + Text("░" * (BAR - filled), style="dim")
        units.add_row(unit, bar, "–" if share is None else f"{100 * share:5.1f} %")
    nodes = Table("node", "frames", "problems", "late (pacing)", "health", box=None, padding=(0, 1))
    for name, values in found["nodes"].items():
        colour = {"OK": "green", "WARN": "yellow"}.get(values["level"], "red")
        message = values["message"] if values["silent_s"] < SILENT_S else f"silent for {values['silent_s']:.0f} s"
        late = f"{values['late_ms']} ms" if "late_ms" in values else ""
        nodes.add_row(name, values.get("frames", ""), values.get("problems", ""), late, Text(message, style=colour))
    wrong = [
        Text(f"{one['level'].lower()}: {one['where']}: {one['seen']}; {one['remedy']}", FINDING_STYLES[one["level"]])
        for one in found["findings"]
    ]
    return Group(state, measured, modelled, Text(), units, Text(), nodes, Text(), *wrong)
