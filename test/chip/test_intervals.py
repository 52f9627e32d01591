# SPDX-License-Identifier: Apache-2.0
"""Ranges against closed forms: a product of powers is log-linear in its constants."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drp_slam.chip import intervals
from drp_slam.chip.constant import Constant
from drp_slam.chip.constants import Constants, load_constants
from drp_slam.errors import DeviceError

RATE = Constant("a.rate", 4.0, "1/s", "assumed: x", 2.5, 10.0)
LOAD = Constant("a.load", 3.3, "1", "fitted: y", 3.0, 3.6)
CITED = Constant("a.clock", 5.0, "Hz", "a book", 5.0, 5.0)
CONSTANTS = Constants("toy", {c.key: c for c in (RATE, LOAD, CITED)})
KEYS = ["a.rate", "a.load"]


def seconds(constants: Constants) -> list[float]:
    return [constants["a.load"] / constants["a.rate"] ** 2, 1.0]


def test_only_what_has_an_interval_is_uncertain() -> None:
    assert intervals.uncertain(CONSTANTS, ["a."]) == KEYS
    assert intervals.uncertain(CONSTANTS, ["b."]) == []


def test_a_tornado_has_the_ends_of_each_interval_widest_first() -> None:
    rate, load = intervals.tornado(seconds, CONSTANTS, KEYS)
    assert (rate.key, load.key) == ("a.rate", "a.load")
    assert rate.factor(0) == pytest.approx((10 / 2.5) ** 2) and load.factor(0) == pytest.approx(3.6 / 3.0)
    assert rate.at_low[0] == pytest.approx(3.3 / 2.5**2) and rate.factor(1) == 1.0


def test_draws_are_log_uniform_repeatable_and_inside_the_intervals() -> None:
    drawn = intervals.monte_carlo(lambda c: [c["a.load"]], CONSTANTS, ["a.load"], 4000, seed=3)[:, 0]
    assert np.array_equal(drawn, intervals.monte_carlo(lambda c: [c["a.load"]], CONSTANTS, ["a.load"], 4000, 3)[:, 0])
    assert drawn.min() >= 3.0 and drawn.max() <= 3.6
    assert np.median(drawn) == pytest.approx(math.sqrt(3.0 * 3.6), rel=0.01)
    low, high = intervals.spread(drawn)
    assert low == pytest.approx(3.0 * 1.2**0.05, rel=0.005) and high == pytest.approx(3.0 * 1.2**0.95, rel=0.005)


def test_every_constant_of_a_device_has_an_interval_around_its_value() -> None:
    for device in ("rzv2h", "rzv2n"):
        constants = load_constants(device)
        assert all(c.low <= c.value <= c.high for c in constants.entries() if c.value >= 0)
        guessed = [c for c in constants.entries() if c.kind == "assumed" and c.key.startswith("drp.") and c.value > 0]
        assert guessed and all(c.low < c.high for c in guessed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drp: {clock: {value: 4, unit: Hz, source: x, range: [5, 6]}}", "drp.clock is 4, outside its range 5 to 6"),
        (
            "drp: {clock: {value: 4, unit: Hz, source: x, range: 6}}",
            "drp.clock has range 6 and factor None, expected low and high",
        ),
        ("ranges: {assumed: {factor: 0.5, reason: x}}", "factor of at least 1 and a reason"),
        ("ranges: {assumed: {factor: 2}}", "factor of at least 1 and a reason"),
    ],
)
def test_a_wrong_interval_is_one_line(tmp_path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(DeviceError, match=message):
        load_constants(str(tmp_path / "bad.yaml"))
