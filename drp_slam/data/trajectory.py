# SPDX-License-Identifier: Apache-2.0
"""Trajectories: files in TUM's format, association by stamp.

A line of a file is `t tx ty tz qx qy qz qw`, with t in seconds. Stamps are read and written as
decimal text, never as floats, so integer nanoseconds survive exactly.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import numpy as np

from drp_slam import geometry
from drp_slam.atomic import write_text
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.resources import read_text

HEADER = "# timestamp tx ty tz qx qy qz qw\n"
MAX_DIFFERENCE_S = 0.02
"""Largest difference of associated stamps."""


def read_tum(path: str | Path) -> Trajectory:
    """Reads a trajectory. Raises DataError naming file and line; stamps must increase."""
    path = Path(path)
    lines = read_text(path, DataError).splitlines()
    stamps: list[int] = []
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#"):
            continue
        where = f"{path}: line {number}"
        if len(fields) != 8:
            raise DataError(f"{where} has {len(fields)} fields, expected 8: t tx ty tz qx qy qz qw")
        stamps.append(parse_stamp(fields[0], where))
        if len(stamps) > 1 and stamps[-1] <= stamps[-2]:
            raise DataError(
                f"{where}: stamp {fields[0]} does not increase; sort the file by its first column (sort -n -u -k1,1)"
            )
        try:
            rows.append([float(field) for field in fields[1:]])
        except ValueError as error:
            raise DataError(f"{where}: {error}; expected t tx ty tz qx qy qz qw") from error
        if not np.all(np.isfinite(rows[-1])) or abs(np.linalg.norm(rows[-1][3:]) - 1.0) > 0.01:
            raise DataError(
                f"{where}: not a pose; all fields must be finite and the quaternion of length 1 within 0.01"
            )
    table = np.array(rows).reshape(-1, 7)
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, :3] = geometry.rotation(table[:, 3:])
    poses[:, :3, 3] = table[:, :3]
    return Trajectory(np.array(stamps, np.int64), poses)


def write_tum(path: str | Path, trajectory: Trajectory) -> None:
    """Writes a trajectory with full precision, through a temporary name."""
    write_text(Path(path), HEADER + lines(trajectory), DataError)


def lines(trajectory: Trajectory) -> str:
    """The poses as lines of TUM's format, with full precision."""
    values = np.hstack([trajectory.positions_m, geometry.quaternion(trajectory.T_world_camera[:, :3, :3])])
    return "".join(
        f"{format_stamp(stamp_ns)} {' '.join(map(repr, row))}\n"
        for stamp_ns, row in zip(trajectory.stamps_ns.tolist(), values.tolist(), strict=True)
    )


def parse_stamp(text: str, where: str) -> int:
    """Seconds as decimal text -> nanoseconds. `where` (file and line) goes into the DataError."""
    try:
        seconds = Decimal(text)
        if (
            not seconds.is_finite() or seconds.adjusted() > 10
        ):  # a number such as 1e999990 would expand to a million digits
            raise OverflowError
        stamp_ns = int(seconds.scaleb(9).to_integral_value(ROUND_HALF_EVEN))
        if not -(2**63) <= stamp_ns < 2**63:
            raise OverflowError
    except (ArithmeticError, ValueError) as error:
        raise DataError(f"{where}: {text!r} is not a stamp in seconds") from error
    return stamp_ns


def format_stamp(stamp_ns: int) -> str:
    """Nanoseconds -> seconds with nine digits, exact."""
    seconds, fraction = divmod(abs(stamp_ns), 10**9)
    return f"{'-' if stamp_ns < 0 else ''}{seconds}.{fraction:09d}"


def associate(
    stamps_a: np.ndarray, stamps_b: np.ndarray, max_difference_s: float = MAX_DIFFERENCE_S
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs nearest stamps (int64 ns, increasing), each used once, closest pairs first.

    Returns two equally long index arrays, increasing. The greedy rule is that of TUM's
    `associate.py`; only the two neighbours in b of each stamp in a can be its partner.
    """
    a, b = np.asarray(stamps_a, np.int64), np.asarray(stamps_b, np.int64)
    if not len(a) or not len(b):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    upper = np.searchsorted(b, a)
    ia = np.repeat(np.arange(len(a)), 2)
    ib = np.stack([upper - 1, upper], axis=1).ravel()
    inside = (ib >= 0) & (ib < len(b))
    ia, ib = ia[inside], ib[inside]
    difference = np.abs(a[ia] - b[ib])
    near = difference <= round(max_difference_s * 1e9)
    ia, ib, difference = ia[near], ib[near], difference[near]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    order = np.lexsort((ib, ia, difference))
    for i, j in zip(ia[order].tolist(), ib[order].tolist(), strict=True):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    pairs = np.array(sorted(partner.items()), np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def interpolated(truth: Trajectory, stamps_ns: np.ndarray) -> np.ndarray:
    """(N, 4, 4) poses at `stamps_ns`, linear and slerp-like between neighbours; NaN outside, and
    between neighbours that lie more than 0.1 s apart."""
    after = np.clip(np.searchsorted(truth.stamps_ns, stamps_ns), 1, len(truth) - 1)
    before = after - 1
    span = (truth.stamps_ns[after] - truth.stamps_ns[before]).astype(np.float64)
    part = (stamps_ns - truth.stamps_ns[before]) / span
    q = geometry.quaternion(truth.T_world_camera[:, :3, :3])
    q0, q1 = q[before], q[after]
    q1 = np.where((q0 * q1).sum(1, keepdims=True) < 0, -q1, q1)
    mixed = q0 + part[:, None] * (q1 - q0)
    poses = np.tile(np.eye(4), (len(stamps_ns), 1, 1))
    poses[:, :3, :3] = geometry.rotation(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
    p = truth.positions_m
    poses[:, :3, 3] = p[before] + part[:, None] * (p[after] - p[before])
    poses[(part < 0) | (part > 1) | ((span > 1e8) & (part > 0) & (part < 1))] = np.nan
    return poses
