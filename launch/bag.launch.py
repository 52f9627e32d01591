# SPDX-License-Identifier: Apache-2.0
"""The four nodes and a recording: `ros2 launch drp_slam bag.launch.py bag:=PATH`."""

from drp_slam.nodes.launching import description


def generate_launch_description():
    """Arguments: `ros2 launch drp_slam bag.launch.py --show-args`."""
    return description(player=True)
