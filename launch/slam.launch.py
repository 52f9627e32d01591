# SPDX-License-Identifier: Apache-2.0
"""The four nodes on a camera's topics: `ros2 launch drp_slam slam.launch.py`."""

from drp_slam.nodes.launching import description


def generate_launch_description():
    """Arguments: `ros2 launch drp_slam slam.launch.py --show-args`."""
    return description(player=False)
