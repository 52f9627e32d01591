# SPDX-License-Identifier: Apache-2.0
"""Writes the TUM RGB-D folder layout that `tum` reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from drp_slam.atomic import write_text
from drp_slam.data.calibration import save_camera
from drp_slam.data.progress import track
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import format_stamp, write_tum
from drp_slam.datatypes import Frame
from drp_slam.errors import DataError


def write_folder(folder: Path, sequence: Sequence, colour: str, label: str) -> None:
    """Writes a sequence as a TUM folder, under a temporary name until it is complete.

    `colour` is `.png` (lossless) or `.jpg` (quality 95). Float depth is rounded to the camera's
    `depth_scale`. Raises DataError where the folder exists or cannot be written.
    """
    if folder.exists():
        raise DataError(f"{folder}: exists already; name another folder or remove it")
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    try:
        for name in ("rgb", "depth"):
            (part / name).mkdir(parents=True)
        _write_images(part, sequence, colour, label)
        save_camera(part / "camera.yaml", sequence.camera)
        if sequence.ground_truth is not None:
            write_tum(part / "groundtruth.txt", sequence.ground_truth)
        part.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot write: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_images(folder: Path, sequence: Sequence, colour: str, label: str) -> None:
    """Images and the three lists."""
    lines: dict[str, list[str]] = {"rgb": [], "depth": [], "associations": []}
    for frame in track(sequence, len(sequence), label):
        stamp = format_stamp(frame.stamp_ns)
        depth_stamp = format_stamp(sequence.depth_stamp_ns(frame))
        image, depth = f"rgb/{stamp}{colour}", f"depth/{depth_stamp}.png"
        assert frame.image is not None  # readers always provide one
        _save(folder / image, frame.image)
        _save(folder / depth, raw_depth(frame))
        lines["rgb"].append(f"{stamp} {image}\n")
        lines["depth"].append(f"{depth_stamp} {depth}\n")
        lines["associations"].append(f"{stamp} {image} {depth_stamp} {depth}\n")
    for name, text in lines.items():
        write_text(folder / f"{name}.txt", "".join(text), DataError)


def raw_depth(frame: Frame) -> np.ndarray:
    """(H, W) uint16 in units of its camera's depth scale; 0 for no return or too far."""
    if frame.depth is None:
        raise DataError(f"frame {frame.index} has no depth")
    if frame.depth.dtype == np.uint16:
        return frame.depth
    raw = np.round(np.nan_to_num(frame.depth, posinf=0.0, neginf=0.0) * frame.camera.depth_scale)
    return np.where((raw > 0) & (raw < 65536), raw, 0).astype(np.uint16)


def _save(path: Path, image: np.ndarray) -> None:
    """PNG at its fastest setting, JPEG at quality 95."""
    quick, fine = (cv2.IMWRITE_PNG_COMPRESSION, 1), (cv2.IMWRITE_JPEG_QUALITY, 95)
    settings = quick if path.suffix == ".png" else fine
    path.write_bytes(cv2.imencode(path.suffix, image, settings)[1].tobytes())
