# SPDX-License-Identifier: Apache-2.0
"""Each argument of a graph does what it says, through `up` and through the real `ros2 launch`."""

from __future__ import annotations

import os
import shutil
import signal
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from graphs import ALL, SEQUENCE
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from drp_slam import geometry, resources
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.data.synthetic import cache_folder, parse
from drp_slam.data.trajectory import write_tum
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.nodes.transforms import TransformTree
from drp_slam.offline import run_sequence
from drp_slam.reporting import folder
from drp_slam.slam import extrinsic

pytestmark = pytest.mark.system
STAGES = ALL - {"player_node"}
MOUNT = "0.2 0 0.3 0 15 0"


class SimulatedCamera:
    """A simulator: /clock, a compressed colour image, depth."""

    def __init__(self, listen, sequence) -> None:
        self._listen, self._frames = listen, iter(list(sequence) * 20)
        self._camera, self._epoch = sequence.camera, 0
        create = listen.node.create_publisher
        self._clock = create(Clock, "/clock", qos.world())
        self._info = create(CameraInfo, "/front/camera_info", qos.frames_out())
        self._depth = create(Image, "/front/depth", qos.frames_out())
        self._image = create(CompressedImage, "/front/color/compressed", qos.frames_out())

    def send(self) -> None:
        frame = next(self._frames)
        head = convert.header(frame.stamp_ns, "camera_color_optical_frame")
        self._clock.publish(Clock(clock=head.stamp))
        self._info.publish(convert.camera_info(self._camera, head))
        self._depth.publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
        data = convert.bytes_of(cv2.imencode(".png", frame.image)[1])
        self._image.publish(CompressedImage(header=head, format="png", data=data))
        self._listen.spin(0.15)


def call(listen, kind, name, request):
    """The answer of a service."""
    client = listen.node.create_client(kind, name)
    listen.until(client.service_is_ready, 60)
    answer = client.call_async(request)
    listen.until(answer.done, 60)
    return answer.result()


def change(listen, node: str, label: str) -> bool:
    """A lifecycle transition."""
    request = ChangeState.Request()
    request.transition.label = label
    return call(listen, ChangeState, f"{node}/change_state", request).success


def test_camera_in_a_namespace_in_one_process(graph, listen, small_room, tmp_path):
    """namespace, topics, compressed, mount, use_sim_time, container; and a node that is put to rest meanwhile."""
    tf2 = pytest.importorskip("tf2_msgs.msg")
    odometry = listen(Odometry, "/robot1/odom", qos.world())
    moving = listen(tf2.TFMessage, "/robot1/tf", qos.world())
    fixed = listen(tf2.TFMessage, "/robot1/tf_static", qos.static_transforms())
    elsewhere = listen(tf2.TFMessage, "/tf", qos.world())
    health = listen(DiagnosticArray, "/diagnostics", qos.health())
    camera = SimulatedCamera(listen, small_room)
    topics = {name: f"/front/{topic}" for name, topic in (("image", "color"), ("depth", "depth"))}
    running = graph(
        **topics,
        camera_info="/front/camera_info",
        namespace="robot1",
        mount=MOUNT,
        use_sim_time="true",
        container="true",
        out=tmp_path,
        **({"rerun": tmp_path / "seen.rrd"} if find_spec("rerun") else {}),
    )
    pids = listen.ready({f"robot1/{name}" for name in STAGES})
    assert len(set(pids.values())) == 1  # one process
    for _ in range(400):
        camera.send()
        if len(odometry) >= 5:
            break
    assert len(odometry) >= 5 and not elsewhere
    for _ in range(100):  # until the health of a time after the first frame
        if any(convert.stamp_ns(m.header) for m in health if m.status[0].name == "robot1/drp_node: health"):
            break
        camera.send()
    # every frame has one parent, and the mount is what was said
    tree, parents = TransformTree(), {}
    for messages, static in ((fixed, True), (moving, False)):
        for transform in (t for message in messages for t in message.transforms):
            parents.setdefault(transform.child_frame_id, set()).add(transform.header.frame_id)
            tree.add(transform, static)
    assert all(len(names) == 1 and child not in names for child, names in parents.items()), parents
    T = tree.lookup("base_link", "camera_color_optical_frame")
    assert np.allclose(T, extrinsic.mount(MOUNT) @ extrinsic.T_LINK_OPTICAL)
    assert geometry.inverse(T) is not None
    # the clock is the simulator's
    first_ns, last_ns = small_room.stamps_ns[0], small_room.stamps_ns[-1]
    stamps = [convert.stamp_ns(m.header) for m in health if m.status[0].name == "robot1/drp_node: health"]
    assert stamps and first_ns <= stamps[-1] <= last_ns + 10**9

    assert change(listen, "/robot1/pose_node", "deactivate")
    odometry.clear()
    for _ in range(4):
        camera.send()
    assert not odometry
    assert change(listen, "/robot1/pose_node", "activate")
    for _ in range(100):
        camera.send()
        if odometry:
            break
    assert odometry
    running.interrupt()
    assert folder.read_json(tmp_path / folder.REPORT_JSON)["tracked"] >= 6
    if find_spec("rerun"):
        assert (tmp_path / "seen.rrd").stat().st_size > 10_000


def test_localises_in_a_map_and_ends_with_the_recording(graph, small_room, tmp_path):
    """Each argument of a recording that may be beside map and mode; every process ends with 0."""
    stored, count = tmp_path / "room.drpmap", len(small_room) - 5
    run_sequence(small_room, override(Config(), {"slam.save_map": str(stored)}), tmp_path / "mapped")
    before = stored.read_bytes()
    chip = shutil.copy(resources.device_file("rzv2h"), tmp_path / "mine.yaml")
    camera = shutil.copy(cache_folder(parse(SEQUENCE)) / "camera.yaml", tmp_path / "camera.yaml")
    write_tum(tmp_path / "wheels.txt", small_room.ground_truth)
    (tmp_path / "given.yaml").write_text("pose_node:\n  ros__parameters:\n    prior_frame: camera\n")
    running = graph(
        bag=SEQUENCE,
        rate="max",
        frames=count,
        map=stored,
        mode="localisation",
        config=tmp_path / "given.yaml",
        backend="cpu",
        device=chip,
        network="xfeat-p70",
        features="xfeat",
        camera=camera,
        prior=tmp_path / "wheels.txt",
        frame_prefix="robot1/",
        out=tmp_path / "out",
    )
    running.ended()
    report, about = folder.read_json(tmp_path / "out" / folder.REPORT_JSON), folder.read_run(tmp_path / "out")
    assert report["frames"] == count and report["tracked"] >= 0.9 * count
    assert report["stages"]["network"]["device"] == "cpu" and about["camera"] == str(camera)
    given = about["config"]
    assert given["graph"]["device"] == str(chip) and given["graph"]["frame_prefix"] == "robot1/"
    assert given["slam"]["prior_frame"] == "camera" and given["slam"]["prior"] == str(tmp_path / "wheels.txt")
    assert {row.keyframe for row in folder.read_frames(tmp_path / "out" / folder.FRAMES)} == {0}
    assert stored.read_bytes() == before


def test_container_is_started_again(graph, listen, small_room, tmp_path):
    """respawn, which is the default with a camera; then the parameters of each node are as before."""
    running = graph(container="true", out=tmp_path)
    pid = set(listen.ready(STAGES).values()).pop()
    os.kill(pid, signal.SIGKILL)
    health = listen(DiagnosticArray, "/diagnostics", qos.health())

    def back() -> bool:
        pids = {status_codec.values_of(s).get("pid") for message in health for s in message.status}
        return bool(pids - {str(pid), None})

    listen.until(back, 120)
    assert len(set(listen.ready(STAGES).values())) == 1
    said = running.interrupt(restarted=1)
    assert "container" in said


def test_a_lifecycle_manager_starts_the_nodes(graph, listen, small_room, tmp_path):
    """autostart:=false: nothing is published until the nodes are active, and then the recording is played whole."""
    heard = listen(DiagnosticArray, "/diagnostics", qos.health())
    running = graph(bag=SEQUENCE, rate="max", autostart="false", container="true", out=tmp_path)
    for name in sorted(ALL):
        state = call(listen, GetState, f"{name}/get_state", GetState.Request()).current_state
        assert state.label == "unconfigured"
    assert not heard
    for label in ("configure", "activate"):
        for name in sorted(ALL):
            assert change(listen, name, label), name
    running.ended()
    report = folder.read_json(tmp_path / folder.REPORT_JSON)
    assert report["frames"] == len(small_room) == report["tracked"]
