# SPDX-License-Identifier: Apache-2.0
"""Files with the motion of a body: poses, orientations or angular velocities by stamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drp_slam.data.trajectory import parse_stamp
from drp_slam.errors import DataError
from drp_slam.resources import read_text

FORMS = {8: "t tx ty tz qx qy qz qw", 5: "t qx qy qz qw", 4: "t wx wy wz"}
"""Columns by the number of them."""


def read_prior(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stamps (N,) int64 in ns and rows (N, 7), (N, 4) or (N, 3) float64, in the file's order, unchecked.

    Columns are separated by blanks or commas; lines that begin with # and a first line of names are skipped.
    Raises DataError that names file and line for a row of another length than the first, or with non-numeric fields.
    """
    stamps: list[int] = []
    rows: list[list[float]] = []
    width = 0
    for number, line in enumerate(read_text(path, DataError).splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#") or (not rows and not width and fields[0][0].isalpha()):
            continue
        where = f"{path}: line {number}"
        width = width or len(fields)
        if len(fields) != width or width not in FORMS:
            forms = "; ".join(FORMS.values()) if width not in FORMS else FORMS[width]
            raise DataError(f"{where} has {len(fields)} fields, expected: {forms}")
        try:
            rows.append([float(field) for field in fields[1:]])
        except ValueError as error:
            raise DataError(f"{where}: {error}; expected {FORMS[width]}") from error
        stamps.append(parse_stamp(fields[0], where))
    if not rows:
        raise DataError(f"{path}: no row of a prior; expected {'; '.join(FORMS.values())}")
    return np.array(stamps, np.int64), np.array(rows)
