# SPDX-License-Identifier: Apache-2.0
"""Procedural surfaces of the synthetic room: each a (H, W, 3) float32 BGR image in 0..255.

A material is a function of a random generator, a size in texels and a scale in texels per metre.
All carry detail from decimetres down to the texel, like real surfaces.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Material = Callable[[np.random.Generator, int, int, float], np.ndarray]
Colour = tuple[float, float, float]

WORDS = ("RZ/V2H", "SLAM", "PNP", "INT8", "MAP", "POSE", "LOOP", "DEPTH", "ORB", "KEY", "B/W", "42")


def fractal(rng: np.random.Generator, height: int, width: int, coarse_px: float, stretch: float = 1.0) -> np.ndarray:
    """(H, W) float32 noise about 0, unit deviation at most, octaves from `coarse_px` down to 2."""
    total = np.zeros((height, width), np.float32)
    cell, weight = coarse_px, 1.0
    while cell >= 2:
        shape = (int(height / cell) + 2, int(width / (cell * stretch)) + 2)
        grid = rng.standard_normal(shape).astype(np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        cell, weight = cell / 2, weight * 0.75
    return total / max(float(total.std()), 1e-6)


def tinted(level: np.ndarray, colour: Colour) -> np.ndarray:
    """(H, W) brightness about 1 times a colour."""
    return level[..., None] * np.array(colour, np.float32)


def drawable(image: np.ndarray) -> np.ndarray:
    """Converts to uint8, on which OpenCV can draw antialiased lines and letters."""
    return np.clip(image, 0, 255).astype(np.uint8)


def hue(rng: np.random.Generator, saturation: float = 150, value: float = 170) -> Colour:
    """A random colour."""
    r, g, b = colorsys.hsv_to_rgb(rng.random(), saturation / 255, value)
    return b, g, r


def plain(colour: Colour, contrast: float, marks_per_m2: float = 0.0) -> Material:
    """Paint: almost featureless, with a few scuffs and nail holes."""

    def make(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
        level = 1 + contrast * fractal(rng, height, width, 0.5 * ppm)
        for _ in range(int(marks_per_m2 * height * width / ppm**2)):
            at = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.uniform(0.006, 0.02) * ppm), int(rng.uniform(0.004, 0.012) * ppm))
            tone, turn = float(rng.uniform(0.72, 0.9)), float(rng.uniform(0, 180))
            cv2.ellipse(level, at, axes, turn, 0, 360, tone, -1)
        return tinted(level, colour)

    return make


def cloth(colour: Colour) -> Material:
    """A coarse weave with worn patches."""

    def make(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        weave = np.sin(x * (2 * np.pi / (0.021 * ppm))) * np.sin(y * (2 * np.pi / (0.027 * ppm)))
        return tinted(1 + 0.1 * weave + 0.14 * fractal(rng, height, width, 0.3 * ppm), colour)

    return make


def wood(colour: Colour, plank_m: float = 0.14, length_m: float = 1.1) -> Material:
    """Planks along x with grain, knots and dark joints."""

    def make(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
        level = 1 + 0.10 * fractal(rng, height, width, 0.06 * ppm, stretch=12)
        level += 0.05 * fractal(rng, height, width, 0.2 * ppm)
        plank, length = max(int(plank_m * ppm), 2), max(int(length_m * ppm), 2)
        for top in range(0, height, plank):
            for left in range(-int(rng.integers(length)), width, length):
                board = level[top : top + plank, max(left, 0) : max(left + length, 0)]
                board *= rng.uniform(0.8, 1.15)
                board[:1] *= 0.55
                board[:, :2] *= 0.55
                if board.size and rng.random() < 0.5:
                    centre = (int(rng.integers(board.shape[1])), int(rng.integers(board.shape[0])))
                    knot = np.ascontiguousarray(board)
                    cv2.ellipse(
                        knot,
                        centre,
                        (max(int(0.018 * ppm), 1), max(int(0.01 * ppm), 1)),
                        0,
                        0,
                        360,
                        0.5,
                        -1,
                        cv2.LINE_AA,
                    )
                    board[:] = knot
        return tinted(level, colour)

    return make


def brick(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Running bond of bricks of 24 x 8 cm, each of its own tone."""
    image = tinted(1 + 0.05 * fractal(rng, height, width, 0.1 * ppm), (170, 180, 185))
    grain = fractal(rng, height, width, 0.05 * ppm)
    rows, long, joint = max(int(0.08 * ppm), 3), max(int(0.24 * ppm), 4), max(int(0.01 * ppm), 1)
    for row, top in enumerate(range(0, height, rows)):
        for left in range(-(row % 2) * long // 2, width, long):
            cut = (slice(top, top + rows - joint), slice(max(left, 0), max(left + long - joint, 0)))
            tone = np.array((70, 85, 150), np.float32) * rng.uniform(0.65, 1.25)
            image[cut] = tone * (1 + 0.14 * grain[cut])[..., None]
    return image


def wallpaper(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Stripes and small hand-set motifs on paper."""
    image = tinted(1 + 0.035 * fractal(rng, height, width, 0.4 * ppm), (165, 190, 190))
    step = max(int(0.22 * ppm), 4)
    for left in range(0, width, step):
        image[:, left : left + step // 3] *= 0.93
    canvas = drawable(image)
    for top in range(step // 2, height, step):
        for left in range(step // 2, width, step):
            at = (
                left + int(rng.integers(-step // 5, step // 5 + 1)),
                top + int(rng.integers(-step // 5, step // 5 + 1)),
            )
            radius, turn = int(rng.uniform(0.02, 0.05) * ppm), int(rng.integers(360))
            colour = hue(rng, 90, 130)
            cv2.ellipse(canvas, at, (radius, radius // 3 + 1), turn, 0, 360, colour, -1, cv2.LINE_AA)
            cv2.ellipse(canvas, at, (radius, radius // 3 + 1), turn + 70, 0, 300, colour, 2, cv2.LINE_AA)
    return canvas


def rug(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Nested borders and a field of small diamonds, woven."""
    canvas = np.full((height, width, 3), 90, np.uint8)
    for inset in np.arange(0, 0.45, 0.06):
        dx, dy = int(inset * height), int(inset * height)
        cv2.rectangle(canvas, (dx, dy), (width - dx, height - dy), hue(rng, 130, 140), -1)
    step = max(int(0.12 * ppm), 4)
    for top in range(step, height - step, step):
        for left in range(step, width - step, step):
            r = int(step * rng.uniform(0.2, 0.45))
            points = np.array([[left - r, top], [left, top - r], [left + r, top], [left, top + r]])
            cv2.fillConvexPoly(canvas, points, hue(rng, 120, int(rng.integers(60, 220))), cv2.LINE_AA)
    return canvas * (1 + 0.13 * fractal(rng, height, width, 0.05 * ppm))[..., None]


def books(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """A shelf seen from the front: boards, and spines of all widths with titles."""
    canvas = np.full((height, width, 3), 25, np.uint8)
    shelf, board = max(int(0.34 * ppm), 6), max(int(0.025 * ppm), 1)
    for top in range(0, height, shelf):
        left, foot = board, min(top + shelf, height) - board
        while left < width - board:
            thick = max(int(rng.uniform(0.018, 0.06) * ppm), 2)
            tall = int((shelf - board) * rng.uniform(0.6, 0.93))
            if rng.random() < 0.9:
                colour = hue(rng, int(rng.integers(30, 200)), int(rng.integers(60, 220)))
                last = min(left + thick - 1, width - board)
                cv2.rectangle(canvas, (left, foot - tall), (last, foot), colour, -1)
                canvas[max(foot - tall, 0) : foot, left : left + 1] //= 2
                title = np.full((thick, max(tall, 1), 3), colour, np.uint8)
                ink = (15, 15, 15) if sum(colour) > 330 else (235, 235, 235)
                cv2.putText(
                    title,
                    str(rng.choice(WORDS)),
                    (tall // 6, int(thick * 0.75)),
                    cv2.FONT_HERSHEY_DUPLEX,
                    thick / 32,
                    ink,
                    1,
                    cv2.LINE_AA,
                )
                spine = canvas[max(foot - tall, 0) : foot, left:last]
                turned = title.transpose(1, 0, 2)[: spine.shape[0], : spine.shape[1]]
                spine[: turned.shape[0], : turned.shape[1]] = turned
            left += thick
        canvas[foot : foot + board] = (70, 110, 150)
    canvas[:, :board] = canvas[:, -board:] = (70, 110, 150)
    return canvas * (1 + 0.06 * fractal(rng, height, width, 0.1 * ppm))[..., None]


def poster(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """A framed picture: a gradient, shapes of all sizes, lettering."""
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top, low = np.array(hue(rng, 80, 230), np.float32), np.array(hue(rng, 110, 120), np.float32)
    canvas = drawable(np.broadcast_to(top * (1 - ramp) + low * ramp, (height, width, 3)))
    for size in np.geomspace(0.4, 0.02, 60):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        extent = max(int(size * min(height, width) * rng.uniform(0.4, 1)), 1)
        colour = hue(rng, int(rng.integers(60, 220)), int(rng.integers(40, 250)))
        corners = np.array(at) + rng.integers(-extent, extent + 1, (3, 2))
        if rng.random() < 0.4:
            cv2.circle(canvas, at, extent, colour, -1, cv2.LINE_AA)
        else:
            cv2.fillConvexPoly(canvas, cv2.convexHull(corners.astype(np.int32)), colour, cv2.LINE_AA)
    for line in range(3):
        at = (width // 10, int(height * (0.3 + 0.28 * line)))
        cv2.putText(
            canvas,
            str(rng.choice(WORDS)),
            at,
            cv2.FONT_HERSHEY_DUPLEX,
            width / 230,
            hue(rng, 40, int(rng.choice((20, 240)))),
            max(int(width / 150), 1),
            cv2.LINE_AA,
        )
    frame = max(int(0.02 * ppm), 1)
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), (30, 35, 40), frame)
    return canvas * (1 + 0.05 * fractal(rng, height, width, 0.1 * ppm))[..., None]


def carton(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Cardboard with tape, a label and print."""
    canvas = tinted(1 + 0.09 * fractal(rng, height, width, 0.08 * ppm, stretch=3), (95, 140, 180))
    canvas[:, int(width * 0.45) : int(width * 0.55)] *= 1.2
    canvas = drawable(canvas)
    x, y = int(width * rng.uniform(0.08, 0.4)), int(height * rng.uniform(0.15, 0.4))
    cv2.rectangle(canvas, (x, y), (x + width // 3, y + height // 3), (225, 228, 230), -1)
    for _ in range(6):
        at = (x + 2 + int(rng.integers(max(width // 6, 1))), y + int(rng.integers(2, max(height // 3, 3))))
        cv2.line(canvas, at, (at[0] + width // 8, at[1]), (40, 40, 40), 1, cv2.LINE_AA)
    cv2.putText(
        canvas,
        str(rng.choice(WORDS)),
        (width // 12, int(height * 0.9)),
        cv2.FONT_HERSHEY_DUPLEX,
        width / 190,
        (40, 50, 70),
        max(width // 90, 1),
        cv2.LINE_AA,
    )
    return canvas


def cupboard(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Doors and drawers with gaps and handles."""
    canvas = drawable(wood((120, 165, 195), plank_m=3.0)(rng, height, width, ppm))
    columns, rows = max(round(width / (0.45 * ppm)), 1), max(round(height / (0.4 * ppm)), 1)
    for i in range(columns):
        for j in range(rows):
            a = (width * i // columns, height * j // rows)
            b = (width * (i + 1) // columns, height * (j + 1) // rows)
            cv2.rectangle(canvas, a, b, (35, 45, 55), max(int(0.006 * ppm), 1))
            x, y = (a[0] + b[0]) // 2, a[1] + max(int(0.05 * ppm), 2)
            half = int(0.05 * ppm)
            cv2.line(canvas, (x - half, y), (x + half, y), (200, 205, 210), max(int(0.012 * ppm), 1), cv2.LINE_AA)
    return canvas


def screen(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """A monitor that shows lines of a program."""
    canvas = np.full((height, width, 3), (45, 35, 30), np.uint8)
    step = max(int(0.017 * ppm), 2)
    for y in range(step * 2, height - step * 2, step):
        x = step * int(rng.integers(2, 6))
        while x < width * rng.uniform(0.3, 0.9):
            length = int(rng.integers(step, step * 5))
            cv2.line(canvas, (x, y), (x + length, y), hue(rng, 120, 210), max(step // 3, 1))
            x += length + step
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), (12, 12, 12), max(int(0.03 * ppm), 2))
    return canvas


def window(rng: np.random.Generator, height: int, width: int, ppm: float) -> np.ndarray:
    """Sky, hills and trees behind a cross of bars."""
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array((235, 205, 170), np.float32) * (1 - ramp) + np.array((240, 240, 235)) * ramp
    canvas = np.ascontiguousarray(np.broadcast_to(sky, (height, width, 3)), dtype=np.float32)
    canvas *= (1 + 0.05 * fractal(rng, height, width, 0.4 * ppm))[..., None]
    hill = height * 0.55 + 0.05 * height * fractal(rng, 1, width, 0.5 * ppm)[0]
    ground = np.arange(height)[:, None] > hill
    leaves = 1 + 0.35 * fractal(rng, height, width, 0.12 * ppm)
    canvas[ground] = (leaves[..., None] * np.array((60, 120, 85), np.float32))[ground]
    bar = max(int(0.05 * ppm), 2)
    for x in (0, width // 2 - bar // 2, width - bar):
        canvas[:, x : x + bar] = (215, 220, 222)
    for y in (0, int(height * 0.38), height - bar):
        canvas[y : y + bar] = (205, 210, 212)
    return canvas
