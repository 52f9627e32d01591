# SPDX-License-Identifier: Apache-2.0
"""Every parameter, defined once: frozen dataclasses with defaults that a YAML file may override.

The same fields become ROS parameters (with description and range), YAML sections and `--set`
keys. One section per node: `drp`, `drpai3`, `slam`, `dense`, `profiler`, `player`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drp_slam.config.dense_map import DenseConfig
from drp_slam.config.parameter import check, param
from drp_slam.device import BACKENDS
from drp_slam.errors import ConfigError

DEFAULT_NETWORK = "xfeat-p70"
SENSORS = ("auto", "mono")


@dataclass(frozen=True)
class DrpConfig:
    """Image pre- and post-processing (`drp_node`)."""

    backend: str = param("emulated", "device that runs the image kernels", choices=BACKENDS[:3])
    top_k: int = param(
        1024, "keep at most this many features per image, best score first", low=16, high=8192, live=True
    )
    threshold: float = param(0.05, "minimum keypoint probability", low=0.0, high=1.0, live=True)
    nms_px: int = param(5, "window of non-maximum suppression, odd", unit="px", low=1, high=31, live=True)
    subpixel: bool = param(True, "refine keypoints to the centre of mass of the heatmap in their window", live=True)
    stereo: str = param(
        "keypoints",
        "where to measure stereo depth: at the keypoints, or at every pixel",
        choices=("keypoints", "dense"),
    )
    disparities: int = param(
        128, "range of the disparity search, a multiple of 16; nearer objects get no depth", unit="px", low=16, high=256
    )
    mindiv: int = param(2, "modelled DRP clock: 1260 / (mindiv + 1) MHz", low=2, high=127, live=True)

    def __post_init__(self) -> None:
        check("drp", self)


@dataclass(frozen=True)
class PerceptionConfig:
    """The network on DRP-AI3 (`perception_node`)."""

    backend: str = param("emulated", "device that runs the network", choices=BACKENDS)
    threads: int = param(1, "threads of onnxruntime on this host", low=1, high=64, live=True)
    freq_index: int = param(2, "AI-MAC clock index of the board's runtime", low=1, high=127, live=True)
    compiled: str = param("", "folder of the compiled network, for backend mera")
    detector: str = param("", "ONNX file of an object detector; empty: no detector")
    detector_names: str = param("", "file of class names, one per line; empty: the *.names file beside the detector")
    detector_every: int = param(5, "run the detector on every n-th frame", low=1, high=1000, live=True)
    detector_rate_hz: float = param(
        0.0, "run the detector at this rate instead; 0: on every n-th frame", unit="Hz", low=0.0, high=1000.0, live=True
    )
    detector_threshold: float = param(0.65, "minimum score of a detection", low=0.0, high=1.0, live=True)

    def __post_init__(self) -> None:
        check("drpai3", self)


@dataclass(frozen=True)
class SlamConfig:
    """Tracking and mapping on the CPU (`pose_node`)."""

    min_cosine: float = param(
        0.0, "minimum cosine similarity of two matched descriptors; 0: the front end's", low=0.0, high=1.0, live=True
    )
    gate_px: float = param(
        60.0,
        "search radius around the position that the motion model predicts",
        unit="px",
        low=1.0,
        high=2000.0,
        live=True,
    )
    pixel_sigma_px: float = param(1.2, "standard deviation of a keypoint's position", unit="px", low=0.05, high=20.0)
    inverse_depth_sigma: float = param(
        0.003,
        "standard deviation of a measured inverse depth (RGB-D), until keyframes have measured it",
        unit="1/m",
        low=1e-5,
        high=1.0,
    )
    disparity_sigma_px: float = param(
        1.0,
        "least standard deviation of a stereo disparity, from which that of the depth follows",
        unit="px",
        low=0.05,
        high=10.0,
    )
    depth_min_m: float = param(0.2, "ignore depth below this", unit="m", low=0.0, high=100.0, live=True)
    depth_max_m: float = param(6.0, "ignore depth beyond this (RGB-D)", unit="m", low=0.1, high=1000.0, live=True)
    depth_edge: float = param(
        0.04, "reject depth where a 3x3 neighbourhood spans more than this ratio of it", low=0.0, high=1.0, live=True
    )
    min_inliers: int = param(25, "report lost with fewer inliers than this", low=6, high=1000, live=True)
    keyframe_ratio: float = param(
        0.65,
        "insert a keyframe when the inliers fall below this ratio of their peak since the last one",
        low=0.0,
        high=1.0,
        live=True,
    )
    keyframe_translation_m: float = param(
        0.15, "insert a keyframe after this translation", unit="m", low=0.001, high=100.0, live=True
    )
    keyframe_rotation_deg: float = param(
        12.0, "insert a keyframe after this rotation", unit="deg", low=0.1, high=180.0, live=True
    )
    local_keyframes: int = param(12, "match a frame with the points of this many keyframes", low=1, high=100, live=True)
    local_points: int = param(2000, "match a frame with at most this many map points", low=100, high=20000, live=True)
    adjusted_keyframes: int = param(
        8, "number of keyframes that local bundle adjustment optimises", low=1, high=50, live=True
    )
    adjust_iterations: int = param(5, "iterations of local bundle adjustment; 0: off", low=0, high=100, live=True)
    sensor: str = param(
        "auto",
        "auto: depth or a stereo pair, if there is one; mono: the image alone, with a map up to scale",
        choices=SENSORS,
    )
    depth_unit_m: float = param(
        0.0,
        "metres per unit of integer depth; 0: from the encoding or the calibration file",
        unit="m",
        low=0.0,
        high=10.0,
    )
    depth_offset_s: float = param(
        0.0,
        "subtract this from the stamps of depth; 0: none, or the offset measured in a recording",
        unit="s",
        low=-10.0,
        high=10.0,
    )
    depth_tolerance_s: float = param(
        0.02, "pair image and depth whose stamps differ by at most this", unit="s", low=0.0, high=1.0
    )
    depth_registered: bool = param(False, "treat depth as registered to the image, whatever its frame_id")
    map: str = param("", "map file to load and extend; empty: begin a new map")
    save_map: str = param("", "save the map to this file at the end; empty: do not save", live=True)
    localise: bool = param(False, "localise in the loaded map only; never change it")
    new_map_after_s: float = param(
        2.0,
        "begin a new map after being lost this long in an unmapped place, and merge the maps when they overlap; "
        "0: never",
        unit="s",
        low=0.0,
        high=3600.0,
        live=True,
    )
    prior: str = param(
        "",
        "file to predict the motion from: poses (t tx ty tz qx qy qz qw), orientations (t qx qy qz qw) or angular "
        "velocities (t wx wy wz); empty: none",
    )
    prior_frame: str = param(
        "base",
        "body whose poses that file has: the robot's base, or the camera's optical frame",
        choices=("base", "camera"),
    )
    odometry_topic: str = param("", "wheel odometry (nav_msgs/Odometry) to predict the motion from; empty: none")
    imu_topic: str = param("", "IMU (sensor_msgs/Imu) to predict the rotation from; empty: none")
    bridge_s: float = param(
        2.0,
        "rely on the prior alone for at most this long without vision; 0: never",
        unit="s",
        low=0.0,
        high=10.0,
        live=True,
    )
    close_loops: bool = param(True, "close loops when a keyframe matches an old part of the map", live=True)
    mask_people: bool = param(
        False, "ignore features inside detections of class person; needs a detector with class names"
    )

    def __post_init__(self) -> None:
        check("slam", self)
        if self.localise and (not self.map or self.save_map):
            raise ConfigError(
                f"slam.localise never changes a map: map is {self.map!r}, save_map "
                f"{self.save_map!r}; give --map FILE and no --save-map"
            )


@dataclass(frozen=True)
class ProfilerConfig:
    """The ledger of time and energy (`profiler_node`)."""

    silence_s: float = param(
        2.0, "report a node as dead after this time without messages", unit="s", low=0.1, high=60.0
    )

    def __post_init__(self) -> None:
        check("profiler", self)


@dataclass(frozen=True)
class PlayerConfig:
    """Playback of a sequence (`player_node`)."""

    sequence: str = param("synthetic", "TUM RGB-D folder, rosbag2, or synthetic")
    camera: str = param("", "calibration for a sequence without one: name or file")
    start: int = param(0, "first frame", low=0, high=10_000_000)
    frames: int = param(0, "number of frames; 0: all", low=0, high=10_000_000)
    rate: float = param(1.0, "playback speed; 0 is `max`: as fast as the graph keeps up", low=0.0, high=100.0)
    in_flight: int = param(
        3, "maximum number of frames in flight; in real time, frames beyond it are dropped", low=1, high=16
    )
    loop: bool = param(False, "loop: restart at the end, with later stamps")
    paused: bool = param(False, "wait for the service `play` (std_srvs/SetBool) to start")
    wait: bool = param(True, "start only when the nodes of the graph report ready")
    patience_s: float = param(
        20.0, "at rate max, count a frame as dropped after this time without its status", unit="s", low=0.1, high=600.0
    )

    def __post_init__(self) -> None:
        check("player", self)


@dataclass(frozen=True)
class GraphConfig:
    """Parameters of every node. Without ROS, only `device`, `features` and `network` have an effect."""

    device: str = param("rzv2h", "chip to model: a name from config/devices, or a file")
    features: str = param("xfeat", "feature front end: a name, or module:Class of your own")
    network: str = param(
        DEFAULT_NETWORK, "network of the front end: a shipped one, or an ONNX file with a card", live=True
    )
    out: str = param("", "results folder, written when the node shuts down; empty: none")
    autostart: bool = param(True, "activate the node at start; false if a lifecycle manager does")
    map_frame: str = param("map", "REP-105 frame of the map")
    odom_frame: str = param("odom", "REP-105 frame of the odometry")
    base_frame: str = param("base_link", "REP-105 frame of the robot")
    camera_frame: str = param("camera_link", "frame of the camera's body, x forward")
    frame_prefix: str = param(
        "", "prefix of all frames, such as robot1/, like robot_state_publisher's: several robots can share one /tf"
    )
    pair: bool = param(
        False, "the camera is a stereo pair: topics right and right_camera_info instead of depth; up and launch set it"
    )
    mount: str = param(
        "0 0 0 0 0 0", "pose of camera_frame in base_frame, if /tf does not have it: x y z in m, roll pitch yaw in deg"
    )
    publish_map_to_odom: bool = param(True, "publish the transform from map_frame to odom_frame")
    publish_odom_to_base: bool = param(
        True, "publish the transform from odom_frame to base_frame; false if wheel odometry or a filter does"
    )
    grid_cell_m: float = param(0.05, "cell of the occupancy grid on the topic map", unit="m", low=0.005, high=5.0)
    grid_low_m: float = param(
        -0.3, "depth above this height in the map's frame is an obstacle in the grid", unit="m", low=-100.0, high=100.0
    )
    grid_high_m: float = param(
        0.3, "depth below this height in the map's frame is an obstacle in the grid", unit="m", low=-100.0, high=100.0
    )
    dense: bool = param(
        False,
        "run dense_node, which fuses the keyframes' depth: topic dense_cloud, and mesh and cloud in out at the end",
    )
    pacing: str = param(
        "host",
        "publish results as soon as this host has them, or at the time the chip would have them",
        choices=("host", "realtime"),
    )
    profile: bool = param(True, "publish spans of all stages; false: no figures of stages, units and energy")
    publish_mount: bool = param(True, "publish the camera's mount if /tf does not have it")

    def __post_init__(self) -> None:
        check("graph", self)
        if self.grid_low_m >= self.grid_high_m:
            raise ConfigError(f"graph: grid_low_m {self.grid_low_m} is not below grid_high_m {self.grid_high_m}")
        names = ("map_frame", "odom_frame", "base_frame", "camera_frame")
        for name in ("frame_prefix", *names):  # tf2 rejects a leading slash
            plain = getattr(self, name).strip().lstrip("/")
            prefix = "" if name == "frame_prefix" or plain.startswith(self.frame_prefix) else self.frame_prefix
            object.__setattr__(self, name, prefix + plain if plain else plain)
        frames = {name: getattr(self, name) for name in names}
        if not all(frames.values()) or len(set(frames.values())) < len(frames):
            stated = ", ".join(f"{name} {value!r}" for name, value in frames.items())
            raise ConfigError(f"graph: {stated}; expected four different frame names")


@dataclass(frozen=True)
class Config:
    """All sections."""

    drp: DrpConfig = DrpConfig()
    drpai3: PerceptionConfig = PerceptionConfig()
    slam: SlamConfig = SlamConfig()
    dense: DenseConfig = field(default_factory=DenseConfig)
    profiler: ProfilerConfig = ProfilerConfig()
    player: PlayerConfig = PlayerConfig()
    graph: GraphConfig = GraphConfig()


NODE_SECTIONS = {
    "drp_node": "drp",
    "perception_node": "drpai3",
    "pose_node": "slam",
    "dense_node": "dense",
    "profiler_node": "profiler",
    "player_node": "player",
}
"""Node name -> section; the YAML file is keyed by node, as ROS requires."""
