# SPDX-License-Identifier: Apache-2.0
"""`bench --overload`: a camera that is faster than the graph."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drp_slam.commands._tables import print_table

SECONDS = 15.0
"""Duration of each load."""


def measure(args: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Measures the graph's own rate, then 2, 4 and 8 times that frame rate. Raises DrpSlamError."""
    from drp_slam.config import Config
    from drp_slam.config.config_file import override
    from drp_slam.nodes.overload import measure as measured
    from drp_slam.reporting.folder import write_json

    config = override(Config(), {"graph.out": str(out), "graph.device": args.device})
    rows = measured(config, args.sequence, SECONDS)
    write_json(out / "overload.json", {"sequence": args.sequence, "overload": rows})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints one row per load, all measured on this host."""
    cells = [
        (
            "as fast as the graph" if not k else f"{row['sent_hz'] / rows[0]['done_hz']:.1f} times as many",
            f"{row['sent_hz']:.1f}",
            f"{row['done_hz']:.1f}",
            f"{row['goodput']:.2f}",
            f"{row['p50_ms']:.0f} / {row['p99_ms']:.0f}",
            f"{row['p99_ratio']:.2f}",
            f"{row['graph_ms_per_frame']:.1f}",
            f"{row['publisher_cores']:.2f}",
        )
        for k, row in enumerate(rows)
    ]
    columns = "frames|sent/s|done/s|share|latency p50 / p99 ms|p99 ratio|nodes' CPU ms per frame|publisher's cores"
    print_table(columns, cells, title="measured on this host", left=("frames",), spare="p99 ratio")
