# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels against numpy, and what they do with arguments that they cannot take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drp_slam.slam import compiled as compiled_module
from drp_slam.slam.compiled import is_current, native

sys.path.insert(0, str(Path(__file__).parent))
from kernel_cases import results

compiled = pytest.mark.skipif(native is None, reason="installed without a compiler")


@compiled
def test_kernels_give_what_numpy_gives(tmp_path: Path) -> None:
    script, file = Path(__file__).parent / "kernel_cases.py", tmp_path / "numpy.npz"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "DRP_SLAM_KERNELS": "numpy", "PYTHONPATH": root}
    subprocess.run([sys.executable, str(script), str(file), "3"], check=True, env=environment)
    with np.load(file) as theirs:
        assert not theirs["native"]
        ours = results(3)
        assert set(ours) == set(theirs.files) - {"native"}
        for name, mine in ours.items():
            np.testing.assert_allclose(
                np.asarray(mine, float), np.asarray(theirs[name], float), rtol=1e-6, atol=1e-6, err_msg=name
            )


@compiled
@pytest.mark.parametrize(
    "xyz", [np.zeros((4, 3), np.float32), np.zeros((3, 4)).T, np.zeros((5, 3))[::2], [[0.0] * 3] * 4]
)
def test_arrays_of_another_type_or_order_are_refused(xyz: np.ndarray) -> None:
    assert native is not None
    with pytest.raises((TypeError, ValueError, BufferError)):
        native.errors2(np.eye(4), xyz, np.zeros((4, 2)), np.zeros(4), np.ones(3), np.empty(4), np.empty(4))


@compiled
def test_arrays_that_do_not_fit_and_numbers_beyond_the_end_are_refused() -> None:
    assert native is not None
    with pytest.raises(ValueError, match="errors2 was given arrays that do not fit"):
        native.errors2(np.eye(4), np.zeros((4, 3)), np.zeros((5, 2)), np.zeros(4), np.ones(3), np.empty(4), np.empty(4))
    bounds, focal = np.array([[-1.0, -1.0], [1.0, 1.0]]), np.ones(2)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="visible"):
            native.visible(
                np.array([wrong]),
                np.ones(5, bool),
                np.ones((5, 3)),
                np.eye(4),
                bounds,
                focal,
                np.empty(1, np.int64),
                np.empty((1, 2)),
            )


@compiled
def test_an_extension_of_older_sources_is_noticed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(compiled_module.__file__).with_name("native"), tmp_path / "native"))
    assert native is not None and is_current(native) and is_current(native, folder)
    assert is_current(native, tmp_path)  # installed without sources
    with (folder / "module.c").open("a") as file:
        file.write("/* changed */\n")
    assert not is_current(native, folder)
    assert not is_current(compiled_module, folder)  # built before extensions carried their sources' digest
