# SPDX-License-Identifier: Apache-2.0
"""Services for the map: reset, save, load, mode, pause; and the topic `initialpose`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.srv import LoadMap
from std_srvs.srv import SetBool, Trigger

from drp_slam import geometry
from drp_slam.errors import DrpSlamError, GraphError
from drp_slam.nodes import qos
from drp_slam.nodes.transforms import frame_name
from drp_slam.slam import mapfile
from drp_slam.slam.map import Map

if TYPE_CHECKING:
    from drp_slam.config import GraphConfig
    from drp_slam.datatypes import DescriptorSpec
    from drp_slam.slam.tracker import Tracker


class MapOwner(Protocol):
    """The operations of `pose_node` that the services call."""

    graph: GraphConfig
    tracker: Tracker | None
    descriptor: DescriptorSpec

    def begin_map(self, slam_map: Map) -> None: ...
    def map_file(self) -> str: ...
    def localise(self, on: bool) -> None: ...
    def pause(self, on: bool) -> None: ...
    def expect(self, T_map_base: np.ndarray) -> None: ...
    def problem(self, error: object) -> None: ...
    @property
    def subscribe(self) -> Callable[..., Any]: ...
    @property
    def serve(self) -> Callable[..., Any]: ...


class MapServices:
    """Serves requests in the node's own thread, between two frames. A refused request changes nothing and says why."""

    def __init__(self, node: MapOwner) -> None:
        self._node = node
        node.serve(Trigger, "reset", self._on_reset)
        node.serve(Trigger, "save_map", self._on_save)
        node.serve(LoadMap, "load_map", self._on_load)
        node.serve(SetBool, "set_mode", self._on_mode)
        node.serve(SetBool, "pause", self._on_pause)
        node.subscribe(PoseWithCovarianceStamped, "initialpose", self._on_pose, qos.world())

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begins a new map at the next frame; the odometry stays continuous."""
        self._node.begin_map(Map(self._node.descriptor))
        response.success, response.message = True, "a new map begins at the next frame"
        return response

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Saves to the file in the parameter `save_map`, else to `map.drpmap` in the results folder."""
        node = self._node
        name = node.map_file()
        try:
            if not name:
                raise GraphError("no file: set the parameter save_map of pose_node, or start it with out")
            if node.tracker is None or not len(node.tracker.map):
                raise GraphError("no map yet: no frame has been tracked")
            mapfile.save(node.tracker.map, Path(name))
        except DrpSlamError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        response.message = f"{name}: {len(node.tracker.map)} keyframes"
        return response

    def _on_load(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        """Loads the file `map_url`, a path or file://; relocalises in it from the next frame on."""
        path = unquote(request.map_url.removeprefix("file://"))
        response.result = LoadMap.Response.RESULT_SUCCESS
        try:
            if not path:
                raise GraphError("load_map: map_url is empty; name a file that save_map has written")
            self._node.begin_map(mapfile.open_map(path, self._node.descriptor))
        except DrpSlamError as error:
            self._node.problem(error)
            there = Path(path).is_file() if path else False
            invalid = LoadMap.Response.RESULT_INVALID_MAP_DATA
            response.result = invalid if there else LoadMap.Response.RESULT_MAP_DOES_NOT_EXIST
        return response

    def _on_mode(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """True: localise without changing the map; false: map."""
        node = self._node
        if request.data and (node.tracker is None or not len(node.tracker.map)):
            response.success, response.message = False, "no map to localise in: map first, or call load_map"
            return response
        node.localise(request.data)
        response.success, response.message = True, "localisation" if request.data else "mapping"
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """True: drop frames; false: relocalise in the map and resume tracking."""
        self._node.pause(request.data)
        response.success, response.message = True, "paused" if request.data else "running"
        return response

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        """Takes the pose of the base in the map from rviz's 2D Pose Estimate: relocalises the next frame there."""
        graph = self._node.graph
        if frame_name(message.header.frame_id) != graph.map_frame:
            raise GraphError(f"initialpose: in frame {message.header.frame_id!r}, expected {graph.map_frame!r}")
        T_map_base = pose_matrix(message.pose.pose)
        if T_map_base is None:
            raise GraphError("initialpose: no finite position and unit quaternion; it is ignored")
        self._node.expect(T_map_base)


def pose_matrix(pose: Any) -> np.ndarray | None:
    """(4, 4) of a geometry_msgs/Pose; None for an invalid one."""
    p, q = pose.position, pose.orientation
    numbers = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
    if not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:]) - 1.0) > 0.01:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = geometry.rotation(numbers[3:]), numbers[:3]
    return T
