# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam play`: the player alone, in this process."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from drp_slam.nodes.options import player_parameters
from drp_slam.nodes.table import environment, transport


def play(args: argparse.Namespace) -> dict[str, Any]:
    """Handler: plays once, or until SIGINT. Raises DataError at a damaged frame."""
    os.environ.update(environment(local=False) | transport(sends_images=True))
    from rclpy.parameter import Parameter

    from drp_slam.nodes.base import spin
    from drp_slam.nodes.player_node import PlayerNode

    values = {**player_parameters(args), "wait": args.rate == "max"}
    made: list[PlayerNode] = []

    def make() -> PlayerNode:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append(PlayerNode(parameter_overrides=overrides))
        return made[0]

    start_s = time.monotonic()
    spin(make, [])
    return {"sequence": args.sequence, "frames": made[0].frames, "wall_s": time.monotonic() - start_s}


def show(result: dict[str, Any]) -> None:
    """Prints for people."""
    print(f"played {result['frames']} frames of {result['sequence']} in {result['wall_s']:.1f} s")
