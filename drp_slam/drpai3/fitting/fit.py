# SPDX-License-Identifier: Apache-2.0
"""Fits the timing constants to published board latencies, cross-validated by family.

Robust least squares on the logarithm of the latency, with the published figure's rounding as part
of its uncertainty and a wide prior (a factor e) around plain starting values. Placement rules with
`choices` are chosen greedily, separately in every training fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import placement
from drp_slam.drpai3.fitting.batch import FEATURE_SHARE, Batch, Rows, batch, predict
from drp_slam.drpai3.fitting.corpus import Sample

Priors: TypeAlias = Mapping[str, tuple[float, float, float, float]]
START: Priors = {
    "drpai3.inference_overhead": (3e-4, 1e-6, 2e-3, 0.5),
    "drpai3.array_efficiency": (0.8, 0.1, 1.0, 0.1),
    "drpai3.weight_bandwidth": (9e9, 1e9, 2.56e10, 0.15),
    "drpai3.feature_bandwidth": (9e9, 2e9, 2.56e10, 0.1),
    "drpai3.exposed_share": (0.2, 0.01, 1.0, 0.5),
    "drpai3.layer_overhead": (1.5e-6, 1e-7, 1e-4, 0.3),
    "drpai3.wide_overhead": (2e-5, 1e-7, 1e-3, 1.0),
    "drpai3.add_overhead": (2e-6, 1e-7, 1e-4, 0.1),
    "drpai3.drp_op_overhead": (1e-4, 1e-6, 5e-4, 0.5),
    "drpai3.drp_element_rate": (8e8, 2e8, 1e11, 0.3),
    "drpai3.pool_overhead": (4.5e-5, 1e-6, 5e-4, 0.3),
    "drpai3.pool_tap_rate": (3.5e11, 5e8, 1e12, 0.3),
    "drpai3.average_tap_rate": (1e10, 5e8, 1e12, 1.0),
    "drpai3.result_overhead": (1.2e-4, 1e-6, 3e-3, 0.3),
    "drpai3.result_rate": (1e9, 2e7, 5e9, 0.5),
    "fallback.crossing_overhead": (2e-4, 1e-6, 3e-3, 1.0),
    "fallback.crossing_rate": (2.5e8, 2e7, 5e9, 1.0),
    "fallback.op_overhead": (1e-4, 1e-6, 3e-3, 1.0),
    "fallback.element_rate": (5e8, 2e7, 1e10, 1.0),
    "fallback.mac_rate": (2.5e9, 2e8, 1e11, 1.0),
    "fallback.curve_rate": (1.5e8, 5e6, 1e10, 1.0),
}
"""Constant -> start and prior, minimum, maximum, and width of the prior in natural logarithms.

A narrow prior represents a figure from the translator's table or the board (docs/drpai3.md).
"""
STARTS_FOR = "rzv2h"
"""Device to which the priors of START apply."""
ROUNDING = 0.29
"""Standard deviation of a uniform rounding error, in units of the last digit."""
TRIAL_STEPS = 3
"""Least-squares steps from the current constants when a rule is tried."""
BETTER = 0.01
"""A rule changes only if that lowers the training cost by this fraction."""


def priors_of(c: Constants) -> dict[str, tuple[float, float, float, float]]:
    """Priors for a chip without a table: wide, around the values of its device file; shares stay below 1."""
    most = {name: 1.0 if c.entry(name).unit == "1" else 100 * c[name] for name in START}
    return {name: (c[name], c[name] / 100, most[name], 1.0) for name in START}


def fit_constants(
    b: Batch, c: Constants, start: np.ndarray | None = None, steps: int = 40, priors: Priors = START
) -> tuple[np.ndarray, float]:
    """Logarithms of the constants in the order of `priors`, and the cost."""
    table = np.array(list(priors.values()))
    (prior, low, high), width = np.log(table[:, :3]).T, table[:, 3]
    sigma = np.sqrt(b.error**2 + (ROUNDING * b.precision_s / b.published_s) ** 2)
    mac_hz = c["drpai3.mac_clock"]

    def residuals(x: np.ndarray) -> np.ndarray:
        values = [{**c, **dict(zip(START, np.exp(row)))} for row in x]
        r = np.log(predict(b, values, mac_hz) / b.published_s) / sigma
        robust = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + r * r) - 1))
        return np.concatenate([robust, (x - prior) / width], 1)

    return least_squares(residuals, prior if start is None else start, low, high, steps)


def least_squares(
    residuals: Callable[[np.ndarray], np.ndarray], x: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int = 40
) -> tuple[np.ndarray, float]:
    """Levenberg-Marquardt with bounds and numerical derivatives; returns the point and its cost.

    `residuals` takes points (P, K), all at once, and returns (P, M).
    """
    x, damping = np.clip(x, low, high), 1e-2
    (r,) = residuals(x[None])
    cost = float(r @ r)
    for _ in range(steps):
        jacobian = (residuals(x + 1e-4 * np.eye(len(x))) - r).T / 1e-4
        normal, slope = jacobian.T @ jacobian, jacobian.T @ r
        before = cost
        for _ in range(8):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -slope)
            trial = np.clip(x + np.clip(step, -1, 1), low, high)
            (attempt,) = residuals(trial[None])
            if attempt @ attempt < cost:
                x, r, cost, damping = trial, attempt, float(attempt @ attempt), damping / 3
                break
            damping *= 4
        if before - cost < 1e-5 * before:
            break
    return x, cost


def alternatives(samples: Sequence[Sample]) -> dict[str, tuple[float, ...]]:
    """Discrete choices of the fit: units of open rules that a sample needs, and the share of the feature
    buffer that holds tensors, in eighths."""
    present = {tag for sample in samples for tag in sample.tags} | placement.MIXED
    rules = {rule.tag: tuple(map(float, rule.choices)) for rule in placement.RULES if rule.choices}
    return {FEATURE_SHARE: (1.0, 0.875, 0.75)} | {tag: units for tag, units in rules.items() if tag in present}


def choose(
    samples: Sequence[Sample], c: Constants, rows: Rows | None, priors: Priors = START
) -> tuple[dict[str, float], np.ndarray]:
    """Rules and constants of a training set.

    Starts with the first choice of each rule, which keeps most on the accelerator, and changes one
    rule after the other if that lowers the training cost, until a complete pass changes nothing. A
    rule that no training network needs keeps the device file's choice, else its first.
    """
    open_rules, own = alternatives(samples), placement.chosen_of(c)
    chosen = {r.tag: float(r.choices[0]) for r in placement.RULES if r.choices} | {FEATURE_SHARE: 1.0}
    chosen |= {tag: float(unit) for tag, unit in own.items() if tag not in open_rules}
    x, cost = fit_constants(batch(samples, chosen, c, rows), c, steps=20, priors=priors)
    changed = True
    while changed:
        changed = False
        for tag, choice in ((t, u) for t, units in open_rules.items() for u in units):
            if choice == chosen[tag]:
                continue
            trial = {**chosen, tag: choice}
            y, lower = fit_constants(batch(samples, trial, c, rows), c, x, TRIAL_STEPS, priors)
            if lower < cost * (1 - BETTER):
                chosen, x, cost, changed = trial, y, lower, True
    last = batch(samples, chosen, c, rows)
    ends = [fit_constants(last, c, start, priors=priors) for start in (x, None)]
    return chosen, min(ends, key=lambda end: end[1])[0]


def folds(samples: Sequence[Sample], count: int = 5) -> np.ndarray:
    """(samples,) fold numbers: families are not split, the largest goes first into the emptiest fold."""
    sizes = Counter(sample.published.family for sample in samples)
    load, of = [0] * count, {}
    for family in sorted(sizes, key=lambda name: (-sizes[name], name)):
        of[family] = int(np.argmin(load))
        load[of[family]] += sizes[family]
    return np.array([of[sample.published.family] for sample in samples])


@dataclass(frozen=True)
class Fit:
    """Constants and rules fitted to all samples, and each sample's prediction when held out.

    In `predicted_s` and `held_out_s` the times of the rows follow those of the samples.
    """

    constants: Mapping[str, float]
    chosen: Mapping[str, float]
    predicted_s: np.ndarray
    held_out_s: np.ndarray
    mapped: np.ndarray
    fold_of: np.ndarray
    chosen_in_folds: tuple[Mapping[str, float], ...]


def fit(
    samples: Sequence[Sample],
    c: Constants,
    rows: Rows | None = None,
    progress: Callable[[str], None] = lambda text: None,
    priors: Priors = START,
) -> Fit:
    """Fits all samples, then each fold's families from the others alone.

    The table's rows are excluded from a fold that predicts their network's family.
    """
    mac_hz = c["drpai3.mac_clock"]
    progress("all samples")
    chosen, x = choose(samples, c, rows, priors)
    values = {**dict(c), **dict(zip(START, np.exp(x)))}
    whole = batch(samples, chosen, c, rows)
    fold_of, rules = folds(samples), []
    held_out = np.zeros(len(whole.published_s))
    for k in range(int(fold_of.max()) + 1):
        progress(f"fold {k + 1}")
        train = [s for s, f in zip(samples, fold_of) if f != k]
        out = {s.published.family for s, f in zip(samples, fold_of) if f == k}
        tested = rows is not None and rows.sample.published.family in out
        its_rules, y = choose(train, c, None if tested else rows, priors)
        its_values = {**dict(c), **dict(zip(START, np.exp(y)))}
        (predicted,) = predict(batch(samples, its_rules, c, rows), [its_values], mac_hz)
        which = np.concatenate([fold_of == k, np.full(len(held_out) - len(samples), tested)])
        held_out[which] = predicted[which]
        rules.append(its_rules)
    return Fit(
        {name: float(np.exp(v)) for name, v in zip(START, x)} | {FEATURE_SHARE: chosen[FEATURE_SHARE]},
        chosen,
        predict(whole, [values], mac_hz)[0],
        held_out,
        whole.mapped,
        fold_of,
        tuple(rules),
    )
