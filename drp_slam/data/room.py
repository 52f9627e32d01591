# SPDX-License-Identifier: Apache-2.0
"""The synthetic room: everything in it is a rectangle in space with a texture.

World: z up, metres, origin in the middle of the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.data import textures as tx
from drp_slam.data.textures import Material

SIZE_M = (6.0, 5.0, 2.7)


@dataclass(frozen=True)
class Rectangle:
    """Corner `origin` (3,), unit directions `right` and `down` (3,), size and texture.

    Seen from its front, the texture's x runs along `right` and y along `down`; the normal that
    points to the viewer is `down x right`. `solid` is False for surfaces without depth
    (glass, a monitor).
    """

    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    width_m: float
    height_m: float
    material: Material
    texels_per_m: float = 300.0
    solid: bool = True

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.down, self.right)

    @property
    def corners(self) -> np.ndarray:
        """(4, 3)."""
        a, b = self.right * self.width_m, self.down * self.height_m
        return self.origin + np.array([0 * a, a, a + b, b])


def box(
    centre: tuple[float, float],
    base_m: float,
    size: tuple[float, float, float],
    turn_deg: float,
    side: Material,
    top: Material | None = None,
    front: Material | None = None,
    front_solid: bool = True,
) -> list[Rectangle]:
    """Five sides of a box on `base_m`; size is along its own x, y and z.

    `front` is the side at +x before turning.
    """
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    ex, ey, ez = np.array([c, s, 0.0]), np.array([-s, c, 0.0]), np.array([0.0, 0.0, 1.0])
    lx, ly, lz = size
    foot = np.array([*centre, base_m])
    sides = []
    for out, right, depth_m, wide_m, material in (
        (ex, ey, lx, ly, front or side),
        (ey, -ex, ly, lx, side),
        (-ex, -ey, lx, ly, side),
        (-ey, ex, ly, lx, side),
    ):
        origin = foot + out * depth_m / 2 - right * wide_m / 2 + ez * lz
        solid = front_solid or front is None or material is not front
        sides.append(Rectangle(origin, right, -ez, wide_m, lz, material, 360.0, solid))
    origin = foot + ez * lz - ey * ly / 2 - ex * lx / 2
    sides.append(Rectangle(origin, ey, ex, ly, lx, top or side, 360.0))
    return sides


def on_wall(
    wall: str,
    along_m: float,
    top_m: float,
    width_m: float,
    height_m: float,
    material: Material,
    gap_m: float = 0.012,
    solid: bool = True,
    texels_per_m: float = 360.0,
) -> Rectangle:
    """A rectangle on the inner side of a wall (`+x -x +y -y`), centred at `along_m`."""
    sign, axis = (1.0 if wall[0] == "+" else -1.0), "xy".index(wall[1])
    normal = np.zeros(3)
    normal[axis] = -sign
    right = np.cross(normal, [0.0, 0.0, -1.0])
    origin = -normal * (SIZE_M[axis] / 2 - gap_m) - right * width_m / 2
    origin[1 - axis] += along_m
    origin[2] = top_m
    down = np.array([0.0, 0.0, -1.0])
    return Rectangle(origin, right, down, width_m, height_m, material, texels_per_m, solid)


def furnish(rng: np.random.Generator) -> list[Rectangle]:
    """The room with its furniture; the generator varies sizes and places slightly."""
    lx, ly, lz = SIZE_M
    x, y = np.eye(3)[:2]
    paint, oak, pine = (tx.plain((196, 204, 208), 0.012, marks_per_m2=5.0), (70, 110, 160), (120, 170, 205))
    wall = {"+x": tx.wallpaper, "+y": tx.brick, "-x": paint, "-y": tx.wallpaper}
    room = [
        Rectangle(np.array([-lx / 2, ly / 2, 0]), x, -y, lx, ly, tx.wood(oak), 300.0),
        Rectangle(np.array([-lx / 2, -ly / 2, lz]), x, y, lx, ly, tx.plain((215, 218, 220), 0.02), 150.0),
    ]
    for side, material in wall.items():
        wide = ly if side[1] == "x" else lx
        room.append(on_wall(side, 0.0, lz, wide, lz, material, 0.0, texels_per_m=300.0))
    room.append(Rectangle(np.array([-1.1, 0.9, 0.008]), x, -y, 2.4, 1.7, tx.rug))

    def near(value: float, spread: float = 0.06) -> float:
        return value + float(rng.uniform(-spread, spread))

    # +x: desk with monitor, cartons and pictures above
    room += box((2.55, near(0.2)), 0.70, (0.75, 1.7, 0.04), 0, tx.wood(pine), tx.wood(pine))
    for dy in (-0.75, 0.95):
        room += box((2.6, dy), 0, (0.6, 0.06, 0.70), 0, tx.wood(oak))
    room += box(
        (2.72, near(0.25)),
        0.80,
        (0.05, 0.62, 0.38),
        near(180, 8),
        tx.plain((25, 25, 25), 0.05),
        front=tx.screen,
        front_solid=False,
    )
    room += box((2.45, near(-0.35)), 0.74, (0.24, 0.3, 0.2), near(25, 15), tx.carton)
    room += box((2.5, near(0.85)), 0.74, (0.18, 0.16, 0.26), near(-30, 15), tx.poster)
    room += box((2.35, near(0.3)), 0.74, (0.16, 0.44, 0.02), near(0, 5), tx.books, tx.books)
    room += [
        on_wall("+x", near(-1.5), 2.1, 0.7, 1.0, tx.poster),
        on_wall("+x", near(0.3), 2.2, 1.1, 0.7, tx.poster),
        on_wall("+x", near(1.7), 2.0, 0.6, 0.8, tx.poster),
    ]
    # +y: shelf of books, pictures on brick, cartons
    room += box((near(-0.9), 2.3), 0, (0.32, 1.5, 2.05), -90, tx.wood(pine), front=tx.books)
    room += box((near(0.55), 2.2), 0, (0.5, 0.6, 0.45), near(-80, 12), tx.carton)
    room += box((near(0.6), 2.22), 0.45, (0.35, 0.4, 0.3), near(-100, 12), tx.carton)
    room += [on_wall("+y", near(0.7), 2.1, 0.9, 0.7, tx.poster), on_wall("+y", near(1.9), 1.9, 0.6, 0.9, tx.poster)]
    # -x: the bare wall, a low cupboard at its end
    room += box((-2.75, near(-1.75)), 0, (0.45, 1.1, 0.8), 0, tx.wood(pine), front=tx.cupboard)
    room += box((-2.7, near(-1.7)), 0.8, (0.2, 0.25, 0.3), near(20, 20), tx.poster)
    room.append(on_wall("-x", near(2.0), 1.9, 0.45, 0.6, tx.poster))
    # -y: sofa, window, picture
    room += box((near(0.3), -2.05), 0, (0.85, 1.9, 0.42), 90, tx.cloth((90, 70, 120)))
    room += box((near(0.3), -2.38), 0.42, (0.2, 1.9, 0.45), 90, tx.cloth((85, 65, 110)))
    for dx in (-0.45, 0.4, 0.85):
        room += box((near(dx), -2.12), 0.42, (0.14, 0.4, 0.36), near(95, 12), tx.rug)
    room += [
        on_wall("-y", near(-1.6), 2.2, 1.2, 1.2, tx.window, solid=False),
        on_wall("-y", near(0.6), 2.2, 1.3, 0.8, tx.poster),
        on_wall("-y", near(2.2), 2.2, 0.7, 0.95, tx.poster),
    ]
    # on the floor: a low table with things, a stool
    room += box((near(0.15), near(0.1)), 0.36, (0.6, 0.9, 0.04), near(12, 8), tx.wood(oak), tx.wood(oak))
    room += box((near(0.15), near(0.1)), 0, (0.4, 0.6, 0.36), near(12, 8), tx.cupboard)
    room += box((near(0.1), near(0.25)), 0.40, (0.2, 0.28, 0.05), near(40, 20), tx.books, tx.poster)
    room += box((near(0.2), near(-0.15)), 0.40, (0.14, 0.14, 0.18), near(10, 20), tx.carton)
    room += box((near(1.3), near(-0.9)), 0, (0.38, 0.38, 0.45), near(30, 15), tx.cloth((60, 120, 130)))
    return room
