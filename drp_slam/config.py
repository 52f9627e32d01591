# SPDX-License-Identifier: Apache-2.0
"""Every parameter, once: frozen dataclasses with defaults, which a YAML file may override.

The same fields become ROS parameters (with description and range), YAML sections and `--set`
keys. One section a node: `drp`, `drpai3`, `slam`, `profiler`, `player`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drp_slam.device import BACKENDS
from drp_slam.errors import ConfigError

DEFAULT_NETWORK = "xfeat-p70"


def param(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with description, unit and range."""
    meta = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=meta)


def check(section: str, config: Any) -> None:
    """Raises ConfigError that names the parameter, its value and its limits."""
    for f in dataclasses.fields(config):
        value, meta, name = getattr(config, f.name), f.metadata, f"{section}.{f.name}"
        kind = type(f.default)
        if kind is float and type(value) is int:
            object.__setattr__(config, f.name, value := float(value))
        if type(value) is not kind:
            raise ConfigError(f"{name} is {value!r}, expected {kind.__name__}")
        if meta["choices"] and value not in meta["choices"]:
            raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(meta['choices'])}")
        low, high = meta["low"], meta["high"]
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ConfigError(f"{name} is {value!r} {meta['unit']}".rstrip() + f", expected {low} to {high}")


@dataclass(frozen=True)
class DrpConfig:
    """Image pre- and post-processing (`drp_node`)."""

    backend: str = param("emulated", "what runs the image kernels", choices=BACKENDS[:3])
    network: str = param(DEFAULT_NETWORK, "network whose card gives the scales of tensor and heads")
    top_k: int = param(1024, "features kept of an image, best score first", low=16, high=8192)
    threshold: float = param(0.05, "least keypoint probability", low=0.0, high=1.0)
    nms_px: int = param(5, "window of non-maximum suppression, odd", unit="px", low=1, high=31)
    subpixel: bool = param(True, "move keypoints to the heatmap's centre of mass in their window")
    stereo: str = param(
        "keypoints", "depth of a stereo pair: at the keypoints, or of every pixel", choices=("keypoints", "dense")
    )
    disparities: int = param(
        128, "disparities that are searched, a multiple of 16; nearer things get none", unit="px", low=16, high=256
    )
    mindiv: int = param(2, "modelled DRP clock: 1260 / (mindiv + 1) MHz", low=2, high=127)

    def __post_init__(self) -> None:
        check("drp", self)


@dataclass(frozen=True)
class PerceptionConfig:
    """The network on DRP-AI3 (`perception_node`)."""

    backend: str = param("emulated", "what runs the network", choices=BACKENDS)
    network: str = param(DEFAULT_NETWORK, "shipped network or ONNX file")
    threads: int = param(1, "threads of onnxruntime on this host", low=1, high=64)
    freq_index: int = param(2, "AI-MAC clock index of the board's runtime", low=1, high=127)
    compiled: str = param("", "folder of the compiled network, for backend mera")
    detector: str = param("", "ONNX file of an object detector, for the ROS node; empty: none")
    detector_names: str = param("", "file of the detector's class names, one a line")
    detector_every: int = param(5, "every so many frames one is searched", low=1, high=1000)
    detector_threshold: float = param(0.65, "least score of a detection", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check("drpai3", self)


@dataclass(frozen=True)
class SlamConfig:
    """Tracking and mapping on the CPU (`pose_node`)."""

    min_cosine: float = param(0.8, "least cosine of two matched descriptors", low=-1.0, high=1.0)
    gate_px: float = param(
        60.0, "farthest that a feature may lie from where motion predicts it", unit="px", low=1.0, high=2000.0
    )
    pixel_sigma_px: float = param(1.2, "standard deviation of a keypoint", unit="px", low=0.05, high=20.0)
    inverse_depth_sigma: float = param(
        0.003, "standard deviation of a measured inverse depth", unit="1/m", low=1e-5, high=1.0
    )
    disparity_sigma_px: float = param(
        0.5,
        "standard deviation of a stereo pair's disparity, which gives that of its depth",
        unit="px",
        low=0.05,
        high=10.0,
    )
    depth_min_m: float = param(0.2, "depth below this is ignored", unit="m", low=0.0, high=100.0)
    depth_max_m: float = param(6.0, "depth beyond this is ignored", unit="m", low=0.1, high=1000.0)
    depth_edge: float = param(0.04, "share of the depth that a 3x3 neighbourhood may span", low=0.0, high=1.0)
    min_inliers: int = param(25, "fewer inliers than this: lost", low=6, high=1000)
    keyframe_ratio: float = param(0.65, "new keyframe when fewer of the last one's points are seen", low=0.0, high=1.0)
    keyframe_translation_m: float = param(0.15, "new keyframe after this way", unit="m", low=0.001, high=100.0)
    keyframe_rotation_deg: float = param(12.0, "new keyframe after this turn", unit="deg", low=0.1, high=180.0)
    local_keyframes: int = param(12, "keyframes whose points a frame is matched with", low=1, high=100)
    local_points: int = param(2000, "map points a frame is matched with", low=100, high=20000)
    adjusted_keyframes: int = param(8, "keyframes that local bundle adjustment moves", low=1, high=50)
    adjust_iterations: int = param(5, "iterations of local bundle adjustment; 0 for none", low=0, high=100)
    close_loops: bool = param(True, "close loops where a keyframe sees an old part of the map")
    mask_people: bool = param(
        False, "leave out features in boxes of class person, where perception_node has a detector with names"
    )

    def __post_init__(self) -> None:
        check("slam", self)


@dataclass(frozen=True)
class ProfilerConfig:
    """The ledger of time and energy (`profiler_node`)."""

    silence_s: float = param(
        2.0, "a node that was heard and is silent this long is reported dead", unit="s", low=0.1, high=60.0
    )

    def __post_init__(self) -> None:
        check("profiler", self)


@dataclass(frozen=True)
class PlayerConfig:
    """Playback of a sequence (`player_node`)."""

    sequence: str = param("synthetic", "TUM RGB-D folder, rosbag2, or synthetic")
    camera: str = param("", "calibration, where the sequence has none: name or file")
    start: int = param(0, "first frame", low=0, high=10_000_000)
    frames: int = param(0, "at most so many frames; 0: all", low=0, high=10_000_000)
    rate: float = param(1.0, "speed of playback; 0 is `max`: as fast as the graph gives credit", low=0.0, high=100.0)
    in_flight: int = param(3, "frames under way at rate max", low=1, high=16)
    loop: bool = param(False, "start again at the end, with later stamps")
    paused: bool = param(False, "wait for the service `play` (std_srvs/SetBool) to start")
    wait: bool = param(True, "start only when the nodes of the graph report ready")
    patience_s: float = param(
        20.0, "at rate max, a frame without status so long counts as lost", unit="s", low=0.1, high=600.0
    )

    def __post_init__(self) -> None:
        check("player", self)


@dataclass(frozen=True)
class GraphConfig:
    """What every node takes beside its own section. Without ROS, `device` and `features` count."""

    device: str = param("rzv2h", "chip that is modelled: a name of config/devices, or a file")
    features: str = param("xfeat", "front end that finds the features: a name, or module:Class of your own")
    out: str = param("", "folder of results, written when the node ends; empty: none")
    map_frame: str = param("map", "REP-105 frame of the map")
    odom_frame: str = param("odom", "REP-105 frame of the odometry")
    base_frame: str = param("base_link", "REP-105 frame of the robot")
    camera_frame: str = param("camera_link", "frame of the camera's body, x forward")
    mount: str = param("0 0 0 0 0 0", "camera_frame in base_frame: x y z in m, roll pitch yaw in deg")

    def __post_init__(self) -> None:
        check("graph", self)


@dataclass(frozen=True)
class Config:
    """All sections."""

    drp: DrpConfig = DrpConfig()
    drpai3: PerceptionConfig = PerceptionConfig()
    slam: SlamConfig = SlamConfig()
    profiler: ProfilerConfig = ProfilerConfig()
    player: PlayerConfig = PlayerConfig()
    graph: GraphConfig = GraphConfig()


NODE_SECTIONS = {
    "drp_node": "drp",
    "perception_node": "drpai3",
    "pose_node": "slam",
    "profiler_node": "profiler",
    "player_node": "player",
}
"""Node name -> section; the YAML file is keyed by node, as ROS wants it."""


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with `{"slam.min_inliers": ...}` replaced; a key without a section is of `graph`.

    Raises ConfigError for an unknown key.
    """
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if not dot and section in GraphConfig.__dataclass_fields__:
            section, name = "graph", section
        known = {f.name for f in dataclasses.fields(config)}
        if section not in known:
            raise ConfigError(f"unknown section {section!r} in {key!r}; known: {sorted(known)}")
        names = {f.name for f in dataclasses.fields(getattr(config, section))}
        if name not in names:
            raise ConfigError(f"unknown parameter {key!r}; {section} has: {', '.join(sorted(names))}")
        by_section.setdefault(section, {})[name] = value
    return dataclasses.replace(
        config, **{s: dataclasses.replace(getattr(config, s), **v) for s, v in by_section.items()}
    )


def load(path: str | Path | None = None) -> Config:
    """The defaults, overridden by a YAML file in ROS's form (`drp_node: ros__parameters: ...`).

    Raises ConfigError for an unreadable file, an unknown node or parameter, a value out of range.
    """
    if path is None:
        return Config()
    import yaml

    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot read: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected nodes with their ros__parameters, as in config/drp_slam.yaml")
    values: dict[str, Any] = {}
    for node, body in tree.items():
        section = NODE_SECTIONS.get(str(node).rsplit("/", 1)[-1])
        if section is None:
            raise ConfigError(f"{path}: unknown node {node!r}; known: {', '.join(NODE_SECTIONS)}")
        given = body.get("ros__parameters") if isinstance(body, dict) else None
        if not isinstance(given, dict):
            raise ConfigError(
                f"{path}: {node} has no parameters; write them below 'ros__parameters:', as in config/drp_slam.yaml"
            )
        for name, value in given.items():
            shared = name in GraphConfig.__dataclass_fields__
            values[f"{'graph' if shared else section}.{name}"] = value
    return override(Config(), values)
