# SPDX-License-Identifier: Apache-2.0
"""The running graph in the Rerun viewer: map, path, camera with image, depth and features, plots of the stages.

rerun_view [FILE.rrd] --ros-args ...; without a file the viewer is opened. It only subscribes, best effort: no node
waits for it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from drp_slam.data import image_codec
from drp_slam.errors import DrpSlamError, GraphError, pip_install
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.nodes.limits import NEWEST
from drp_slam.nodes.map_services import pose_matrix
from drp_slam.nodes.running import spin
from drp_slam.nodes.transforms import TransformTree, frame_name

MAP, BASE, CAMERA = "map", "map/base", "map/base/camera"
"""Entities: child poses are relative to their parent."""
RADIUS_PX = 2.0
WAKE_S = 0.5


def open_rerun(file: str) -> Any:
    """The module `rerun`, which records into `file`, or shows. Raises GraphError where it is not installed."""
    try:
        import rerun
        import rerun.blueprint as layout
    except ImportError:
        raise GraphError(f"--rerun needs the Python package rerun-sdk: {pip_install('drp_slam[view]')}") from None
    pictures = layout.Vertical(
        layout.Spatial2DView(origin=CAMERA, contents=[f"{CAMERA}/image", f"{CAMERA}/features"], name="features"),
        layout.Spatial2DView(origin=CAMERA, contents=[f"{CAMERA}/depth"], name="depth"),
        layout.TimeSeriesView(origin="tracking"),
        layout.TimeSeriesView(origin="stages_ms"),
    )
    view = layout.Blueprint(layout.Horizontal(layout.Spatial3DView(origin=MAP), pictures, column_shares=[2, 1]))
    rerun.init("drp_slam")
    if file:
        rerun.save(file, default_blueprint=view)
    else:
        rerun.spawn(default_blueprint=view, memory_limit="1GB")
    return rerun


class RerunView(Node):
    """Logs what the graph publishes, at the stamps of its frames."""

    def __init__(self, rerun: Any, **kwargs: Any) -> None:
        super().__init__("rerun_view", start_parameter_services=False, enable_rosout=False, **kwargs)
        self._rerun, self._tree = rerun, TransformTree()
        self._camera: CameraInfo | None = None
        self._base = ""
        rerun.log(MAP, rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        live, latched = qos.camera_in(NEWEST), qos.latched()
        topics: list[tuple[type[Any], str, Callable[[Any], None], Any]] = [
            (CameraInfo, "camera_info", self._on_camera_info, live),
            (Image, "image", self._on_image, live),
            (CompressedImage, "image/compressed", self._on_image, live),
            (Image, "depth", self._on_depth, live),
            (CompressedImage, "depth/compressed", self._on_depth, live),
            (CompressedImage, "depth/compressedDepth", self._on_depth, live),
            (PointCloud2, "features", self._on_features, live),
            (Odometry, "odom", self._on_odometry, live),
            (PoseWithCovarianceStamped, "pose", self._on_pose, live),
            (PointCloud2, "map_points", self._on_map, latched),
            (Path, "path", self._on_path, latched),
            (DiagnosticArray, "status", self._on_status, live),
            (DiagnosticArray, "spans", self._on_spans, qos.camera_in(100)),
        ]
        with contextlib.suppress(ImportError):
            from tf2_msgs.msg import TFMessage

            topics += [
                (TFMessage, "/tf", lambda m: self._on_tf(m, False), qos.world()),
                (TFMessage, "/tf_static", lambda m: self._on_tf(m, True), qos.static_transforms()),
            ]
        for kind, topic, handle, profile in topics:
            self.create_subscription(kind, topic, self._guarded(handle), profile)
        # spin() notices a signal only when its executor wakes up
        self.create_timer(WAKE_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _guarded(self, handle: Callable[[Any], None]) -> Callable[[Any], None]:
        def callback(message: Any) -> None:
            try:
                handle(message)
            except DrpSlamError as error:
                self.get_logger().warning(str(error), throttle_duration_sec=5.0)

        return callback

    def _log(self, head: Header, entity: str, *what: Any) -> None:
        self._rerun.set_time("stamp", timestamp=np.datetime64(convert.stamp_ns(head), "ns"))
        self._rerun.log(entity, *what)

    def _on_tf(self, message: Any, static: bool) -> None:
        for transform in message.transforms:
            self._tree.add(transform, static)

    def _on_camera_info(self, message: CameraInfo) -> None:
        K, size = np.array(message.k).reshape(3, 3), (message.width, message.height)
        if (
            self._camera is None
            or (self._camera.width, self._camera.height) != size
            or any(self._camera.k != message.k)
        ):
            self._camera = message
            view = self._rerun.ViewCoordinates.RDF  # REP-103's optical frame
            self._log(
                message.header, CAMERA, self._rerun.Pinhole(image_from_camera=K, resolution=size, camera_xyz=view)
            )

    def _on_image(self, message: Image | CompressedImage) -> None:
        image = image_codec.colour_of(message, "image")
        model = "L" if image.ndim == 2 else "BGR"
        shown = self._rerun.Image(image, color_model=model).compress(jpeg_quality=75)
        self._log(message.header, f"{CAMERA}/image", shown)

    def _on_depth(self, message: Image | CompressedImage) -> None:
        values, unit_m = image_codec.depth_of(message, "depth")
        self._log(message.header, f"{CAMERA}/depth", self._rerun.DepthImage(values, meter=1.0 / unit_m))

    def _on_features(self, message: PointCloud2) -> None:
        """`u v score` come first, whatever the descriptor."""
        points = floats(message, 3)
        green = np.clip(255 * points[:, 2], 0, 255).astype(np.uint8)
        colours = np.stack([255 - green, green, np.zeros_like(green)], axis=1)
        found = self._rerun.Points2D(points[:, :2], colors=colours, radii=RADIUS_PX)
        self._log(message.header, f"{CAMERA}/features", found)

    def _on_odometry(self, message: Odometry) -> None:
        self._base = frame_name(message.child_frame_id)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        T_map_base = pose_matrix(message.pose.pose)
        if T_map_base is None:
            return
        self._log(message.header, BASE, self._placed(T_map_base))
        frame = frame_name(self._camera.header.frame_id) if self._camera else ""
        T_base_camera = self._tree.lookup(self._base, frame) if frame else None
        if T_base_camera is not None:
            self._log(message.header, CAMERA, self._placed(T_base_camera))

    def _placed(self, T: np.ndarray) -> Any:
        return self._rerun.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3])

    def _on_map(self, message: PointCloud2) -> None:
        """`x y z rgb` come first, rgb packed into a float."""
        points = floats(message, 4)
        packed = np.ascontiguousarray(points[:, 3]).view(np.uint32)
        colours = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
        self._log(message.header, f"{MAP}/points", self._rerun.Points3D(points[:, :3], colors=colours))

    def _on_path(self, message: Path) -> None:
        at = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in message.poses]
        self._log(message.header, f"{MAP}/path", self._rerun.LineStrips3D([at]))

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = status_codec.track_values(status)
            for name in ("matches", "inliers"):
                self._log(message.header, f"tracking/{name}", self._rerun.Scalars(float(values[name])))
            if status.message != "tracked":
                words = f"{status.message}: {status_codec.reason_of(values)}"
                self._log(message.header, "tracking/log", self._rerun.TextLog(words))

    def _on_spans(self, message: DiagnosticArray) -> None:
        for entry in status_codec.entries(message):
            if entry.span is not None:
                wall_ms = 1e3 * entry.span.wall_s
                self._log(message.header, f"stages_ms/{entry.stage}", self._rerun.Scalars(wall_ms))

    def close(self) -> None:
        """Flushes Rerun's buffers."""
        self._rerun.disconnect()


def floats(message: PointCloud2, count: int) -> np.ndarray:
    """(N, count) float32: the first fields of each point. Raises GraphError for truncated data."""
    points, step = message.width * message.height, message.point_step
    if step < 4 * count or len(message.data) < points * step:
        raise GraphError(f"cloud of {points} points, {step} bytes each: {len(message.data)} bytes of data")
    return np.ndarray((points, count), np.float32, message.data, 0, (step, 4)).copy()


def main(args: Sequence[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM."""
    given = list(sys.argv if args is None else args)
    file = (remove_ros_args(given)[1:] or [""])[0]
    try:
        rerun = open_rerun(file)
        spin(lambda: [RerunView(rerun)], given)
    except DrpSlamError as error:
        print(f"drp_slam rerun_view: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
