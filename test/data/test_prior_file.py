# SPDX-License-Identifier: Apache-2.0
"""Files of a prior: three forms, told apart by their columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drp_slam.data.prior_file import read_prior
from drp_slam.errors import DataError
from drp_slam.slam.prior_source import prior_of

ROWS = {
    "poses": "1.0 0 0 0 0 0 0 1\n1.1 0.1 0 0 0 0 0 1\n",
    "orientations": "1.0 0 0 0 1\n1.1 0 0 0.0998334166 0.9950041653\n",
    "rates": "stamp,wx,wy,wz\n1.0,0,0,2\n1.1,0,0,2\n",
}


@pytest.mark.parametrize("form", ROWS)
def test_every_form_gives_its_motion(tmp_path: Path, form: str) -> None:
    path = tmp_path / "prior.txt"
    path.write_text("# made by a robot\n" + ROWS[form])
    prior, told = prior_of(*read_prior(path), np.eye(4))
    motion = prior.motion(1_000_000_000, 1_100_000_000)
    assert motion is not None and not told and motion.translates == (form == "poses")
    if form == "poses":
        np.testing.assert_allclose(motion.T_from_to[:3, 3], (0.1, 0, 0), atol=1e-12)
    else:
        np.testing.assert_allclose(motion.T_from_to[1, 0], np.sin(0.2), atol=1e-9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.0 0 0 0 0 0 0 1\n1.1 0 0 0 1\n", "line 2 has 5 fields"),
        ("1.0 2.0\n", "line 1 has 2 fields"),
        ("1.0 0 0 x\n", "line 1: could not"),
        ("# nothing\n", "no row"),
    ],
)
def test_a_file_that_is_not_a_prior_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prior.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as refused:
        read_prior(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)


def test_rows_that_are_no_pose_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "prior.txt"
    path.write_text(ROWS["poses"] + "1.05 0 0 0 0 0 0 1\n1.2 nan 0 0 0 0 0 1\n1.3 0 0 0 0 0 0 5\n")
    prior, told = prior_of(*read_prior(path), np.eye(4))
    assert len(told) == 3 and prior.streams[0].refused == 3 and prior.streams[0].last_ns == 1_100_000_000
