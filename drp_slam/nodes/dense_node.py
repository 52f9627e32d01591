# SPDX-License-Identifier: Apache-2.0
"""The node of the dense map: it fuses the keyframes' depth by Open3D, in a process of its own, since Open3D keeps
Python's lock while it works."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Path as PathMessage
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from drp_slam.config import DenseConfig
from drp_slam.data import image_codec
from drp_slam.data.camera_info import camera_of
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DrpSlamError
from drp_slam.nodes import convert, qos, world
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.map_services import pose_matrix
from drp_slam.nodes.pairing import Stamped
from drp_slam.nodes.running import run
from drp_slam.reporting.dense_files import write
from drp_slam.slam.dense import Volume, require_open3d
from drp_slam.slam.dense_keyframes import DenseKeyframes, moved

AT_ONCE = 10
"""Upper limit of keyframes fused before the next message is taken."""
KEYFRAMES_SEEN = 2.0
"""A surface is shown once so many keyframes have seen it: there are far fewer of them than of frames."""
STEP_S = 0.1
"""Period of fusing; publishing has its own."""


class DenseNode(StageNode):
    """`keyframe/...` of `pose_node` -> `dense_cloud`, and at the end mesh, cloud and occupancy grid in `out`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("dense_node", DenseConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        require_open3d()  # an error at the start, if it is missing
        (self._config,) = self.configs
        self._kept = DenseKeyframes(self._config.keyframes)
        self._images: Stamped[Image] = Stamped(IN_FLIGHT)
        self._depths: Stamped[Image] = Stamped(IN_FLIGHT)
        self._camera: Camera | None = None
        self._stated: CameraInfo | None = None
        self._restart(self._config.voxel_m)
        self._map_frame = self.graph.map_frame
        self._out = self.advertise(PointCloud2, "dense_cloud", qos.latched())
        self.subscribe(CameraInfo, "keyframe/camera_info", self._on_camera_info, qos.frames_out())
        self.subscribe(Image, "keyframe/image", lambda m: self._on_picture(self._images, m), qos.frames_out())
        self.subscribe(Image, "keyframe/depth", lambda m: self._on_picture(self._depths, m), qos.frames_out())
        self.subscribe(PathMessage, "keyframe/path", self._on_path, qos.latched())
        self.every(STEP_S, self._fuse)
        self.every(self._config.period_s, self._publish)

    def forget(self) -> None:
        self._images.clear()
        self._depths.clear()

    def _restart(self, voxel_m: float) -> None:
        """Empties the volume; the keyframes are fused again."""
        self._voxel_m = voxel_m
        self._volume: Volume | None = None
        self._fused: dict[int, np.ndarray] = {}
        self._shown = 0

    def _on_camera_info(self, message: CameraInfo) -> None:
        if message != self._stated:
            self._camera, self._stated = camera_of(message, "keyframe/camera_info"), message

    def _on_picture(self, pictures: Stamped[Image], message: Image) -> None:
        """Keeps it until its other half has arrived."""
        stamp_ns = convert.stamp_ns(message.header)
        pictures.add(stamp_ns, message)
        image, depth = self._images.exact(stamp_ns), self._depths.exact(stamp_ns)
        if image is None or depth is None or self._camera is None:
            return
        self._images.forget_before(image)
        self._depths.forget_before(depth)
        values, unit_m = image_codec.depth_of(depth, "keyframe/depth")
        colour = image_codec.colour_of(image, "keyframe/image")
        self._kept.add(Frame(self.frames, stamp_ns, colour, self._camera, values, unit_m))
        self.frames += 1

    def _on_path(self, message: PathMessage) -> None:
        """Takes the keyframes' poses; begins again where a loop has moved any that is fused, or another map has begun.

        What a culled keyframe has shown stays until then.
        """
        poses = {convert.stamp_ns(p.header): pose_matrix(p.pose) for p in message.poses}
        self._kept.place({stamp: T for stamp, T in poses.items() if T is not None})
        known = [(T, now) for stamp, T in self._fused.items() if (now := poses.get(stamp)) is not None]
        at_m = self._config.range_m / 2
        if (self._fused and not known) or any(moved(T, now, self._voxel_m, at_m) for T, now in known):
            self._restart(self._voxel_m)

    def _wanted(self) -> bool:
        return self._out.get_subscription_count() > 0

    def _fuse(self) -> None:
        """Fuses keyframes that are not in the volume yet, while somebody listens."""
        if not self._wanted():
            return
        todo = [stamp for stamp in self._kept.placed() if stamp not in self._fused][:AT_ONCE]
        for stamp_ns, (frame, T_map_camera) in zip(todo, self._kept.posed(todo)):
            if self._volume is None:
                config = self._config
                limits = config.range_m, config.memory_mb
                self._volume = Volume(frame.camera, self._voxel_m, *limits, least_weight=KEYFRAMES_SEEN)
            if not self._volume.add(frame, T_map_camera):
                self.problem(
                    f"dense_cloud: over {self._config.memory_mb} MB; repeating with voxels of {2 * self._voxel_m:g} m"
                )
                self._restart(2 * self._voxel_m)
                return
            self._fused[stamp_ns] = T_map_camera

    def _publish(self) -> None:
        if self._volume is None or self._shown == len(self._fused) or not self._wanted():
            return
        self._shown = len(self._fused)
        points, rgb = self._volume.cloud()
        if len(points):
            head = convert.header(max(self._fused), self._map_frame)
            self._out.publish(world.cloud(head, points, rgb))

    def health(self) -> dict[str, object]:
        return {"keyframes": len(self._kept), "fused": len(self._fused), "voxel_m": self._voxel_m}

    def finish(self) -> None:
        """Writes mesh, cloud and occupancy grid into `out`, if there is anything to fuse."""
        self._restart(self._config.voxel_m)  # a volume that is alive at exit would make Open3D's exit code 1
        camera = self._kept.camera
        if not self.graph.out or camera is None or not self._kept.placed():
            return
        out = Path(self.graph.out)
        out.mkdir(parents=True, exist_ok=True)
        try:
            limits = self._config.range_m, self._config.voxel_m, self._config.memory_mb
            write(out, self._kept.posed, camera, *limits, np.eye(4), KEYFRAMES_SEEN)
        except DrpSlamError as error:
            self.problem(error)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("dense_node", DenseNode, args)


if __name__ == "__main__":
    sys.exit(main())
