# SPDX-License-Identifier: Apache-2.0
"""Influence of each constant on a modelled time, and its shares by cited, fitted and assumed constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drp_slam.chip.constants import Constants

KINDS = ("cited", "fitted", "assumed")
STEP = 0.01
"""Relative change of a constant for the difference quotient."""
CAPACITIES = ("B", "share")
"""Units of capacities: the model changes in steps, when something no longer fits."""


def elasticities(model: Callable[[Constants], float], constants: Constants, keys: Iterable[str]) -> dict[str, float]:
    """Relative change of the model's value for a relative change of each constant: |d ln model / d ln constant|.

    Central difference over 1 %. Capacities, which act in steps, and whole numbers are halved and
    doubled instead; 1 is only doubled. Keys without influence are left out.
    """

    def slope(key: str, down: float, up: float) -> float:
        low, high = (model(constants.replace({key: constants[key] * factor})) for factor in (down, up))
        return abs(math.log(high / low)) / math.log(up / down)

    found: dict[str, float] = {}
    for key in keys if model(constants) > 0 else ():
        value = constants[key]
        whole = value == int(value) and 1 <= value <= 1024
        coarse = whole or constants.entry(key).unit in CAPACITIES
        influence = slope(key, 1.0 if value == 1 else 0.5, 2.0) if coarse else slope(key, 1 / (1 + STEP), 1 + STEP)
        if influence > 1e-6:
            found[key] = influence
    return found


def shares(influence: Mapping[str, float], constants: Constants) -> dict[str, float]:
    """Share of the total influence by kind of source; the shares add up to 1 (or all are 0)."""
    total = sum(influence.values())
    by_kind = dict.fromkeys(KINDS, 0.0)
    for key, value in influence.items():
        by_kind[constants.entry(key).kind] += value / total
    return by_kind


def summary(stages: Mapping[str, tuple[float, Mapping[str, float]]], constants: Constants) -> dict[str, Any]:
    """`stages` has for each stage its modelled time and the influences on it.

    Returns `share` by kind of source, weighted by time, `stages` with the same of each, and
    `constants`: every constant of the device with unit, source, kind and weighted influence.
    """
    total_s = sum(seconds for seconds, _ in stages.values()) or 1.0
    weighted: dict[str, float] = {}
    for seconds, influence in stages.values():
        for key, value in influence.items():
            weighted[key] = weighted.get(key, 0.0) + value * seconds / total_s
    return {
        "share": shares(weighted, constants),
        "stages": {name: shares(influence, constants) for name, (_, influence) in stages.items()},
        "constants": listing(constants, weighted),
    }


def listing(constants: Constants, influence: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Every constant with value, unit, kind, source; the most influential first."""
    rows = [
        {
            "key": c.key,
            "value": c.value,
            "unit": c.unit,
            "kind": c.kind,
            "source": c.source,
            "influence": None if influence is None else influence.get(c.key, 0.0),
        }
        for c in constants.entries()
    ]
    return rows if influence is None else sorted(rows, key=lambda r: -r["influence"])
