# SPDX-License-Identifier: Apache-2.0
"""Nearest stamps: against a search over everything that was sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drp_slam.nodes.pairing import TOLERANCE_NS, Stamped, Verdict

MS = 1_000_000


@given(st.lists(st.integers(0, 400), min_size=1, max_size=20, unique=True), st.integers(0, 400))
def test_final_answer_is_the_nearest_within_20_ms(stamps_ms, wanted_ms):
    store = Stamped(len(stamps_ms))
    for stamp in sorted(stamps_ms):
        store.add(stamp * MS, stamp)
    verdict, value = store.nearest(wanted_ms * MS, final=True)
    best = min(abs(s - wanted_ms) for s in stamps_ms)
    if best * MS <= TOLERANCE_NS:
        assert verdict is Verdict.FOUND and abs(value - wanted_ms) == best
    else:
        assert verdict is Verdict.NONE and value is None


def test_waits_only_while_a_nearer_one_may_come():
    store = Stamped(4)
    assert store.nearest(100 * MS) == (Verdict.WAIT, None)
    store.add(90 * MS, "early")
    assert store.nearest(100 * MS) == (Verdict.WAIT, None)
    assert store.nearest(90 * MS) == (Verdict.FOUND, "early")
    store.add(104 * MS, "late")
    assert store.nearest(100 * MS) == (Verdict.FOUND, "late")
    assert store.nearest(100 * MS, final=True) == (Verdict.FOUND, "late")
    store.add(300 * MS, "far")
    assert store.nearest(200 * MS) == (Verdict.NONE, None)


def test_what_came_before_a_used_value_is_dropped_also_where_the_clock_went_back():
    store = Stamped(8)
    for stamp, value in ((100, "a"), (200, "b"), (300, "c"), (10, "d")):
        store.add(stamp, value)
    store.forget_before("b")
    assert store.nearest_stamp(190) == 200 and store.exact(10) == "d"  # "d" is of the clock's new time
    store.drop("b")
    assert store.nearest_stamp(150) == 10 and store.exact(300) == "c"


def test_the_oldest_is_dropped_first():
    store = Stamped(2)
    for i in range(3):
        store.add(i, i)
    assert store.exact(0) is None and store.exact(2) == 2
