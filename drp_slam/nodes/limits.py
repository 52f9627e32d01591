# SPDX-License-Identifier: Apache-2.0
"""Lengths of queues, for those who do not import ROS as well."""

NEWEST = 1
"""Live, the newest frame wins: nothing waits behind a frame that is being worked on."""

IN_FLIGHT = 16
"""Frames that can be under way at `--rate max`."""
