# SPDX-License-Identifier: Apache-2.0
"""The tracker's loops, compiled (`native/`): one call instead of hundreds of numpy calls. numpy is the fallback.

On a small core, every numpy call costs its dispatch time, whatever the size of the array. `native` is None where the
package was installed without a compiler, or with `DRP_SLAM_KERNELS=numpy` in the environment: the poses are then the
same up to rounding, at half the speed.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from drp_slam.errors import SlamError

HERE = Path(__file__).with_name("native")


def is_current(built: ModuleType, folder: Path = HERE) -> bool:
    """Whether an extension was built from the sources beside it; an installed package has none, and cannot be stale."""
    files = sorted(folder.glob("*.[ch]"))
    return not files or getattr(built, "sources", "") == sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


native: ModuleType | None = None
if os.environ.get("DRP_SLAM_KERNELS") != "numpy":
    try:
        from drp_slam.slam import _native

        native = _native
    except ImportError:
        pass
    if native is not None and not is_current(native):
        raise SlamError(
            "the tracker's compiled loops are older than their sources; build them again (make, or pip install -e .), "
            "or set DRP_SLAM_KERNELS=numpy to do without"
        )

NO_ONES, NO_MARKS, NO_NUMBERS = np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.intp)
"""Arguments that are left out."""


def plain(array: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """The array itself if it is C-ordered and of this type, as the kernels require; else a converted copy."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array, dtype)


def median(x: np.ndarray) -> float:
    """The median of (N,) numbers, NaN of none."""
    if native is not None:
        return native.median(plain(x))
    return float(np.median(x)) if len(x) else float("nan")
