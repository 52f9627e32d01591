# SPDX-License-Identifier: Apache-2.0
"""Simulates an RGB-D camera: blur, exposure, vignetting, noise, missing depth."""

from __future__ import annotations

import cv2
import numpy as np

EXPOSURE_S = 0.008
TARGET_BRIGHTNESS = 118.0
NEAR_M, FAR_M = 0.45, 5.0
BASELINE_FOCAL_M_PX = 0.075 * 525.0
"""Baseline times focal length of a structured-light camera of the Kinect's size (assumed)."""


class RgbdSensor:
    """Stateful: the exposure follows the scene. One random generator per frame, seeded by it."""

    def __init__(self, seed: int, size: tuple[int, int], focal_px: float) -> None:
        self._seed, (width, height), self._focal_px = seed, size, focal_px
        rng = np.random.default_rng([seed, 0x5E])
        # one field of noise, sampled at another offset each frame
        white = rng.standard_normal((height + 64, width + 64, 3), np.float32)
        field = cv2.GaussianBlur(white, (3, 3), 0.45)
        self._field = field / field.std()
        y, x = np.mgrid[:height, :width].astype(np.float32)
        radius2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width / 2) ** 2
        self._vignette = (1 - 0.16 * radius2)[..., None]
        self._sigma = np.sqrt(1.5 + 0.02 * np.arange(256, dtype=np.float32))
        self._gain: float | None = None

    def colour(self, index: int, scene: np.ndarray, turn_rad_s: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 of the scene, (H, W, 3) uint8; `turn_rad_s` (3,) in the camera frame."""
        rng = np.random.default_rng([self._seed, index, 1])
        wanted = np.clip(TARGET_BRIGHTNESS / max(float(scene[::8, ::8].mean()), 1.0), 0.7, 1.6)
        self._gain = wanted if self._gain is None else self._gain + 0.08 * (wanted - self._gain)
        blurred = self._blur(cv2.GaussianBlur(scene, (3, 3), 0.55), turn_rad_s)
        top, left = rng.integers(64, size=2)
        height, width = scene.shape[:2]
        noise = self._field[top : top + height, left : left + width]
        bright = blurred * (self._vignette * np.float32(self._gain))
        noisy = bright + noise * np.take(self._sigma, blurred)
        return cv2.convertScaleAbs(np.maximum(noisy, 0, out=noisy))

    def _blur(self, image: np.ndarray, turn_rad_s: np.ndarray) -> np.ndarray:
        """Motion blur of a turning camera, the same over the image."""
        flow = np.array([-turn_rad_s[1], turn_rad_s[0]]) * self._focal_px * EXPOSURE_S
        length = float(np.linalg.norm(flow))
        if length < 1:
            return image
        half = int(np.ceil(length / 2))
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        for step in np.linspace(-0.5, 0.5, 8 * half + 1):
            x, y = half + step * flow
            kernel[round(y), round(x)] += 1
        return cv2.filter2D(image, -1, kernel / kernel.sum())

    def depth(self, index: int, z: np.ndarray, cosine: np.ndarray, solid: np.ndarray) -> np.ndarray:
        """(H, W) float32 metres, 0 where nothing returns.

        Axial noise 1.2 mm + 1.9 mm/m^2 (z - 0.4 m)^2 (Nguyen et al., 3DIMPVT 2012), disparity in
        steps of 1/8 px (Khoshelham & Elberink, Sensors 2012).
        """
        rng = np.random.default_rng([self._seed, index, 2])
        height, width = z.shape
        grid = rng.standard_normal((height // 2 + 1, width // 2 + 1), np.float32)
        noise = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        measured = z + noise * (0.0012 + 0.0019 * np.square(z - 0.4))
        disparity = np.round(8 * BASELINE_FOCAL_M_PX / measured)
        measured = np.float32(8 * BASELINE_FOCAL_M_PX) / disparity
        window = np.ones((3, 5), np.uint8)
        edge = cv2.dilate(z, window) - cv2.erode(z, window) > 0.04 * z + 0.03
        speckle = (
            cv2.resize(rng.random(grid.shape, np.float32), (width, height), interpolation=cv2.INTER_NEAREST) < 0.004
        )
        gone = edge | speckle | ~solid | (cosine < 0.17) | (z < NEAR_M) | (z > FAR_M)
        measured[gone] = 0
        return measured
