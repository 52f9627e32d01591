# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels of `native/`; their arguments and results are described there."""

import numpy as np

Array = np.ndarray

sources: str

def match(
    descriptor: Array,
    px: Array,
    point_descriptor: Array,
    points: Array,
    point_px: Array,
    reach_px: float,
    penalty_px2: float,
    min_cosine: float,
    gate_px: float,
    a: Array,
    b: Array,
    cosine: Array,
    /,
) -> tuple[int, float]: ...
def vote(asking: Array, askers: Array, bucket: Array, size: int, owner: Array, least: int, hits: Array, /) -> None: ...
def refine(
    T: Array,
    xyz: Array,
    xy: Array,
    inverse_depth: Array,
    noise: Array,
    weight: Array,
    part: Array,
    iterations: int,
    least_full: int,
    T_out: Array,
    covariance: Array,
    pixel2: Array,
    depth2: Array,
    pull: Array,
    /,
) -> tuple[int, float]: ...
def errors2(
    T: Array, xyz: Array, xy: Array, inverse_depth: Array, noise: Array, pixel2: Array, depth2: Array, /
) -> None: ...
def apart(Ta: Array, Tb: Array, xyz: Array, noise: Array, pixel_gate2: float, depth_gate2: float, /) -> float: ...
def gather(
    points: Array,
    features: Array,
    xyz: Array,
    trust: Array,
    xy: Array,
    inverse_depth: Array,
    T: Array,
    bounds: Array,
    constants: Array,
    xyz_out: Array,
    xy_out: Array,
    inverse_depth_out: Array,
    weight: Array,
    vote: Array,
    far: Array,
    /,
) -> None: ...
def share(pixel2: Array, depth2: Array, vote: Array, pixel_gate2: float, depth_gate2: float, /) -> float: ...
def offset(
    pixel2: Array,
    depth2: Array,
    pixel_gate2: float,
    depth_gate2: float,
    a_px: Array,
    a: Array,
    b_px: Array,
    b: Array,
    good: Array,
    /,
) -> tuple[int, float]: ...
def judge(
    trust: Array, matched: Array, pixel2: Array, depth2: Array, visible: Array, through: Array, constants: Array, /
) -> None: ...
def drift(
    T_world_camera: Array, poses: Array, anchors: Array, known: Array, spread: Array, own: Array, out: Array, /
) -> None: ...
def adjust(
    poses: Array,
    points: Array,
    camera: Array,
    point: Array,
    xy: Array,
    inverse_depth: Array,
    noise: Array,
    free: int,
    iterations: int,
    pixel2: Array,
    depth2: Array,
    /,
) -> tuple[float, int]: ...
def extent(uv: Array, descriptor: Array, /) -> tuple[bool, float, float, float]: ...
def undistort(lens: Array, uv: Array, iterations: int, xy: Array, /) -> None: ...
def distort(lens: Array, xy: Array, uv: Array, /) -> None: ...
def inverse_depths(
    depth: Array, unit_m: float, u: Array, v: Array, nearest_m: float, farthest_m: float, edge: float, out: Array, /
) -> None: ...
def visible(
    points: Array, alive: Array, xyz: Array, T: Array, bounds: Array, focal_px: Array, numbers: Array, px: Array, /
) -> int: ...
def seen_through(
    grid: Array,
    cell_px: float,
    T: Array,
    xyz: Array,
    points: Array,
    bounds: Array,
    lens: Array,
    margin: float,
    share: float,
    through: Array,
    /,
) -> None: ...
