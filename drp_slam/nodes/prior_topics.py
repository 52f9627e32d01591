# SPDX-License-Identifier: Apache-2.0
"""Wheel odometry and IMU as a prior of the camera's motion, with a file's samples beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu

from drp_slam.config import Config
from drp_slam.doctor.findings import Finding, found
from drp_slam.errors import ConfigError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.transforms import TransformTree, frame_name
from drp_slam.pipeline import open_prior
from drp_slam.slam.prior import Prior, Stream
from drp_slam.slam.prior_source import pose_of
from drp_slam.slam.reckoning import Reckoning

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode


class PriorTopics:
    """Subscribes to the topics in the parameters `odometry_topic` and `imu_topic`, and fills `prior` for the tracker.

    Raises ConfigError for the topic that the node itself publishes, DataError for a file `slam.prior` without samples.
    """

    def __init__(self, node: StageNode, config: Config, tree: TransformTree, arrived: Callable[[], None]) -> None:
        self._node, self._tree, self._arrived, self._base = node, tree, arrived, config.graph.base_frame
        self._wheels = Stream() if config.slam.odometry_topic else None
        self._imu = Stream() if config.slam.imu_topic else None
        filed = open_prior(config) or Prior()
        self.prior = Prior(self._wheels or filed.poses, self._imu or filed.turns)
        self._where = config.slam.odometry_topic or config.slam.imu_topic or config.slam.prior
        self._frames: dict[str, str] = {}
        self._reported: set[str] = set()
        self._given_up = False
        if self._wheels is not None:
            if node.resolve_topic_name(config.slam.odometry_topic) == node.resolve_topic_name("odom"):
                raise ConfigError(
                    f"slam.odometry_topic is {config.slam.odometry_topic!r}, which this graph publishes itself; name "
                    "the topic of the wheels"
                )
            node.subscribe(Odometry, config.slam.odometry_topic, self._on_odometry, qos.sensor_in(), foreign=True)
        if self._imu is not None:
            node.subscribe(Imu, config.slam.imu_topic, self._on_imu, qos.sensor_in(), foreign=True)

    def settle(self, T_base_camera: np.ndarray | None, stamp_ns: int) -> None:
        """Pose of the camera on the moving body: from the tree, or (4, 4) of the base; None: not known yet."""
        for name, stream in (("odometry", self._wheels), ("imu", self._imu)):
            if stream is None or T_base_camera is None:
                continue
            body = self._tree.name(self._frames.get(name, "")) or self._base
            T_body_base = np.eye(4) if body == self._base else self._tree.lookup(body, self._base, stamp_ns)
            if T_body_base is None:
                self._tell(f"{name}: /tf does not link its frame {body!r} with {self._base!r}; assumed to be that")
                T_body_base = np.eye(4)
            stream.T_body_camera = T_body_base @ T_base_camera

    def complete(self, stamp_ns: int, final: bool) -> bool:
        """Whether all samples until a frame have arrived, or waiting is useless: after one timeout a sender is not
        waited for until its next message. `final` ends the waiting."""
        live = [stream.last_ns for stream in (self._wheels, self._imu) if stream is not None]
        if all(last_ns is not None and last_ns >= stamp_ns for last_ns in live):
            return True
        self._given_up = self._given_up or final
        return self._given_up

    def findings(self, reckoning: Reckoning | None) -> list[Finding]:
        """Findings on the prior, from the tracker's comparison."""
        seen = reckoning.disagreement if reckoning is not None and reckoning.prior else ""
        return [found("prior_wrong", self._where, seen)] if seen else []

    def _on_odometry(self, message: Odometry) -> None:
        assert self._wheels is not None
        self._frames["odometry"] = frame_name(message.child_frame_id)
        p, q = message.pose.pose.position, message.pose.pose.orientation
        T = pose_of(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))
        self._took("odometry", self._wheels.add(convert.stamp_ns(message.header), T))

    def _on_imu(self, message: Imu) -> None:
        assert self._imu is not None
        self._frames["imu"] = frame_name(message.header.frame_id)
        stamp_ns, q, w = convert.stamp_ns(message.header), message.orientation, message.angular_velocity
        # REP-145: a covariance that begins with -1 says that there is no such measurement
        if message.orientation_covariance[0] != -1.0 and (q.x, q.y, q.z, q.w) != (0.0, 0.0, 0.0, 0.0):
            said = self._imu.add(stamp_ns, pose_of(np.zeros(3), np.array([q.x, q.y, q.z, q.w])))
        elif message.angular_velocity_covariance[0] != -1.0:
            said = self._imu.turn(stamp_ns, np.array([w.x, w.y, w.z]))
        else:
            said = "has neither an orientation nor an angular velocity; choose another topic"
        self._took("imu", said)

    def _took(self, name: str, said: str) -> None:
        self._given_up = False
        self._arrived()
        if said:
            self._node.problem(f"{name}: {said}")

    def _tell(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            self._node.problem(problem)
