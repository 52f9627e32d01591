# SPDX-License-Identifier: Apache-2.0
"""Renders `docs/demo.gif` from a run: the image with its features, and map and path from above as they grow.

python docs/animate.py [SEQUENCE] [OUT.gif]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from drp_slam.config import Config
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import MapCloud
from drp_slam.offline import one_thread_a_library
from drp_slam.pipeline import Pipeline
from drp_slam.reporting.moments import picture

EVERY, SIDE_PX, COLOURS = 8, 200, 64
"""Frames of the sequence for one of the animation; height of both panels; size of the palette."""
GROUND, PATH, HERE = (24, 18, 14), (250, 150, 60), (60, 220, 96)


def from_above(cloud: MapCloud, path_m: np.ndarray, box_m: np.ndarray) -> np.ndarray:
    """(SIDE_PX, SIDE_PX, 3) BGR: points, path and place, in the first camera's x and z."""
    panel = np.full((SIDE_PX, SIDE_PX, 3), GROUND, np.uint8)

    def at(xyz: np.ndarray) -> np.ndarray:
        share = (xyz[:, [0, 2]] - box_m[0]) / (box_m[1] - box_m[0]).max()
        return np.stack([share[:, 0], 1 - share[:, 1]], 1) * (SIDE_PX - 1)

    pixels = np.rint(at(cloud.xyz_m)).astype(int)
    inside = ((pixels >= 0) & (pixels < SIDE_PX)).all(1)
    colours = np.full((len(pixels), 3), 160) if cloud.rgb is None else cloud.rgb[:, ::-1]
    panel[pixels[inside, 1], pixels[inside, 0]] = np.maximum(colours[inside], 70)
    line = np.rint(at(path_m)).astype(np.int32)
    cv2.polylines(panel, [line], False, PATH, 1, cv2.LINE_AA)
    cv2.circle(panel, tuple(map(int, line[-1])), 3, HERE, -1, cv2.LINE_AA)
    return panel


def main(name: str = "synthetic", out: str = "docs/demo.gif") -> None:
    """Runs the sequence and writes the animation."""
    one_thread_a_library()
    sequence = open_sequence(name)
    pipeline = Pipeline(sequence.camera, Config())
    seen, path = [], []
    for frame in sequence:
        step = pipeline.process(frame)
        if step.track.T_world_camera is not None:
            path.append(step.track.T_world_camera[:3, 3])
        if frame.index % EVERY == 0 and path and step.frame.image is not None:
            jpeg = picture(step.frame.image, step.features.uv, pipeline.tracker.seen)
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            seen.append((image, pipeline.tracker.cloud(), np.array(path)))
    every = np.concatenate([seen[-1][1].xyz_m[:, [0, 2]], seen[-1][2][:, [0, 2]]])
    low, high = np.percentile(every, (1, 99), axis=0)
    middle, half = (low + high) / 2, 0.55 * (high - low).max()
    box_m = np.array([middle - half, middle + half])
    pictures = []
    for image, cloud, positions in seen:
        left = cv2.resize(
            image, (round(image.shape[1] * SIDE_PX / image.shape[0]), SIDE_PX), interpolation=cv2.INTER_AREA
        )
        both = np.hstack([left, from_above(cloud, positions, box_m)])
        pictures.append(Image.fromarray(both[:, :, ::-1]).quantize(COLOURS, dither=Image.Dither.NONE))
    pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=130, loop=0, optimize=True)
    print(f"wrote {out}: {len(pictures)} frames, {Path(out).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
