# SPDX-License-Identifier: Apache-2.0
"""What readers do with files that are none, never end, claim too much, or are damaged."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import CASES, damaged, survives

from drp_slam import resources
from drp_slam.card import load_card
from drp_slam.chip.constants import load_constants
from drp_slam.config.config_file import load as load_config
from drp_slam.data.calibration import read_calibration
from drp_slam.data.dataset import open_sequence
from drp_slam.data.ply import read_ply
from drp_slam.data.trajectory import read_tum
from drp_slam.data.truth import read_truth
from drp_slam.data.tum import read_colour, read_depth
from drp_slam.drpai3 import board_artifacts
from drp_slam.drpai3.detect import read_names
from drp_slam.drpai3.reading import read_model
from drp_slam.drpai3.samples import Preprocessing, read_samples
from drp_slam.errors import DataError
from drp_slam.evaluation.measured import Measured, store, stored
from drp_slam.slam.mapfile import load as load_map

HANG_S = 10.0


def samples(path: Path) -> Any:
    return read_samples(path, {"x": (1, 3, 8, 8)}, {"x": np.dtype(np.float32)}, Preprocessing())


def frames(path: Path) -> Any:
    return list(open_sequence(str(path)))


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "network": (".onnx", read_model),
    "packed network": (".onnx.gz", read_model),
    "samples": (".npz", samples),
    "measurement": (".npz", stored),
    "plan": (".json", board_artifacts.read_plan),
    "addresses": (".txt", board_artifacts.read_addresses),
    "summary": (".csv", board_artifacts.read_summary),
    "profile": (".csv", board_artifacts.read_profile),
    "trajectory": (".txt", read_tum),
    "calibration": (".yaml", read_calibration),
    "cloud": (".ply", read_ply),
    "map": (".map", load_map),
    "names": (".txt", lambda path: read_names(str(path), 80)),
    "folder": ("", frames),
    "sqlite3": (".db3", frames),
    "mcap": (".mcap", frames),
    "packed bag": (".db3.zstd", frames),
    "configuration": (".yaml", load_config),
    "device": (".yaml", lambda path: load_constants(str(path))),
    "card": (".onnx", lambda path: load_card(str(path))),
    "image": (".png", read_colour),
    "depth": (".png", read_depth),
}
LINKS = {"zero": "/dev/zero", "full": "/dev/full", "memory": "/proc/self/mem", "dangling": "/nowhere/file"}
KINDS = ("fifo", "folder", "loop", "sparse", "random", "absent", *LINKS)


def made(kind: str, path: Path) -> Path:
    """A file of that kind."""
    if kind in LINKS:
        path.symlink_to(LINKS[kind])
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "random":
        path.write_bytes(random.Random(kind).randbytes(5000))
    return path


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A reader that waits for ever uses no processor time."""

    def late(*_: object) -> None:
        raise TimeoutError(f"still reading after {HANG_S:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(HANG_S, 0.5 * CASES))
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused_at_once(name, tmp_path):
    suffix, read = READERS[name]
    for kind in KINDS:
        path = made(kind, tmp_path / f"{kind}{suffix}")
        assert survives(lambda path=path: read(path)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_ground_truth_that_cannot_be_read_costs_the_ground_truth_alone(kind, tmp_path):
    truth, _ = read_truth(made(kind, tmp_path / "groundtruth.txt"))
    assert truth is None


def test_a_packed_file_that_unpacks_to_more_than_its_limit_is_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(2 << 20)))
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="unpacks to more than the 1048576 bytes"):
        resources.read_gzip(path, 1 << 20, DataError)


def archive(path: Path, array: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", array)
    return path


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The beginning of an array."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        header((1 << 40,)),
        header((1 << 20, 1 << 20, 1 << 20)),
        header((3,)) + bytes(8),
        header((1,), "|O") + bytes(8),
        header((1 << 19,)) + bytes(2 << 20),
        b"",
    ],
    ids=["a terabyte", "an exabyte", "too short", "objects", "2 MB", "nothing"],
)
def test_arrays_that_are_not_what_they_say_are_refused(array, tmp_path):
    path = archive(tmp_path / "bomb.npz", array)
    assert path.stat().st_size < 10_000
    assert survives(lambda: resources.read_npz(path, DataError, 1 << 20))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A sound file for every reader whose damage no other test tries."""
    root = tmp_path_factory.mktemp("sound")
    np.savez_compressed(root / "samples.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    store(
        Measured(np.zeros((3, 5)), np.zeros((2, 4)), {1: np.ones((3, 2)), 2: np.ones((4, 2))}), root / "measurement.npz"
    )
    with gzip.open(root / "packed network.onnx.gz", "wb") as file:
        file.write(resources.network("xfeat").read_bytes()[:20_000])
    K = "{rows: 3, cols: 3, data: [500, 0, 320, 0, 500, 240, 0, 0, 1]}"
    d = "{rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}"
    forms = {
        "ros": f"image_width: 640\nimage_height: 480\ncamera_matrix: {K}\ndistortion_model: plumb_bob\n"
        f"distortion_coefficients: {d}\n",
        "orb": "%YAML:1.0\n" + "".join(f"Camera.{k}: {v}\n" for k, v in ORB.items()),
        "kalibr": "cam0:\n  camera_model: pinhole\n  intrinsics: [500, 500, 320, 240]\n  distortion_model: radtan\n"
        "  distortion_coeffs: [0.1, -0.2, 0, 0]\n  resolution: [640, 480]\n",
    }
    for name, text in forms.items():
        (root / f"{name}.yaml").write_text(text)
    rows = "".join(f"{k / 10} {k} 0 0 0 0 0 1\n" for k in range(20))
    (root / "trajectory.txt").write_text(rows)
    (root / "addresses.txt").write_text("data 0x0 0x100\nweight 100 2000\nwork 2100 30\n")
    (root / "plan.json").write_text('{"execution": {"stages": [{"name": "a", "backend": "drpai", "inputs": ["x"]}]}}')
    return root


ORB = {"type": '"PinHole"', "fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, "k1": 0.1, "width": 640, "height": 480}
DAMAGED: dict[str, Callable[[Path], Any]] = {
    "samples.npz": samples,
    "measurement.npz": stored,
    "packed network.onnx.gz": read_model,
    "ros.yaml": read_calibration,
    "orb.yaml": read_calibration,
    "kalibr.yaml": read_calibration,
    "trajectory.txt": read_tum,
    "addresses.txt": board_artifacts.read_addresses,
    "plan.json": board_artifacts.read_plan,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_or_a_result(sound, tmp_path, name):
    rng, refused = random.Random(name), 0
    data, read, path = (sound / name).read_bytes(), DAMAGED[name], tmp_path / name
    for _ in range(CASES):
        path.write_bytes(damaged(data, rng))
        refused += survives(lambda: read(path))
    assert refused > CASES // 10
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_grows_while_it_is_read_stays_within_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with resources.regular(path, 100, DataError, "") as file:
        with path.open("ab") as other:
            other.write(bytes(1000))
        assert len(file.read(101)) == 101  # as `read_regular` does, which then refuses
    with pytest.raises(DataError, match="1100 bytes, expected at most 100"):
        resources.read_regular(path, 100, DataError)
