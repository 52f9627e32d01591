# SPDX-License-Identifier: Apache-2.0
"""The player's options on the command line, as its parameters. No ROS is imported."""

from __future__ import annotations

import argparse
import math
from typing import Any

from drp_slam.errors import GraphError


def player_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Values of `PlayerConfig` that `up` and `play` have options for. Raises GraphError."""
    return {
        "sequence": args.sequence,
        "camera": args.camera or "",
        "start": args.start,
        "frames": args.frames or 0,
        "rate": rate(args.rate),
        "in_flight": args.in_flight,
        "loop": args.loop,
    }


def rate(text: str) -> float:
    """Parses a rate; `max` is 0. Raises GraphError for anything but a number above 0."""
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed < math.inf:
        raise GraphError(f"--rate {text!r}: expected max or a number above 0 such as 1.0")
    return speed
