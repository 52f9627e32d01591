# SPDX-License-Identifier: Apache-2.0
"""`play`: the player alone."""

from __future__ import annotations

import argparse
from typing import Any

from drp_slam.commands._options import add_camera, add_player, add_sequence

HELP = "publish a recording as ROS 2 topics, with /clock"
EXAMPLE = "play synthetic --rate 0.5"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p)
    add_camera(p)
    add_player(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Plays once, or until SIGINT. Raises DataError at a damaged frame."""
    from drp_slam.nodes.options import player_parameters
    from drp_slam.nodes.play import play

    return {"sequence": args.sequence, **play(player_parameters(args) | {"wait": args.rate == "max"})}


def show(result: dict[str, Any]) -> None:
    print(f"played {result['frames']} frames of {result['sequence']} in {result['wall_s']:.1f} s")
