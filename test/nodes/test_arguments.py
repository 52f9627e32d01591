# SPDX-License-Identifier: Apache-2.0
"""Every launch argument reaches the processes that it is for, and means what the option of `up` means."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from graphs import up_options

from drp_slam import resources
from drp_slam.commands import _options as options
from drp_slam.commands import up
from drp_slam.errors import DrpSlamError
from drp_slam.nodes.arguments import Plan, configuration, declared, planned
from drp_slam.nodes.table import NodeSpec

SMALL = {"bag": "synthetic:frames=3,width=64"}
BOTH = pytest.mark.parametrize("player", [False, True], ids=["slam", "bag"])


def members(plan: Plan) -> dict[str, NodeSpec]:
    """The nodes of a plan by name."""
    return {node.name: node for spec in plan.specs for node in spec.nodes}


def parameter(node: str, name: str, value: object) -> Callable[[Plan], bool]:
    return lambda plan: members(plan)[node].parameters[name] == value


def renamed(name: str, topic: str) -> Callable[[Plan], bool]:
    return lambda plan: all(dict(spec.remappings).get(name) == topic for spec in plan.specs)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that arguments name."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "mine.yaml").write_text("drp_node:\n  ros__parameters:\n    top_k: 77\n")
    device = Path(shutil.copy(resources.device_file("rzv2h"), folder / "chip.yaml"))
    return {"config": folder / "mine.yaml", "device": device, "map": folder / "room.drpmap", "out": folder / "out"}


def cases(files: dict[str, Path]) -> dict[str, tuple[object, Callable[[Plan], bool]]]:
    """Argument -> a value that is not the default, and what then holds of the plan."""
    stored, out, seen = str(files["map"]), str(files["out"]), str(files["out"] / "seen.rrd")
    camera, recording = str(resources.camera_file("tum_fr1")), "synthetic:frames=3,width=80"
    return {
        "config": (files["config"], parameter("drp_node", "top_k", 77)),
        "backend": ("cpu", lambda p: {p.config.drp.backend, p.config.drpai3.backend} == {"cpu"}),
        "network": ("xfeat-p50", parameter("perception_node", "network", "xfeat-p50")),
        "device": (files["device"], parameter("profiler_node", "device", str(files["device"]))),
        "features": ("orb", lambda p: "perception_node" not in members(p)),
        "sensor": ("mono", parameter("pose_node", "sensor", "mono")),
        "out": (out, parameter("pose_node", "out", out)),
        "namespace": ("robot1", lambda p: {spec.namespace for spec in p.specs} == {"/robot1"}),
        "frame_prefix": ("r/", lambda p: p.config.graph.frame_prefix == "r/" and p.place.shared_tf),
        "use_sim_time": ("true", lambda p: all(n.parameters.get("use_sim_time") for n in members(p).values())),
        "mount": ("0.2 0 0.3 0 15 0", parameter("pose_node", "mount", "0.2 0 0.3 0 15 0")),
        "map": (stored, parameter("pose_node", "map", stored)),
        "save_map": (stored, parameter("pose_node", "save_map", stored)),
        "odometry": ("/wheel/odometry", parameter("pose_node", "odometry_topic", "/wheel/odometry")),
        "imu": ("/imu/data", parameter("pose_node", "imu_topic", "/imu/data")),
        "prior": (stored, parameter("pose_node", "prior", stored)),
        "mode": ("localisation", parameter("pose_node", "localise", True)),
        "container": ("true", lambda p: [spec.name for spec in p.specs] == ["container"]),
        "dense": ("true", lambda p: "dense_node" in members(p)),
        "autostart": ("false", lambda p: not any(n.parameters["autostart"] for n in members(p).values())),
        "rerun": (seen, lambda p: p.rerun == seen),
        "rviz": ("true", lambda p: p.rviz),
        "image": ("/c/color", renamed("image/compressed", "/c/color/compressed")),
        "depth": ("/c/depth", renamed("depth/compressedDepth", "/c/depth/compressedDepth")),
        "camera_info": ("/c/camera_info", renamed("camera_info", "/c/camera_info")),
        "right": ("/c/right/image_raw", renamed("right_camera_info", "/c/right/camera_info")),
        "right_camera_info": ("/c/right_info", renamed("right_camera_info", "/c/right_info")),
        "bag": (recording, parameter("player_node", "sequence", recording)),
        "camera": (camera, parameter("player_node", "camera", camera)),
        "rate": ("max", parameter("player_node", "rate", 0.0)),
        "frames": ("2", lambda p: p.sequence is not None and len(p.sequence) == 2),
        "loop": ("true", parameter("player_node", "loop", True)),
        "respawn": ("", lambda p: p.respawn == (p.sequence is None)),
    }


def given(name: str, value: object, player: bool, files: dict[str, Path]) -> dict[str, str]:
    """All arguments: an argument's value, what it needs beside it, and defaults."""
    needed = {"right_camera_info": {"right": "/c/right/image_raw"}, "mode": {"map": str(files["map"])}}
    defaults = {argument: default for argument, default, _ in declared(player)}
    return defaults | (SMALL if player else {}) | needed.get(name, {}) | {name: str(value)}


@BOTH
def test_an_argument_reaches_its_processes(files, player):
    table = cases(files)
    plain = planned(given("mount", "0 0 0 0 0 0", player, files), player)
    for name, _, _ in declared(player):
        value, holds = table[name]
        assert holds(planned(given(name, value, player, files), player)), name
        assert name == "respawn" or not holds(plain), name


def test_a_node_that_dies_is_started_again_where_it_is_asked_for(files):
    for player in (False, True):
        for value in (True, False):
            assert planned(given("respawn", value, player, files), player).respawn is value


@BOTH
def test_up_means_the_same(files, player):
    """An argument of launch and the option of `up` give one configuration."""
    elsewhere = {"out", "rviz", "rerun", "respawn", "container", "namespace", "dense"}
    for name in sorted({argument for argument, _, _ in declared(player)} - elsewhere):
        arguments = given(name, cases(files)[name][0], player, files)
        asked = {
            n: arguments[n] for n, default, _ in declared(player) if arguments[n] != default and n not in elsewhere
        }
        args = options.parsed(up, up_options(asked))
        launched, ours = configuration(arguments, player), options.configured(args)
        for section in ("drp", "drpai3", "slam", "graph"):
            assert getattr(launched, section) == getattr(ours, section), name
        if not player:
            place = options.placed(args)
            assert place.remappings() == planned(arguments, player).place.remappings(), name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "both"}, "mode:=both: expected one of"),
        ({"container": "yes"}, "container:=yes: expected true or false"),
        ({"frames": "many", **SMALL}, "frames:=many: expected a whole number"),
        ({"rate": "fast", **SMALL}, "expected max or a number above 0"),
        ({"bag": "no/such/bag"}, "no such file or folder"),
        ({"network": "none.onnx"}, "neither a file nor shipped"),
        ({"mount": "1"}, "expected six numbers"),
        ({"image": "a b"}, "expected a ROS name"),
        ({"namespace": "1st"}, "expected a name"),
    ],
)
def test_wrong_values_are_refused_before_any_process(wrong, words):
    player = "bag" in wrong
    defaults = {argument: default for argument, default, _ in declared(player)}
    with pytest.raises(DrpSlamError, match=words):
        planned(defaults | wrong, player)
