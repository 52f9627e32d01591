# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every folder: where the real recordings lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder named by DRP_SLAM_DATA, which holds real recordings; skips where there is none."""
    name = os.environ.get("DRP_SLAM_DATA", "")
    if not name or not Path(name).is_dir():
        pytest.skip("needs real recordings: set DRP_SLAM_DATA to their folder")
    return Path(name)


@pytest.fixture(scope="session")
def tum_fr1_xyz(data_folder: Path) -> Path:
    """TUM RGB-D freiburg1_xyz; skips where the data folder lacks it."""
    folder = data_folder / "tum_fr1_xyz"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
