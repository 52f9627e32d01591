# SPDX-License-Identifier: Apache-2.0
"""The node of the CPU cores: features, and depth if any, to pose and map."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from drp_slam.config import SlamConfig
from drp_slam.data.camera_info import camera_of, is_rectified
from drp_slam.data.ply import write_ply
from drp_slam.data.stamps import StampGate
from drp_slam.datatypes import Camera, Detections, Features, Frame, Track
from drp_slam.device import StageRun
from drp_slam.doctor.findings import Finding
from drp_slam.errors import DrpSlamError, GraphError
from drp_slam.frontend.front_end import front_end_class
from drp_slam.nodes import convert, feature_codec, qos, status_codec
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.camera_topics import CAMERA_TOPICS
from drp_slam.nodes.depth_topic import Depth, DepthTopic, NoDepth
from drp_slam.nodes.detections import Listener
from drp_slam.nodes.examination import Examination
from drp_slam.nodes.image_topic import ImageTopic
from drp_slam.nodes.limits import IN_FLIGHT, NEWEST
from drp_slam.nodes.map_services import MapServices
from drp_slam.nodes.odometry import Odometry
from drp_slam.nodes.pairing import Verdict
from drp_slam.nodes.prior_topics import PriorTopics
from drp_slam.nodes.running import run
from drp_slam.nodes.saved_map import SavedMap
from drp_slam.nodes.stereo_pair import Calibration
from drp_slam.nodes.world_publisher import WorldPublisher
from drp_slam.pipeline import track_run
from drp_slam.reporting import folder as files
from drp_slam.reporting.moments import Moments
from drp_slam.slam.camera import same_camera
from drp_slam.slam.map import Map
from drp_slam.slam.mapfile import save as save_map
from drp_slam.slam.masking import PERSON, Masked
from drp_slam.slam.tracker import Tracker

PATIENCE_S = 0.1
"""Live, features wait at most this long for their depth."""
LOSSLESS_PATIENCE_S = 10.0
"""The same if no frame may be lost: depth will arrive, and without it the trajectory would differ."""


class PoseNode(StageNode):
    """`features`, `depth`, `camera_info` (and `image`, for colours) -> pose, map, `status`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("pose_node", SlamConfig, **kwargs)

    def configure(self) -> None:
        # the tracker opens at the first camera_info; what it imports then would cost the camera's first frames
        import scipy.sparse.csgraph
        import scipy.sparse.linalg  # noqa: F401

        super().configure()
        (self._config,) = self.configs
        self.descriptor = front_end_class(self.graph.features).descriptor
        self._saved = SavedMap(self.graph.out)
        self._start, lost = self._saved.start(self._config.map, self.descriptor)
        if lost:
            self.problem(lost)
        self.tracker: Tracker | None = None
        self._camera: Camera | None = None
        self._stated: tuple[Any, ...] = ()
        self._odometry = Odometry(self.graph.out)
        self._moments = Moments() if self.graph.out else None
        self._gate: StampGate[tuple[Header, Features]] = StampGate("features")
        self._waiting: deque[tuple[float, bool, Header, Features]] = deque()
        self._people = Masked() if self._config.mask_people else None
        self._objects = Listener(self, lambda: self._camera, self._on_found)
        self._examination = Examination({role: self.resolve_topic_name(role) for role in CAMERA_TOPICS})
        self._localise, self._paused = self._config.localise, False
        self._world = WorldPublisher(self, self.graph)
        MapServices(self)
        self._status = self.advertise(DiagnosticArray, "status", qos.ledger())
        if self.graph.pair:
            Calibration(self, lambda pair: self._take_camera(self._world.rectified(pair)))
        else:
            self.subscribe(CameraInfo, "camera_info", self._on_camera_info, qos.camera_in(), foreign=True)
        self._mono = self._config.sensor == "mono"
        self._depths: DepthTopic | NoDepth = NoDepth()
        if self._mono:
            self.get_logger().info("no depth (sensor mono): pose and map are up to scale, no occupancy grid")
        else:
            self._depths = DepthTopic(self, self._config, self._world.tree, self._track_waiting)
        self._prior = PriorTopics(self, self.config, self._world.tree, self._track_waiting)
        self._images = ImageTopic(self)
        stage = self.subscribe(PointCloud2, "features", self._on_features, qos.stage_in())
        lossless = stage.profile.depth > NEWEST
        self._patience_s = LOSSLESS_PATIENCE_S if lossless else PATIENCE_S
        self.every(PATIENCE_S / 2, self._track_waiting)

    def forget(self) -> None:
        self._waiting.clear()
        self._depths.clear()
        self._images.clear()

    def apply(self) -> None:
        self._config = self.config.slam
        if self.tracker is not None:
            self.tracker.configure(self._config)

    def _on_camera_info(self, message: CameraInfo) -> None:
        """Accepts the first valid calibration, and a different one until something is mapped."""
        stated = (message.width, message.height, bytes(message.k), bytes(message.d), bytes(message.p))
        if stated == self._stated:
            return
        self._take_camera(camera_of(message, rectified=is_rectified(self.resolve_topic_name("image"))))
        self._stated = stated

    def _take_camera(self, camera: Camera) -> None:
        """Sets the tracker's camera: of a pair, the rectified left one."""
        if self._camera is None or not len(self._odometry):
            # the tracker extends the map that it is given: an empty or a loaded one
            self._camera = camera
            self._open_tracker(camera)
        elif not same_camera(camera, self._camera):
            raise GraphError(
                f"camera_info: {convert.spelled(camera)}, but tracking began with {convert.spelled(self._camera)} "
                "and continues with it; restart the nodes for another camera"
            )

    def _open_tracker(self, camera: Camera) -> None:
        self.tracker = Tracker(camera, self._config, self._start, self._prior.prior)
        self.tracker.localise = self._localise

    def begin_map(self, slam_map: Map) -> None:
        """Switches to another map; the odometry stays continuous."""
        self._start = slam_map
        self._world.restart()
        if self._camera is not None:
            self._open_tracker(self._camera)

    def map_file(self) -> str:
        """The file that `save_map` writes, or an empty string."""
        return self._config.save_map or (str(Path(self.graph.out) / files.STORED_MAP) if self.graph.out else "")

    def localise(self, on: bool) -> None:
        """Switches between localisation and mapping."""
        self._localise = on
        if self.tracker is not None:
            self.tracker.localise = on

    def pause(self, on: bool) -> None:
        """Drops frames while `on`; afterwards relocalises in the map."""
        if self._paused and not on and self.tracker is not None:
            self.tracker.begin_epoch()
        self._paused = on

    def expect(self, T_map_base: np.ndarray) -> None:
        """Relocalises the next frame at this pose. Raises GraphError before the first frame."""
        T_world_camera = self._world.camera_at(T_map_base)
        if T_world_camera is None or self.tracker is None:
            raise GraphError("initialpose: no image has arrived yet; point again when the camera runs")
        self.tracker.expect(T_world_camera)

    def _on_found(self, stamp_ns: int, found: Detections) -> None:
        """Labels the points of the frame with its boxes and masks features in the next frames."""
        if self.tracker is not None:
            self.tracker.labels.vote(stamp_ns, found)
        if self._people is not None:
            self._people.update(found.boxes_px[[name == PERSON for name in found.label]], stamp_ns)

    def _on_features(self, message: PointCloud2) -> None:
        stamp_ns = convert.stamp_ns(message.header)
        admission = self._gate.admit(stamp_ns, (message.header, feature_codec.from_message(message, self.descriptor)))
        if admission.problem:
            self.problem(admission.problem)
        if admission.new_epoch:
            self._depths.forget_later(stamp_ns + 1_000_000_000)
        for k, (header, features) in enumerate(admission.items):
            self._waiting.append((time.monotonic(), admission.new_epoch and k == 0, header, features))
        self._track_waiting()

    def _track_waiting(self) -> None:
        """Tracks, in order, the frames that have their depth or waited long enough."""
        while self._waiting:
            since, new_epoch, header, features = self._waiting[0]
            late = time.monotonic() - since > self._patience_s or len(self._waiting) > IN_FLIGHT
            if not self._prior.complete(convert.stamp_ns(header), final=late):
                return
            verdict, depth = self._depths.nearest(convert.stamp_ns(header), final=late)
            if verdict is Verdict.WAIT and features.depth_m is None:
                return
            self._waiting.popleft()
            if new_epoch and self.tracker is not None:
                self.tracker.begin_epoch()
            try:
                self._track(header, features, depth)
            except DrpSlamError as error:
                self.problem(error)
                self._report(header, Track(self.frames, convert.stamp_ns(header), "lost", None))

    def _track(self, header: Header, features: Features, paired: Depth | None) -> None:
        stamp_ns = convert.stamp_ns(header)
        if self._paused:
            self._report(header, Track(self.frames, stamp_ns, "paused", None))
            return
        if self.tracker is None or self._camera is None:
            raise GraphError("camera_info: none received; publish the camera's calibration")
        if paired is None and features.depth_m is None and not self._mono:
            tolerance_ms = self._config.depth_tolerance_s * 1e3
            self.problem(f"depth: none within {tolerance_ms:g} ms of image {stamp_ns} ns; tracking without it")
        if self._people is not None:
            features = self._people.visible(features, stamp_ns)
        scaled = (None, 1.0) if paired is None else self._depths.in_image(paired, header.frame_id, self._camera)
        frame = Frame(self.frames, stamp_ns, self._images.decoded(stamp_ns), self._camera, *scaled)
        self._examination.offer(frame)
        frames = self._world.settle(header)
        self._prior.settle(None if frames is None else frames.T_base_camera, stamp_ns)
        begun_ns = self.begin(stamp_ns, "cpu")
        start = time.perf_counter()
        track = self.tracker.track(frame, features)
        tracked = track_run(track, time.perf_counter() - start)
        # the CPU is busy until then, so waiting here delays nothing
        self.release(stamp_ns, (tracked,), begun_ns, lambda: self._show(header, frame, track, tracked), wait=True)
        if self._moments is not None:
            self._moments.add(frame, features, track, self.tracker.seen)
        if not self._localise and (refused := self._saved.keep(self.tracker.map)):
            self.problem(refused)

    def _show(self, header: Header, frame: Frame, track: Track, tracked: StageRun) -> None:
        """Publishes the results of a frame."""
        assert self.tracker is not None
        if track.T_world_camera is not None:
            # journal first: published poses are kept, even if this node is killed next
            if refused := self._odometry.add(track.stamp_ns, track.T_world_camera):
                self.problem(refused)
            self._world.publish(header, frame, track, self.tracker)
        self.publish_runs(track.stamp_ns, tracked)
        self._report(header, track)

    def _report(self, header: Header, track: Track) -> None:
        """Publishes one status per frame, tracked or lost."""
        self.frames += 1
        status = status_codec.track_status(self.get_name(), track, self._gate.epoch)
        self._status.publish(status_codec.array_of(convert.stamp_ns(header), [status]))

    def findings(self) -> list[Finding]:
        reckoning = None if self.tracker is None else self.tracker.reckoning
        return [*super().findings(), *self._examination.findings, *self._prior.findings(reckoning)]

    def health(self) -> dict[str, object]:
        return {
            "tracked": len(self._odometry),
            "mode": "paused" if self._paused else "localisation" if self._localise else "mapping",
            "keyframes": len(self.tracker.map) if self.tracker else 0,
            "refused": self._gate.refused,
            "epoch": self._gate.epoch,
        }

    def finish(self) -> None:
        """Writes `trajectory.txt`, `odometry.txt`, `map.ply`, `moments/`, and the map if `save_map` is set."""
        self._examination.close()
        if self.tracker is None:
            return
        try:
            if self.graph.out:
                self._write(Path(self.graph.out), self.tracker)
        finally:
            if self._config.save_map:
                save_map(self.tracker.map, Path(self._config.save_map))

    def _write(self, out: Path, tracker: Tracker) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._odometry.write(out)
        files.write_trajectories(out, tracker.trajectories())
        write_ply(out / files.MAP, tracker.cloud())
        if self._moments is not None:
            self._moments.write(out / files.MOMENTS)
        self._saved.remove()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("pose_node", PoseNode, args)


if __name__ == "__main__":
    sys.exit(main())
