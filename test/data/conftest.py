# SPDX-License-Identifier: Apache-2.0
"""Small sequences that the tests of `data` share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from drp_slam.data.sequence import Sequence
from drp_slam.data.synthetic import Parameters, render
from drp_slam.data.tum import open_tum
from drp_slam.data.tum_writer import write_folder


@pytest.fixture(scope="session")
def room_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of the room, 64 x 48, as a TUM folder with PNG colour. Not to be written to."""
    folder = tmp_path_factory.mktemp("room") / "tum"
    write_folder(folder, render(Parameters(frames=6, width=64)), ".png", "room")
    return folder


@pytest.fixture
def folder(room_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(room_folder, tmp_path / "room"))


@pytest.fixture(scope="session")
def room(room_folder: Path) -> Sequence:
    return open_tum(room_folder)
