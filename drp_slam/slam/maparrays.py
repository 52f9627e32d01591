# SPDX-License-Identifier: Apache-2.0
"""A map as named arrays of fixed types, and back: what its file holds (docs/map_format.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from drp_slam.datatypes import DescriptorSpec
from drp_slam.slam.culling import compact
from drp_slam.slam.descriptors import restored, width
from drp_slam.slam.map import Map
from drp_slam.slam.points import stored
from drp_slam.slam.view import View

NO_PIXELS = np.zeros((0, 2), dtype=np.float32)
LARGEST_GRID = 1 << 16
"""Rows and columns of a grid of nearest depths."""


def schema(
    spec: DescriptorSpec, rounded: bool = True, pixels: bool = False
) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    """Every array of a file: its type, what one row stands for (keyframe, feature, point), and a row's shape.

    Descriptors are `rounded` to half floats, or as the front end gives them. Old files have the features' `pixels`.
    """
    descriptor = np.dtype(stored(spec) if rounded else spec.dtype).newbyteorder("<").str
    arrays: dict[str, tuple[str, str, tuple[int, ...]]] = {
        "keyframe_T_camera_world": ("<f8", "keyframe", (4, 4)),
        "keyframe_covariance": ("<f8", "keyframe", (6, 6)),
        "keyframe_unscaled": ("<f8", "keyframe", (4,)),
        "keyframe_index": ("<i8", "keyframe", ()),
        "keyframe_stamp_ns": ("<i8", "keyframe", ()),
        "keyframe_features": ("<i8", "keyframe", ()),
        "keyframe_descriptors": ("<i8", "keyframe", ()),
        "keyframe_part": ("<i8", "keyframe", ()),
        "keyframe_coloured": ("|b1", "keyframe", ()),
        "keyframe_grid": ("<i8", "keyframe", (2,)),
        "cell_nearest_m": ("<f4", "cell", ()),
        "link": ("<i8", "link", (3,)),
        **({"feature_uv": ("<f4", "feature", (2,))} if pixels else {}),
        "feature_xy": ("<f8", "feature", (2,)),
        "feature_inverse_depth": ("<f8", "feature", ()),
        "feature_descriptor": (descriptor, "described feature", (spec.length,)),
        "feature_rgb": ("|u1", "feature", (3,)),
        "feature_point": ("<i8", "feature", ()),
        "point_xyz": ("<f8", "point", (3,)),
        "point_descriptor": (descriptor, "point", (spec.length,)),
        "point_rgb": ("|u1", "point", (3,)),
        "point_observations": ("<i8", "point", ()),
        "point_reference": ("<i8", "point", ()),
        "point_found": ("<i8", "point", ()),
        "point_trust": ("<f8", "point", ()),
        "point_alive": ("|b1", "point", ()),
        "point_measured": ("|b1", "point", ()),
        "point_label": ("<i2", "point", ()),
        "point_label_votes": ("<i2", "point", ()),
    }
    if spec.metric == "hamming":
        arrays["point_votes"] = ("|i1", "point", (width(spec),))
    return arrays


def to_arrays(slam_map: Map) -> dict[str, np.ndarray]:
    """The map as the arrays of `schema`; the features of all keyframes are concatenated.

    Culled keyframes are left out, and the others renumbered.
    """
    spec, live = slam_map.spec, slam_map.live
    views = [slam_map.views[k] for k in live.tolist()]
    grey = [np.zeros((len(v), 3), np.uint8) if v.rgb is None else v.rgb for v in views]
    grids = [np.zeros((0, 0)) if v.nearest_m is None else v.nearest_m for v in views]
    columns = dict(slam_map.points.columns)
    # culled points may refer to a culled keyframe
    columns["reference"] = np.minimum(np.searchsorted(live, columns["reference"]), max(len(live) - 1, 0))
    links = slam_map.covisibility.rows()
    links[:, :2] = np.searchsorted(live, links[:, :2])
    found = {
        "keyframe_T_camera_world": slam_map.T_camera_world[live],
        "keyframe_covariance": slam_map.covariance[live],
        "keyframe_unscaled": slam_map.unscaled[live],
        "keyframe_index": np.array([v.index for v in views]),
        "keyframe_stamp_ns": np.array([v.stamp_ns for v in views]),
        "keyframe_features": np.array([len(v) for v in views]),
        "keyframe_descriptors": np.array([len(v.descriptor) for v in views]),
        "keyframe_part": np.array(slam_map.part, dtype=np.intp)[live],
        "keyframe_coloured": np.array([v.rgb is not None for v in views]),
        "keyframe_grid": np.array([grid.shape for grid in grids]).reshape(-1, 2),
        "cell_nearest_m": [grid.ravel() for grid in grids],
        "link": links,
        "feature_xy": [v.xy for v in views],
        "feature_inverse_depth": [v.inverse_depth for v in views],
        "feature_descriptor": [restored(v.descriptor) for v in views],
        "feature_rgb": grey,
        "feature_point": [slam_map.point[k] for k in live.tolist()],
        **{f"point_{name}": column for name, column in columns.items()},
    }
    arrays = {}
    for name, (dtype, _, row) in schema(spec).items():
        rows = found[name]
        if isinstance(rows, list):
            rows = np.concatenate(rows) if rows else np.zeros((0, *row))
        arrays[name] = np.ascontiguousarray(rows, dtype)
    return arrays


def from_arrays(spec: DescriptorSpec, arrays: Mapping[str, np.ndarray]) -> Map:
    """The map of `to_arrays`. The arrays are copied, not checked."""
    slam_map = Map(spec)
    end = last = cell = 0
    for k, (count, own) in enumerate(zip(*(arrays[f"keyframe_{n}"].tolist() for n in ("features", "descriptors")))):
        mine, end = slice(end, end + count), end + count
        descriptor, last = arrays["feature_descriptor"][last : last + own], last + own
        rgb = arrays["feature_rgb"][mine].copy() if arrays["keyframe_coloured"][k] else None
        xy, depth = (arrays[f"feature_{name}"][mine].copy() for name in ("xy", "inverse_depth"))
        index, stamp_ns = int(arrays["keyframe_index"][k]), int(arrays["keyframe_stamp_ns"][k])
        rows, columns = arrays["keyframe_grid"][k].tolist()
        grid, cell = arrays["cell_nearest_m"][cell : cell + rows * columns], cell + rows * columns
        nearest_m = grid.reshape(rows, columns).copy() if rows else None
        view = View(index, stamp_ns, NO_PIXELS, xy, depth, descriptor.copy(), rgb, nearest_m)
        slam_map.add_keyframe(view, arrays["keyframe_T_camera_world"][k], int(arrays["keyframe_part"][k]))
        slam_map.views[k] = compact(slam_map.views[k])
        slam_map.point[k][:] = arrays["feature_point"][mine]
    for one, other, shared in arrays["link"].tolist():
        slam_map.covisibility.link(one, other, shared)
    slam_map.points.add(arrays["point_xyz"], arrays["point_descriptor"], None)
    for name, column in slam_map.points.columns.items():
        column[:] = arrays[f"point_{name}"]
    slam_map.covariance[:] = arrays["keyframe_covariance"]
    slam_map.unscaled[:] = arrays["keyframe_unscaled"]
    slam_map.points.refresh()
    # files of earlier versions may lack links with the keyframes that created points
    for k in range(len(slam_map)):
        slam_map.covisibility.link_references(k, slam_map.points.reference[slam_map.observed(k)[1]])
    return slam_map


def fault(arrays: Mapping[str, np.ndarray], classes: int) -> str:
    """Why arrays that fit the schema are not those of a map with that number of `classes`, or "" where they are."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} has a number that is not finite"
    keyframes, points = len(arrays["keyframe_index"]), len(arrays["point_xyz"])
    point, features, link = arrays["feature_point"], arrays["keyframe_features"], arrays["link"]
    grid, own = arrays["keyframe_grid"], arrays["keyframe_descriptors"]
    limits = {
        "keyframe_features": (features, 0, len(point)),
        "keyframe_part": (arrays["keyframe_part"], 0, np.iinfo(np.int32).max),
        "keyframe_descriptors": (own, 0, len(point)),
        "feature_point": (point, -1, points - 1),
        "point_reference": (arrays["point_reference"], 0, keyframes - 1),
        "point_found": (arrays["point_found"], 0, np.iinfo(np.int64).max),
        "keyframe_unscaled": (arrays["keyframe_unscaled"][:, 0], 0.0, np.inf),
        "point_label": (arrays["point_label"], 0, classes),
        "point_label_votes": (arrays["point_label_votes"], 0, np.iinfo(np.int16).max),
        "feature_inverse_depth": (arrays["feature_inverse_depth"], 0.0, np.inf),
        "keyframe_grid": (grid, 0, LARGEST_GRID),
        "cell_nearest_m": (arrays["cell_nearest_m"], 0.0, np.inf),
        "link": (link[:, :2], 0, keyframes - 1),
        "shared points of link": (link[:, 2], 1, np.iinfo(np.int64).max),
    }
    for name, (array, low, high) in limits.items():
        if array.size and (array.min() < low or array.max() > high):
            return f"{name} has {array.min()} to {array.max()}, expected {low} to {high}"
    if features.sum() != len(point):
        return f"keyframe_features adds up to {features.sum()}, but there are {len(point)} features"
    if (own > features).any() or own.sum() != len(arrays["feature_descriptor"]):
        return f"keyframe_descriptors adds up to {own.sum()}, with {len(arrays['feature_descriptor'])} descriptors"
    cells = grid.prod(axis=1).sum()
    if cells != len(arrays["cell_nearest_m"]):
        return f"keyframe_grid has {cells} cells, but cell_nearest_m {len(arrays['cell_nearest_m'])}"
    if (link[:, 0] >= link[:, 1]).any():
        return "link has a pair of keyframes that is not in ascending order"
    owner = np.repeat(np.arange(keyframes), features)[point >= 0]
    seen = point[point >= 0]
    if len(np.unique(owner * max(points, 1) + seen)) != len(seen):
        return "feature_point has a point twice in one keyframe"
    count = np.bincount(seen, minlength=points)
    if not np.array_equal(count, arrays["point_observations"]) or not np.array_equal(count > 0, arrays["point_alive"]):
        return "point_observations or point_alive does not agree with feature_point"
    C = arrays["keyframe_covariance"]
    if np.abs(C - C.transpose(0, 2, 1)).max(initial=0.0) > 1e-6 * (1.0 + np.abs(C).max(initial=0.0)):
        return "keyframe_covariance has a matrix that is not symmetric"
    if (np.einsum("kii->ki", C) < 0.0).any():
        return "keyframe_covariance has a negative variance"
    T = arrays["keyframe_T_camera_world"]
    R = T[:, :3, :3]
    rigid = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0) < 1e-6 and (np.linalg.det(R) > 0).all()
    if not rigid or (T[:, 3] != (0.0, 0.0, 0.0, 1.0)).any():
        return "keyframe_T_camera_world has a matrix that is not a rigid motion"
    return ""
