# SPDX-License-Identifier: Apache-2.0
"""Results of everything that has a compiled kernel, on made input: `python kernel_cases.py FILE` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import XFEAT_DESCRIPTOR, Camera, DescriptorSpec
from drp_slam.slam import (
    adjustment,
    bundle,
    camera,
    compiled,
    consensus,
    culling,
    freespace,
    matching,
    motion_groups,
    optimize,
    triangulate,
    trust,
    uncertainty,
    view,
    votes,
)
from drp_slam.slam.camera import Geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import Noise

CAMERA = Camera(640, 480, 520.0, 522.0, 320.0, 240.0, np.array([0.2, -0.4, 0.001, -0.002, 0.3]), 30.0)
NOISE = Noise(430.0, 435.0, 330.0)
BINARY = DescriptorSpec(32, "uint8", "hamming")


def results(seed: int) -> dict[str, np.ndarray]:
    """By name."""
    rng = np.random.default_rng(seed)
    return {**poses(rng), **matches(rng), **views(rng), **adjusted(rng), **mapped(rng)}


def scene(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pose, points of the world, noisy rays and inverse depths; some wrong, some without depth, some behind."""
    T = geometry.exp(rng.normal(scale=0.3, size=6))
    p = rng.uniform([-1.0, -0.8, 1.0], [1.0, 0.8, 4.0], (n, 3))
    xy = p[:, :2] / p[:, 2:] + rng.normal(scale=1.0 / 430.0, size=(n, 2))
    xy[: n // 5] += rng.uniform(-0.2, 0.2, (n // 5, 2))
    depth = 1.0 / p[:, 2] + rng.normal(scale=1.0 / 330.0, size=n)
    depth[::3], p[-2:, 2] = 0.0, -1.0
    return T, geometry.apply(geometry.inverse(T), p), xy, depth


def poses(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Refinement with and without weights, errors, votes, trust."""
    T, xyz, xy, depth = scene(rng, 300)
    start = geometry.exp(rng.normal(scale=0.02, size=6)) @ T
    weight, part = rng.choice([0.02, 0.4, 1.0], 300), rng.random(300) < 0.5
    out = {}
    for name, fit in {
        "plain": optimize.refine_pose(start, xyz, xy, depth, NOISE),
        "weighted": optimize.refine_pose(start, xyz, xy, depth, NOISE, 12, weight, part),
        "few": optimize.refine_pose(start, xyz[:9], xy[:9], depth[:9], NOISE, 3, weight[:9]),
    }.items():
        out[f"{name} pose"], out[f"{name} covariance"] = fit.T_camera_world, fit.covariance
        out[f"{name} errors"], out[f"{name} depth"] = fit.error2_px, fit.error2_depth
        out[f"{name} pull"] = np.array([*fit.pull, fit.pull2, fit.flops])
    out["errors2"] = np.array(optimize.errors2(T, xyz, xy, depth, NOISE))
    earned = rng.uniform(-2.0, 20.0, 400)
    points, features = rng.permutation(400)[:200], rng.permutation(300)[:200]
    many = rng.uniform(-2.0, 2.0, (400, 3))
    seen = view.View(0, 0, xy.astype(np.float32), xy, depth, np.zeros((300, 64), np.float32))
    bounds = np.array([[-0.8, -0.6], [0.8, 0.6]])
    pairs = votes.gathered(many, earned, points, seen, features, T, bounds)
    out |= {f"pairs {name}": np.asarray(getattr(pairs, name), float) for name in pairs.__dataclass_fields__}
    fit = optimize.refine_pose(start, xyz, xy, depth, NOISE)
    matches = votes.Pairs(xyz, xy, depth, weight, rng.random(300), part)
    out["share"] = np.array([motion_groups.share_of(fit, matches), motion_groups.are_apart(T, start, matches, NOISE)])
    good, offset_px = consensus.agreeing(fit, xy * 430.0, np.arange(300), xy[::-1] * 400.0, np.arange(300)[::-1].copy())
    out |= {"good": good, "offset": np.array(offset_px), "drift": drift(rng)}
    matches = votes.Pairs(xyz, xy, depth, np.ones(300), rng.random(300), part)
    group = motion_groups.gathered(geometry.exp(np.full(6, 2e-4)) @ T, matches, NOISE, part)
    assert group is not None
    out |= {"group pose": group.T_camera_world, "group covariance": group.covariance, "group errors": group.error2_px}
    out["group work"] = np.array([group.flops, motion_groups.gathered(start, matches, NOISE) is None])
    pulled = motion_groups.at_pose(geometry.exp(np.full(6, 0.012)) @ T, matches, NOISE)
    out["together"] = np.array([consensus._leaves_together(f, matches, NOISE) for f in (fit, pulled)])
    own = uncertainty.own_covariance(consensus.Consensus(fit, 0.7))
    known = uncertainty.Uncertainty(Map())
    known._recent = [uncertainty.Moment(10**8, T, own), uncertainty.Moment(2 * 10**8, start, 2.0 * own)]
    out |= dict(zip(("twist", "twist covariance"), known.twist() or ()), own=own)
    trust.judge(earned, points, rng.exponential(8.0, 200), rng.exponential(30.0, 200), points[::2].copy(), part[:100])
    return out | {"trust": earned}


def drift(rng: np.random.Generator) -> np.ndarray:
    """Covariance of a pose from three keyframes of known ones."""
    slam_map = Map()
    blank = view.View(0, 0, *(np.zeros((0, n)) for n in (2, 2)), np.zeros(0), np.zeros((0, 64), np.float32))
    found = uncertainty.Uncertainty(slam_map)
    for k in range(3):
        slam_map.add_keyframe(blank, geometry.exp(rng.normal(scale=0.5, size=6)))
        root = rng.normal(scale=0.01, size=(6, 6))
        slam_map.covariance[k] = root @ root.T
    numbers = slam_map.points.add(np.zeros((90, 3)), np.zeros((90, 64), np.float32), None)
    slam_map.points.reference[numbers], slam_map.points.measured[numbers] = np.arange(90) // 30, True
    return found._drift(geometry.exp(rng.normal(scale=0.5, size=6)), np.eye(6) * 1e-5, numbers)


def matches(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Floats and bits, near and far priors."""
    out = {}
    a = rng.normal(size=(250, 64)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.concatenate([a[::-1], rng.normal(size=(150, 64)).astype(np.float32) / 8.0])
    bits = rng.integers(0, 256, (250, 32), dtype=np.uint8)
    more = np.concatenate([bits[::-1] ^ (rng.random((250, 32)) < 0.1), rng.integers(0, 256, (150, 32), dtype=np.uint8)])
    pa = rng.uniform(-300, 300, (250, 2))
    rows = rng.permutation(400)[:350]
    pb = np.concatenate([pa[::-1] + rng.normal(scale=4.0, size=pa.shape), rng.uniform(-300, 300, (150, 2))])[rows]
    for gate in (5.0, 60.0, 2000.0):
        for spec, one, other in (
            (XFEAT_DESCRIPTOR, a, b),
            (XFEAT_DESCRIPTOR, a, b.astype(np.float16)),
            (BINARY, bits, more.astype(np.uint8)),
        ):
            found = matching.match_rows(one, other, rows, 0.2, matching.Prior(pa, pb, gate), spec)
            name = f"matches {other.dtype} {gate}"
            out |= {f"{name} a": found.a, f"{name} b": found.b, f"{name} cosine": found.cosine}
            out[f"{name} compared"] = np.array(found.compared)
    return out


def views(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rays, depths, and what is seen."""
    camera_view = Geometry.of(CAMERA, SlamConfig())
    uv = rng.uniform([0, 0], [639, 479], (500, 2)).astype(np.float32)
    xy = camera.undistort(CAMERA, uv)
    raw = rng.integers(0, 9000, (480, 640)).astype(np.uint16)
    raw[::3], raw[:, 300:] = 0, 5000
    metres = (raw[:, ::-1] / 5000.0).astype(np.float32)
    metres[5], metres[7] = np.nan, np.inf
    u, v = np.ascontiguousarray(np.rint(uv.T).astype(np.intp))
    points, alive = rng.permutation(900)[:700], rng.random(900) < 0.8
    xyz, T = rng.uniform(-3.0, 3.0, (900, 3)), geometry.exp(rng.normal(scale=0.1, size=6))
    numbers, px = view.seen(points, alive, xyz, T, camera_view)
    grid = freespace.nearest(raw, 0.0002)
    return {
        "rays": xy,
        "pixels": camera.distort(CAMERA, xy),
        "depths raw": view.inverse_depths(raw, 0.0002, u, v, (0.2, 6.0), 0.5),
        "depths": view.inverse_depths(metres, 1.0, u, v, (0.2, 6.0), 0.5),
        "seen": numbers,
        "seen at": px,
        "through": freespace.seen_through(grid, T, xyz, camera_view, points),
    }


def adjusted(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Seven cameras of which five are free, and points that not all of them see."""
    cameras = np.stack([geometry.exp(np.array([0.1 * k, 0.02 * k, 0.0, 0.0, 0.03 * k, 0.0])) for k in range(7)])
    points = rng.uniform([-1.0, -0.8, 2.0], [1.0, 0.8, 4.0], (150, 3))
    camera_row, point = np.nonzero(rng.random((7, 150)) < 0.7)
    p = np.einsum("nij,nj->ni", cameras[camera_row, :3, :3], points[point]) + cameras[camera_row, :3, 3]
    xy, depth = p[:, :2] / p[:, 2:] + rng.normal(scale=1.0 / 430.0, size=(len(p), 2)), 1.0 / p[:, 2]
    xy[::25] += 0.05
    depth[::4] = 0.0
    start = cameras.copy()
    start[:5] = geometry.exp(rng.normal(scale=0.01, size=(5, 6))) @ cameras[:5]
    moved = points + rng.normal(scale=0.02, size=points.shape)
    found = bundle.adjust(bundle.Problem(start, moved, camera_row, point, xy, depth, 5), NOISE, 8)
    return {
        "adjusted poses": found.poses,
        "adjusted points": found.points,
        "adjusted errors": found.error2_px,
        "adjusted depth": found.error2_depth,
        "adjusted cost": np.array([found.cost, found.flops]),
    }


def mapped(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Observations of a map of six keyframes, of which some points are removed; points of rays without depth."""
    slam_map, count = Map(), 400
    descriptor = rng.normal(size=(count, 64)).astype(np.float32)
    slam_map.points.add(rng.uniform(-1.0, 1.0, (count, 3)), descriptor, None)
    for k in range(6):
        depth = np.where(rng.random(300) < 0.5, 0.0, 0.4)
        blank = np.zeros((300, 2), np.float32), rng.normal(size=(300, 2)), depth, descriptor[:300]
        slam_map.add_keyframe(view.View(k, k, *blank), np.eye(4))
        slam_map.observe(k, rng.permutation(300)[:200], rng.permutation(count)[:200])
    slam_map.points.reference[:] = rng.integers(0, 6, count)
    for k in range(6):
        slam_map.link(k)
    common = slam_map.seen_by([5, 1, 2])[::2].copy()
    with slam_map.points.marked(common) as marks:
        problem, features, points = adjustment._problem(slam_map, [5, 1, 2, 0], common, marks, 2)
    shares = np.array(culling.shares_seen(slam_map, [4, 0, 3]))
    slam_map.remove(common[:50])
    out = {f"window {name}": np.asarray(getattr(problem, name)) for name in problem.__dataclass_fields__}
    out |= {"window features": features, "window points": points, "links": slam_map.covisibility.rows()}
    out |= {"point": np.stack(slam_map.point), "observed": np.stack(slam_map.observed(3))}
    columns = ("observations", "alive", "measured", "descriptor")
    out |= {f"map {name}": getattr(slam_map.points, name) for name in columns}
    rays = rng.normal(scale=0.4, size=(120, 2))
    xyz = np.concatenate([rays, np.ones((120, 1))], axis=1) * rng.uniform(-1.0, 30.0, (120, 1))
    T = geometry.exp(np.array([0.3, 0.1, -0.05, 0.02, 0.1, -0.04]))
    there = geometry.apply(T, xyz)
    other = there[:, :2] / np.where(np.abs(there[:, 2:]) > 0.1, there[:, 2:], 0.1) + rng.normal(
        scale=2e-3, size=(120, 2)
    )
    left, right = descriptor[:120], descriptor[60:200]
    pairs = matching.match(left / 8.0, right / 8.0, 0.2)
    order = rng.permutation(120)
    found = triangulate.triangulated(matching.Matches(order, order, rays, 0.0), rays, other, T, NOISE)
    out |= {"shares": shares, "median": np.array([compiled.median(x) for x in (rays[:, 0], rays[:7, 1])])}
    out |= {"mutual a": pairs.a, "mutual b": pairs.b, "mutual cosine": pairs.cosine}
    return out | {"rays a": found.a, "rays b": found.b, "rays xyz": found.xyz}


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]), native=np.array(native is not None), **results(int(sys.argv[2])))
