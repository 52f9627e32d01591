# SPDX-License-Identifier: Apache-2.0
"""What is written is read back, whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drp_slam.data.ply import read_ply, write_ply
from drp_slam.datatypes import MapCloud
from drp_slam.errors import DataError

FINITE = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 30).flatmap(
        lambda n: st.tuples(hnp.arrays(np.float32, (n, 3), elements=FINITE), st.none() | hnp.arrays(np.uint8, (n, 3)))
    )
)
def test_reads_back_what_was_written(points: tuple[np.ndarray, np.ndarray | None]) -> None:
    xyz, rgb = points
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.ply"
        write_ply(path, MapCloud(xyz.astype(np.float64), rgb))
        assert [p.name for p in Path(folder).iterdir()] == ["map.ply"]
        cloud = read_ply(path)
    assert np.array_equal(cloud.xyz_m, xyz.astype(np.float64))
    assert (cloud.rgb is None) == (rgb is None)
    if rgb is not None:
        assert np.array_equal(cloud.rgb, rgb)


def test_open3d_reads_it_too(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    xyz = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rgb = np.random.default_rng(1).integers(0, 256, (50, 3), np.uint8)
    write_ply(tmp_path / "map.ply", MapCloud(xyz.astype(np.float64), rgb))
    cloud = o3d.io.read_point_cloud(str(tmp_path / "map.ply"))
    assert np.allclose(np.asarray(cloud.points), xyz)
    assert np.array_equal(np.rint(np.asarray(cloud.colors) * 255).astype(np.uint8), rgb)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.ply"
    write_ply(path, MapCloud(np.ones((9, 3))))
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40], b"", b"obj" + whole):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"map\.ply"):
            read_ply(path)
