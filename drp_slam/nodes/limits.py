# SPDX-License-Identifier: Apache-2.0
"""Lengths of queues, exit codes and words, also for modules that do not import ROS."""

NEWEST = 1
"""Live, the newest frame wins: no frame waits behind the one being processed."""

LIVE_IN_FLIGHT = 3
"""Maximum number of a camera's frames in flight, one per stage node. Others are dropped before they are decoded."""

IN_FLIGHT = 16
"""Largest number of frames in flight at `--rate max`."""

DEAF = 75
"""Exit code of a node that can receive nothing any more: EX_TEMPFAIL of sysexits.h, try again."""

INACTIVE = "inactive"
"""Message of the last health report of a node that is deactivated."""
