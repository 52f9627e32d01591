# SPDX-License-Identifier: Apache-2.0
"""The range of a figure if every constant may be anywhere in its stated interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.chip.constant import Constant
from drp_slam.chip.constants import Constants

FIXED = ("_offset", "_source", "_divider_low", "_divider_high")
"""Constants whose names end like this state a rule, not a quantity."""
WIDTHS = ("channels", "rows")
"""Units of constants that count lanes of the array, which are powers of two."""
PERCENTILES = (5.0, 95.0)
"""Percentiles of the draws that bound a range."""

Model = Callable[[Constants], Sequence[float]]
"""Constants -> the figures in question."""


@dataclass(frozen=True)
class Swing:
    """The figures (F,) with one constant at the low and at the high end of its interval, the others at their values."""

    key: str
    low: float
    high: float
    at_low: np.ndarray
    at_high: np.ndarray

    def factor(self, figure: int) -> float:
        """By how much this constant alone can change a figure, at least 1."""
        a, b = self.at_low[figure], self.at_high[figure]
        return float(max(a, b) / min(a, b))


def uncertain(constants: Constants, prefixes: Iterable[str]) -> list[str]:
    """Keys below `prefixes` whose interval is more than a point."""
    prefixes = tuple(prefixes)
    return [
        c.key
        for c in constants.entries()
        if c.low < c.high and c.key.startswith(prefixes) and not c.key.endswith(FIXED)
    ]


def tornado(model: Model, constants: Constants, keys: Iterable[str]) -> list[Swing]:
    """Swing of each constant, largest effect on the first figure first; without constants that have no effect."""
    middle, swings = np.asarray(model(constants), float), []
    for key in keys:
        c = constants.entry(key)
        low, high = (np.asarray(model(constants.replace({key: end})), float) for end in (c.low, c.high))
        if not (np.allclose(low, middle, rtol=1e-4) and np.allclose(high, middle, rtol=1e-4)):
            swings.append(Swing(key, c.low, c.high, low, high))
    return sorted(swings, key=lambda s: -s.factor(0))


def monte_carlo(model: Model, constants: Constants, keys: Sequence[str], draws: int, seed: int = 0) -> np.ndarray:
    """(draws, F) figures with all constants drawn at once, independently and log-uniformly from their intervals.

    The same seed gives the same draws. Integers stay integers, and the width of an array a power of two.
    """
    random = np.random.default_rng(seed)
    entries = [constants.entry(key) for key in keys]
    low, high = (np.log([getattr(c, end) for c in entries]) for end in ("low", "high"))
    figures = []
    for _ in range(draws):
        drawn = np.exp(random.uniform(low, high))
        values = {c.key: _possible(c, v) for c, v in zip(entries, drawn.tolist())}
        figures.append(model(constants.replace(values)))
    return np.asarray(figures, float).reshape(draws, -1)


def spread(figures: np.ndarray) -> tuple[float, float]:
    """The central 90 % range of the draws of one figure (draws,)."""
    low, high = np.percentile(figures, PERCENTILES)
    return float(low), float(high)


def _possible(c: Constant, drawn: float) -> float:
    """The possible value of the constant nearest to `drawn`."""
    if c.unit in WIDTHS:
        return 2.0 ** round(math.log2(drawn))
    whole = c.value == int(c.value) and 1 <= c.value <= 1024
    return round(drawn) if whole else drawn
