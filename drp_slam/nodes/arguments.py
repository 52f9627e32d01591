# SPDX-License-Identifier: Apache-2.0
"""The arguments of the launch files, and the graph that they describe. Neither ROS nor launch is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.config import DEFAULT_NETWORK, Config
from drp_slam.config.config_file import load, override
from drp_slam.data.dataset import open_sequence, playable
from drp_slam.data.sequence import Sequence
from drp_slam.errors import ConfigError
from drp_slam.nodes.camera_topics import CAMERA_TOPICS, PAIR_TOPICS
from drp_slam.nodes.options import rate
from drp_slam.nodes.table import NodeSpec, Place, contained, nodes
from drp_slam.nodes.up import verify

MODES = ("mapping", "localisation")

ARGUMENTS = (
    ("config", "", "YAML like config/drp_slam.yaml; the other arguments override it"),
    ("backend", "", "device that runs the network and the image kernels: emulated (default) or cpu"),
    ("network", "", f"shipped network or ONNX file (default: {DEFAULT_NETWORK})"),
    ("device", "", "chip to model: rzv2h (default), rzv2n or a file"),
    ("features", "", "front end for features: xfeat (default)"),
    ("sensor", "", "auto (default): depth or a stereo pair; mono: the image alone, up to scale"),
    ("out", "", "folder of results, written at the end; empty: none"),
    ("namespace", "", "ROS namespace of nodes, topics and /tf; empty: none"),
    ("frame_prefix", "", "prefix of all frames, such as robot1/, to share /tf with other robots; empty: none"),
    ("use_sim_time", "false", "follow /clock, as with a simulator"),
    ("mount", "", "pose of the camera on the robot, if /tf does not have it: x y z in m, roll pitch yaw in deg"),
    ("map", "", "map file to load and extend; empty: begin a new one"),
    ("save_map", "", "save the map to this file at the end; empty: do not save"),
    ("odometry", "", "topic of wheel odometry that predicts the motion (nav_msgs/Odometry); empty: none"),
    ("imu", "", "topic of an IMU that predicts the rotation (sensor_msgs/Imu); empty: none"),
    ("prior", "", "file of poses, orientations or angular velocities that predicts the motion; empty: none"),
    ("mode", "mapping", "mapping, or localisation: localise only, never change the map"),
    ("container", "false", "run all nodes in one process, and pass images by reference"),
    ("dense", "false", "fuse the keyframes' depth: topic dense_cloud, mesh and cloud in out (needs Open3D)"),
    ("autostart", "true", "activate the nodes; false: a lifecycle manager does"),
    ("rerun", "", "true: show the graph in the Rerun viewer; FILE.rrd: record it"),
    ("rviz", "false", "show image, features, trajectory, map and TF"),
    ("respawn", "", "restart a node that dies: true (default with a camera) or false (with a recording)"),
)
BAG = (
    ("bag", "synthetic", "TUM RGB-D folder, rosbag2, or synthetic"),
    ("camera", "", "calibration, used instead of the recording's own"),
    ("rate", "1.0", "speed of playback, or max"),
    ("frames", "0", "number of frames; 0: all"),
    ("loop", "false", "start again at the end"),
)


def declared(player: bool) -> tuple[tuple[str, str, str], ...]:
    """Name, default and help of each argument: of `bag.launch.py` with `player`, else of `slam.launch.py`."""
    topics = tuple((t, "" if t in PAIR_TOPICS else t, f"topic of {text}") for t, text in CAMERA_TOPICS.items())
    return ARGUMENTS + (BAG if player else topics)


@dataclass(frozen=True)
class Plan:
    """A graph: its processes, and whether those that die are started again.

    `rerun` is the file that the Rerun viewer records to, empty to open the viewer, or None. `sequence` is what the
    player plays, or None.
    """

    config: Config
    sequence: Sequence | None
    place: Place
    specs: tuple[NodeSpec, ...]
    respawn: bool
    rviz: bool
    rerun: str | None

    @property
    def use_sim_time(self) -> bool:
        """Whether viewers follow /clock."""
        return self.sequence is not None or self.place.use_sim_time


def planned(given: Mapping[str, str], player: bool) -> Plan:
    """The graph for the values of all declared arguments. Raises DrpSlamError, before anything starts."""
    config = configuration(given, player)
    topics = {} if player else {t: given[t] for t in CAMERA_TOPICS if given[t] not in (t, "")}
    place = Place(
        topics, given["namespace"], truth(given["use_sim_time"], "use_sim_time"), bool(config.graph.frame_prefix)
    )
    sequence = None
    if player:
        config = playable(config)
        name, camera = config.player.sequence, given["camera"] or None
        sequence = open_sequence(name, camera, 0, config.player.frames or None)
        if sequence.camera.mono:
            config = override(config, {"slam.sensor": "mono"})
    config = override(
        config, {"graph.pair": place.pair if sequence is None else sequence.camera.baseline_m is not None}
    )
    verify(config)
    specs = nodes(config, player, place)
    return Plan(
        config,
        sequence,
        place,
        tuple(contained(specs) if truth(given["container"], "container") else specs),
        truth(given["respawn"] or str(not player), "respawn"),
        truth(given["rviz"], "rviz"),
        {"": None, "false": None, "true": ""}.get(given["rerun"], given["rerun"]),
    )


def configuration(given: Mapping[str, str], player: bool) -> Config:
    """The configuration with the launch arguments. Raises ConfigError as `config_file.load` does."""
    config = load(given["config"] or None)
    values: dict[str, Any] = {
        f"{section}.backend": given["backend"] for section in ("drp", "drpai3") if given["backend"]
    }
    values |= {name: given[name] for name in ("features", "network", "mount", "frame_prefix") if given[name]}
    values |= {f"slam.{name}_topic": given[name] for name in ("odometry", "imu") if given[name]}
    for name in ("map", "save_map", "prior"):
        if given[name]:
            values[f"slam.{name}"] = str(Path(given[name]).expanduser().absolute())
    if given["mode"] not in MODES:
        raise ConfigError(f"mode:={given['mode']}: expected one of {', '.join(MODES)}")
    values |= {name: truth(given[name], name) for name in ("autostart", "dense")}
    if given["sensor"]:
        values["slam.sensor"] = given["sensor"]
    values["slam.localise"] = given["mode"] == MODES[1]
    if given["device"]:
        values["device"] = given["device"]
    if player:
        values |= {
            "player.sequence": given["bag"],
            "player.camera": given["camera"],
            "player.rate": rate(given["rate"]),
            "player.frames": whole(given["frames"], "frames"),
            "player.loop": truth(given["loop"], "loop"),
        }
    out = str(Path(given["out"]).resolve()) if given["out"] else ""
    config = override(config, values)
    config = override(config, {"device": resources.device_name(config.graph.device)})
    return dataclasses.replace(config, graph=dataclasses.replace(config.graph, out=out))


def whole(text: str, name: str) -> int:
    """A whole number. Raises ConfigError that names the argument."""
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}:={text}: expected a whole number; 0 is all") from None


def truth(text: str, name: str) -> bool:
    """`true` or `false`. Raises ConfigError that names the argument."""
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{name}:={text}: expected true or false")
    return text.lower() == "true"
