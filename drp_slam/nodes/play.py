# SPDX-License-Identifier: Apache-2.0
"""Runs the player alone in this process, for `play`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from drp_slam.nodes.table import environment, transport


def play(parameters: dict[str, Any]) -> dict[str, Any]:
    """Plays once, or until SIGINT, with these parameters of the player. Raises DataError at a damaged frame."""
    os.environ.update(environment(local=False) | transport(sends_images=True, local=False))
    from rclpy.parameter import Parameter

    from drp_slam.nodes.base import StageNode
    from drp_slam.nodes.player_node import PlayerNode
    from drp_slam.nodes.running import begun, spin

    made: list[PlayerNode] = []

    def make() -> Sequence[StageNode]:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        made.append(PlayerNode(parameter_overrides=overrides))
        return begun(made)

    start_s = time.monotonic()
    spin(make, [])
    return {"frames": made[0].frames, "wall_s": time.monotonic() - start_s}
