# SPDX-License-Identifier: Apache-2.0
"""The topic `map`: an occupancy grid from the keyframes' depth, for Nav2's static layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid as OccupancyGridMessage
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.datatypes import Frame
from drp_slam.errors import SlamError
from drp_slam.nodes import qos, world
from drp_slam.slam.map import Map
from drp_slam.slam.occupancy import Occupancy, OccupancyGrid

AT_ONCE = 30
"""Largest number of keyframes marked at once: after a closed loop all are marked again."""


class GridPublisher:
    """Keeps a few depths per keyframe and marks them while the topic has a subscriber."""

    def __init__(self, node: Any, cell_m: float, height_m: tuple[float, float]) -> None:
        self._out = node.advertise(OccupancyGridMessage, "map", qos.latched())
        self._cell_m, self._height_m = cell_m, height_m
        self._depths: dict[int, np.ndarray] = {}
        self._marks: Occupancy | None = None
        self._todo: list[int] = []

    def keyframe(self, number: int, frame: Frame) -> None:
        """Called when this frame became keyframe `number`."""
        if frame.depth is None:
            return
        if self._marks is None:
            self._marks = Occupancy(frame.camera, self._cell_m, self._height_m)
        self._depths[number] = self._marks.sample(frame)
        self._todo.append(number)

    def moved(self) -> None:
        """Called when a closed loop moved keyframes: all are marked again."""
        if self._marks is not None:
            self._marks.clear()
        self._todo = list(self._depths)

    def forget(self) -> None:
        """Clears the grid for another map."""
        self._depths, self._todo, self._marks = {}, [], None

    def publish(self, head: Header, frames: world.Frames, slam_map: Map) -> None:
        """Marks new keyframes and publishes the grid if it has a subscriber, and if any depth is in the slice."""
        if self._marks is None or not self._todo or not self._out.get_subscription_count():
            return
        now, self._todo = self._todo[:AT_ONCE], self._todo[AT_ONCE:]
        for number in now:
            T_map_camera = frames.T_map_world @ geometry.inverse(slam_map.pose(number))
            self._marks.mark(self._depths[number], T_map_camera)
        try:
            self._out.publish(message(head, self._marks.grid()))
        except SlamError:  # nothing at that height so far
            return


def message(head: Header, grid: OccupancyGrid) -> OccupancyGridMessage:
    """The grid in the frame of `head`."""
    out = OccupancyGridMessage(header=head)
    out.info.resolution = grid.cell_m
    out.info.height, out.info.width = map(int, grid.cells.shape)
    out.info.origin.position.x, out.info.origin.position.y = grid.origin_m
    out.info.origin.orientation.w = 1.0
    data = out.data
    data.frombytes(np.ascontiguousarray(grid.cells).tobytes())
    return out
