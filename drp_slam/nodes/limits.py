# SPDX-License-Identifier: Apache-2.0
"""Lengths of queues, also for modules that do not import ROS."""

NEWEST = 1
"""Live, the newest frame wins: no frame waits behind the one being processed."""

IN_FLIGHT = 16
"""Largest number of frames in flight at `--rate max`."""
