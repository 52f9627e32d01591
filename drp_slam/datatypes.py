# SPDX-License-Identifier: Apache-2.0
"""The data types that flow between the stages: frozen dataclasses over numpy.

Transforms are named `T_to_from` and are (4, 4) float64: `p_world = T_world_camera @ p_camera`.
The camera frame is the optical one (REP-103: x right, y down, z forward). Stamps are integer
nanoseconds, because they are the key of a frame in every stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

DISTORTION = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
"""Coefficients of each distortion model (the names of ROS' CameraInfo)."""
FEATURE_DIM = 64
"""Length of a descriptor (XFeat: 64)."""


@dataclass(frozen=True)
class Camera:
    """A camera as `camera.yaml` states it.

    `distortion` (float64, OpenCV's order) belongs to `model`: `plumb_bob` (5,) k1 k2 p1 p2 k3,
    `rational_polynomial` (8,) k1 k2 p1 p2 k3 k4 k5 k6, `equidistant` (4,) k1 k2 k3 k4.
    `depth_scale` is raw depth units per metre. `baseline_m` is set if the camera is the left one of
    a stereo pair. An unrectified pair has `right`, and (4, 4) `T_right_left`. `mono`: it has neither
    depth nor a right image, so the map has no metric scale.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    depth_scale: float = 1000.0
    fps: float = 30.0
    baseline_m: float | None = None
    model: str = "plumb_bob"
    right: Camera | None = None
    T_right_left: np.ndarray | None = None
    mono: bool = False

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64 intrinsic matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Frame:
    """One image with its stamp, the camera that took it, and depth or a right image.

    `image` is (H, W, 3) uint8 BGR or (H, W) uint8 grey, None where only its features arrived.
    `depth` is (H, W), registered to the image, uint16 or float32, in units of `depth_unit_m`
    metres; 0 and NaN mean no return. Raw depth stays raw: only the pixels at features are
    converted to metres. `right` is the right image of a stereo pair, like `image`.
    """

    index: int
    stamp_ns: int
    image: np.ndarray | None
    camera: Camera
    depth: np.ndarray | None = None
    depth_unit_m: float = 0.001
    right: np.ndarray | None = None


@dataclass(frozen=True)
class DescriptorSpec:
    """The descriptors of a front end: (N, `length`) arrays of `dtype`.

    `metric` is "cosine" for float32 of unit length and "hamming" for uint8, of 8 bits each. Two descriptors match
    from `min_cosine` on, unless `slam.min_cosine` overrides it; the cosine of binary ones
    is 1 - 2 h / bits at a Hamming distance of h.
    """

    length: int
    dtype: str
    metric: str
    min_cosine: float = 0.8


XFEAT_DESCRIPTOR = DescriptorSpec(64, "float32", "cosine")
"""Descriptors of the shipped networks."""


@dataclass(frozen=True)
class Features:
    """Keypoints with descriptors, best score first.

    `uv` (N, 2) float32 in pixels of the original, distorted image; `score` (N,) float32 in
    [0, 1]; `descriptor` (N, length) as in the front end's `DescriptorSpec`.
    `depth_m` (N,) float32 metres, 0 where unknown, is given where depth was measured at the keypoints
    instead of in an image.
    """

    uv: np.ndarray
    score: np.ndarray
    descriptor: np.ndarray
    depth_m: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.uv)


@dataclass(frozen=True)
class Detections:
    """Objects in one image, best score first.

    `boxes_px` (N, 4) float32: x0 y0 x1 y1 in pixels of the original image; `score` (N,) float32
    in [0, 1]; `class_id` (N,) int64; `label` is the class's name, or its number where no names
    are known, of each.
    """

    boxes_px: np.ndarray
    score: np.ndarray
    class_id: np.ndarray
    label: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes_px)


class Reason(str, Enum):
    """Why a frame was lost, or a remark on a tracked one."""

    OK = "ok"
    STARTING = "starting"
    INITIALISING = "initialising"
    MOVING_THINGS = "moving_things"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    FEW_FEATURES = "few_features"
    NO_DEPTH = "no_depth"
    TIME_GAP = "time_gap"
    NO_OVERLAP = "no_overlap"

    @property
    def remedy(self) -> str:
        """What a user can do, "" if nothing."""
        return REMEDIES.get(self, "")


REMEDIES = {
    Reason.INITIALISING: "a camera without depth needs parallax to begin a map: move it sideways",
    Reason.MOVING_THINGS: "parts of the image move differently: show the camera more of the static scene",
    Reason.TOO_DARK: "the image is nearly black: uncover the lens, add light or expose longer",
    Reason.TOO_BRIGHT: "the image is nearly white: expose shorter",
    Reason.BLURRED: "the image is blurred: move slower, or expose shorter with more light",
    Reason.FEW_FEATURES: "too few features: point the camera at something with texture",
    Reason.NO_DEPTH: "no depth to begin a map with: check the depth image, its unit and its range",
    Reason.TIME_GAP: "frames are missing: lower the rate, or go back to a place seen before",
    Reason.NO_OVERLAP: "no mapped part is in view: go back to a place seen before, and turn slower",
}


@dataclass(frozen=True)
class Track:
    """The tracker's result for one frame.

    `state` is `tracked`, `lost`, or `predicted`: from the prior alone, without vision. `T_world_camera`
    is None when lost. `keyframe` is True when this frame became one. `counters` is the work done, for
    the CPU's model: `macs`, `flops`, `bytes`. `T_correction` (4, 4) is set where this frame closed a
    loop, or ended a period without vision: it maps poses of the frames just before (`T_world_camera`) to
    their current values.

    `covariance` (6, 6) is of `d` in `T_world_camera @ exp(d)`: translation in m, rotation in rad,
    along the camera's axes. `twist` (6,) is the velocity along these axes in m/s and rad/s, with
    `twist_covariance` (6, 6). Each is None where it is not known. `reason` says why a frame was
    lost, or that the pose of a tracked one is doubtful because objects move. `map` is the number of
    the map that the pose belongs to: maps other than 0 begin where the camera was lost in an
    unknown place, with world frames of their own until they are joined.
    """

    index: int
    stamp_ns: int
    state: str
    T_world_camera: np.ndarray | None
    matches: int = 0
    inliers: int = 0
    keyframe: bool = False
    relocalised: bool = False
    counters: Mapping[str, float] = field(default_factory=dict)
    T_correction: np.ndarray | None = None
    covariance: np.ndarray | None = None
    twist: np.ndarray | None = None
    twist_covariance: np.ndarray | None = None
    reason: Reason = Reason.OK
    map: int = 0

    @property
    def tracked(self) -> bool:
        """The pose comes from vision."""
        return self.state == "tracked"


@dataclass(frozen=True)
class Trajectory:
    """`stamps_ns` (N,) int64, strictly increasing; `T_world_camera` (N, 4, 4) float64."""

    stamps_ns: np.ndarray
    T_world_camera: np.ndarray

    @staticmethod
    def of(poses: Iterable[tuple[int, np.ndarray]]) -> Trajectory:
        """Pairs of `stamp_ns` and (4, 4) `T_world_camera` in any order; of several poses with one stamp, the last."""
        by_stamp = sorted(dict(poses).items())
        matrices = np.array([T for _, T in by_stamp], np.float64).reshape(-1, 4, 4)
        return Trajectory(np.array([stamp for stamp, _ in by_stamp], np.int64), matrices)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def positions_m(self) -> np.ndarray:
        """(N, 3) float64, a view."""
        return self.T_world_camera[:, :3, 3]


@dataclass(frozen=True)
class MapCloud:
    """The map for display and files: `xyz_m` (N, 3) float64, `rgb` (N, 3) uint8 or None.

    Where a detector ran: `label` (N,) int16 is an index into the class names `names`, -1 for none,
    and `votes` (N,) int16 by how many votes the label leads.
    """

    xyz_m: np.ndarray
    rgb: np.ndarray | None = None
    label: np.ndarray | None = None
    votes: np.ndarray | None = None
    names: tuple[str, ...] = ()
