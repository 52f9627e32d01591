# SPDX-License-Identifier: Apache-2.0
"""Stored maps: written and read bit for bit, refused in one line where they are damaged, foreign or not sound."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from damage import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from point_world import CAMERA, binary, frame, make_world, walk

from drp_slam.config import SlamConfig
from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.errors import DrpSlamError, SlamError
from drp_slam.slam.map import Map
from drp_slam.slam.maparrays import from_arrays, to_arrays
from drp_slam.slam.mapfile import LACKING, MAGIC, UNROUNDED, VERSION, WITH_PIXELS, load, open_map, save
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667
ORB = DescriptorSpec(32, "uint8", "hamming")


def made(spec: DescriptorSpec, frames: int = 20) -> Map:
    """A map of some frames, one half of them with an image."""
    tracker, world = Tracker(CAMERA, SlamConfig(min_cosine=0.6), Map(spec)), make_world(count=2000)
    image = np.full((480, 640, 3), 77, np.uint8)
    for k, pose in enumerate(walk(frames, 4.0)):
        features, depth = world.see(pose, 200)
        given = dataclasses.replace(frame(k, k * STEP_NS, depth), image=image if k < frames // 2 else None)
        assert tracker.track(given, binary(features) if spec == ORB else features).tracked
    return tracker.map


@pytest.fixture(scope="module")
def mapped() -> Map:
    return made(XFEAT_DESCRIPTOR)


@pytest.fixture(scope="module")
def stored(mapped: Map, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "room.map"
    save(mapped, path)
    return path


def signed(body: bytes) -> bytes:
    """A file whose checksum holds, whatever its contents."""
    return MAGIC + hashlib.sha256(body).digest() + body


def rewritten(mapped: Map, version: int = VERSION, **changed: np.ndarray) -> bytes:
    """A map's file with other contents of some arrays, and a checksum that holds."""
    arrays = to_arrays(mapped) | changed
    if version <= UNROUNDED:
        arrays = {n: a.astype(mapped.spec.dtype) if n.endswith("_descriptor") else a for n, a in arrays.items()}
    for name in (name for last, names in LACKING.items() if version <= last for name in names):
        del arrays[name]
    if version <= WITH_PIXELS:
        pixels = {"feature_uv": np.zeros((len(arrays["feature_xy"]), 2), np.float32)}
        before = list(arrays).index("feature_xy")
        arrays = dict([*list(arrays.items())[:before], *pixels.items(), *list(arrays.items())[before:]])
    header = json.dumps(
        {
            "version": version,
            "descriptor": dataclasses.asdict(mapped.spec),
            "arrays": [{"name": n, "dtype": a.dtype.str, "shape": a.shape} for n, a in arrays.items()],
        }
    ).encode()
    return signed(b"".join([len(header).to_bytes(8, "little"), header, *(a.tobytes() for a in arrays.values())]))


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(SlamError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("spec", [XFEAT_DESCRIPTOR, ORB], ids=["float", "binary"])
def test_a_map_survives_bit_for_bit(spec: DescriptorSpec, tmp_path: Path) -> None:
    slam_map = made(spec)
    assert len(slam_map) > 3 and len({v.rgb is None for v in slam_map.views}) == 2
    assert {v.nearest_m is None for v in slam_map.views} == {False}
    save(slam_map, tmp_path / "new" / "a.map")
    again = load(tmp_path / "new" / "a.map")
    assert again == slam_map and again.spec == spec
    save(again, tmp_path / "new" / "b.map")
    assert (tmp_path / "new" / "b.map").read_bytes() == (tmp_path / "new" / "a.map").read_bytes()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.map", "b.map"]


def test_an_empty_map_is_a_map(tmp_path: Path) -> None:
    save(Map(), tmp_path / "empty.map")
    assert load(tmp_path / "empty.map") == Map()


def test_a_loaded_map_tracks_like_the_saved_one(mapped: Map, stored: Path) -> None:
    poses, results = walk(30, 4.0), []
    for start in (mapped.copy(), load(stored)):
        tracker, world = Tracker(CAMERA, SlamConfig(min_cosine=0.6), start), make_world(count=2000)
        for k, pose in enumerate(poses[10:]):
            features, depth = world.see(pose, 200)
            assert tracker.track(frame(k, k * STEP_NS, depth), features).tracked
        results.append(tracker)
    first, second = results
    assert first.trajectory().T_world_camera.tobytes() == second.trajectory().T_world_camera.tobytes()
    assert first.map == second.map and len(first.map) > len(mapped)


@settings(max_examples=CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused(stored: Path, data: st.DataObject) -> None:
    """Any bytes changed, cut out, cut off or added anywhere."""
    content = stored.read_bytes()
    # half of the damage to the first bytes, which say what the others mean
    at = data.draw(st.integers(0, 3000) | st.integers(0, len(content) - 1))
    some = data.draw(st.binary(min_size=1, max_size=8))
    kind = data.draw(st.sampled_from(["change", "cut out", "cut off", "add"]))
    damaged = {
        "change": content[:at] + some + content[at + len(some) :],
        "cut out": content[:at] + content[at + len(some) :],
        "cut off": content[:at],
        "add": content[:at] + some + content[at:],
    }[kind]
    if damaged != content:
        refused(stored.with_name("damaged.map"), damaged)


@settings(max_examples=CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_under_a_checksum_that_holds_make_no_traceback(stored: Path, data: st.DataObject) -> None:
    """Whoever wrote it: a sound map or one line."""
    body = bytearray(stored.read_bytes()[len(MAGIC) + 32 :])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, 2500) | st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    path = stored.with_name("forged.map")
    path.write_bytes(signed(bytes(body)))
    try:
        slam_map = load(path)
    except SlamError as error:
        assert "\n" not in str(error)
    else:
        assert from_arrays(slam_map.spec, to_arrays(slam_map)) == slam_map


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a map"),
        (b"\x89PNG\r\n\x1a\n" + bytes(10_000), "not a map"),
        (MAGIC, "damaged"),
        (MAGIC + bytes(40), "damaged"),
        (signed(b""), "header"),
        (signed((1 << 60).to_bytes(8, "little") + b"{}"), "header"),
        (signed((99_999).to_bytes(8, "little") + b"[" * 99_999), "header"),
    ],
)
def test_files_that_are_not_maps_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path / "x.map", content)


def test_contents_that_are_not_sound(mapped: Map, tmp_path: Path) -> None:
    arrays = to_arrays(mapped)
    nan, far, turned = (arrays[n].copy() for n in ("point_xyz", "feature_point", "keyframe_T_camera_world"))
    nan[3], far[far >= 0], turned[1, 0, 0] = np.nan, 10**9, 2.0
    twice, count = arrays["feature_point"].copy(), arrays["keyframe_features"].copy()
    twice[np.flatnonzero(twice[: count[0]] >= 0)[:2]] = twice[twice >= 0][0]
    count[0] += 1
    for name, array, words in (
        ("point_xyz", nan, "not finite"),
        ("feature_point", far, "1000000000"),
        ("feature_point", twice, "twice"),
        ("keyframe_descriptors", count, "adds up"),
        ("keyframe_T_camera_world", turned, "rigid"),
        ("keyframe_T_camera_world", turned[:-1], "expected"),
        ("keyframe_grid", arrays["keyframe_grid"] * 2, "cells"),
        ("keyframe_grid", -arrays["keyframe_grid"], "-"),
        ("cell_nearest_m", -1.0 - arrays["cell_nearest_m"], "expected 0.0"),
        ("point_observations", arrays["point_observations"] + 1, "agree"),
        ("point_xyz", arrays["point_xyz"].astype(np.float32), "expected <f8"),
        ("strange", np.zeros(3), "strange"),
    ):
        assert words in refused(tmp_path / "x.map", rewritten(mapped, **{name: array}))
    (tmp_path / "same.map").write_bytes(rewritten(mapped))
    assert load(tmp_path / "same.map") == mapped


def test_a_later_version_says_so(mapped: Map, tmp_path: Path) -> None:
    header = json.dumps({"version": VERSION + 1, "descriptor": dataclasses.asdict(mapped.spec), "arrays": []}).encode()
    text = refused(tmp_path / "x.map", signed(len(header).to_bytes(8, "little") + header))
    assert f"version {VERSION + 1}" in text and f"reads 1 to {VERSION}" in text


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_earlier_versions_are_read(mapped: Map, tmp_path: Path, version: int) -> None:
    (tmp_path / "old.map").write_bytes(rewritten(mapped, version))
    expected = mapped.copy()
    assert expected.covariance[-1].any() and expected.points.measured.any()  # which they do not hold
    if version < 3:
        expected.covariance[:], expected.unscaled[:], expected.points.measured[:] = 0.0, 0.0, expected.points.alive
    assert load(tmp_path / "old.map") == expected


def test_a_large_file_is_refused_in_a_moment(stored: Path) -> None:
    path = stored.with_name("large.map")
    path.write_bytes(stored.read_bytes() + bytes(100_000_000))
    began = time.process_time()
    with pytest.raises(SlamError, match="damaged"):
        load(path)
    assert time.process_time() - began < 1.0  # about 0.1 s
    path.unlink()


def test_maps_of_another_front_end_and_files_that_cannot_be_used(stored: Path, tmp_path: Path, mapped: Map) -> None:
    assert open_map(str(stored), XFEAT_DESCRIPTOR) == mapped
    assert open_map("", ORB) == Map(ORB)
    with pytest.raises(SlamError, match=r"64 float32 \(cosine\).*32 uint8 \(hamming\).*--features"):
        open_map(str(stored), ORB)
    for path in (tmp_path / "none.map", tmp_path, stored / "below"):
        with pytest.raises(SlamError, match="cannot read"):
            load(path)
    for path in (stored / "below", stored / "below" / "x.map", stored.parent):
        with pytest.raises(DrpSlamError, match="cannot"):
            save(mapped, path)
    assert [p.name for p in stored.parent.iterdir() if "part" in p.name] == []


def test_a_full_disk_leaves_the_old_map(mapped: Map, stored: Path, tmp_path: Path) -> None:
    path, limit = tmp_path / "kept.map", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(stored.read_bytes())
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(SlamError, match="cannot write"):
            save(mapped, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert load(path) == mapped and [p.name for p in tmp_path.iterdir()] == ["kept.map"]


def test_labels_are_in_the_file(mapped: Map, tmp_path: Path) -> None:
    labelled = mapped.copy()
    labelled.classes = ["cup", "table"]
    labelled.points.label[:], labelled.points.label_votes[:] = np.arange(labelled.points.size) % 3, 2
    save(labelled, tmp_path / "m")
    found = load(tmp_path / "m")
    assert found == labelled and found != mapped and found.classes == ["cup", "table"]
    for classes, told in ((["cup"], "point_label has 0 to 2"), (["cup", "\n"], "classes are no list")):
        labelled.classes = classes
        save(labelled, tmp_path / "m")
        with pytest.raises(SlamError, match=told):
            load(tmp_path / "m")
