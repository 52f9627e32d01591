# SPDX-License-Identifier: Apache-2.0
"""Fits the timing constants to published board latencies, cross-validated by family.

Robust least squares on the logarithm of the latency, with the published figure's rounding as part
of its uncertainty and a wide prior (a factor e) around plain starting values. Placement rules with
`choices` are chosen greedily, inside every training fold anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import placement, timing
from drp_slam.drpai3.fitting.corpus import Sample

START: Mapping[str, tuple[float, float, float]] = {
    "drpai3.inference_overhead": (2e-4, 1e-6, 2e-3),
    "drpai3.array_efficiency": (0.6, 0.1, 1.0),
    "drpai3.weight_bandwidth": (1e10, 1e9, 2.56e10),
    "drpai3.buffer": (1e6, 2e5, 4e6),
    "drpai3.layer_overhead": (4e-6, 1e-7, 1e-4),
    "drpai3.spill_bandwidth": (5e9, 2e9, 2.56e10),
    "drpai3.drp_op_overhead": (9e-5, 1e-6, 5e-4),
    "drpai3.drp_element_rate": (2e9, 2e8, 1e11),
    "drpai3.pool_tap_rate": (1e10, 5e8, 1e11),
    "drpai3.average_tap_rate": (1e10, 5e8, 1e11),
    "fallback.crossing_overhead": (2e-4, 1e-6, 3e-3),
    "fallback.crossing_rate": (2.5e8, 2e7, 5e9),
    "fallback.op_overhead": (1e-4, 1e-6, 3e-3),
    "fallback.element_rate": (5e8, 2e7, 1e10),
    "fallback.mac_rate": (2.5e9, 2e8, 1e11),
}
"""Constant -> (start and prior, least, most)."""
PRIOR = 1.0
"""Standard deviation of the prior, in natural logarithms."""
MODEL_ERROR = 0.06
"""Error of the model that the weights suppose, relative."""
ROUNDING = 0.29
"""Standard deviation of a uniform rounding error, in units of the last digit."""
TRIAL_STEPS = 6
"""Steps of least squares from the present constants when a rule is tried."""
BETTER = 0.01
"""A rule changes only if that lowers the training cost by this part."""


@dataclass(frozen=True)
class Batch:
    """Many samples as one set of arrays under one choice of rules; equal layers are merged."""

    table: timing.Table
    units: np.ndarray
    count: np.ndarray
    owner: np.ndarray
    crossings: np.ndarray
    crossed: np.ndarray
    mapped: np.ndarray
    published_s: np.ndarray
    precision_s: np.ndarray


def batch(samples: Sequence[Sample], chosen: Mapping[str, int]) -> Batch:
    """Places the samples and flattens them."""
    tables, all_units, owner, crossed, mapped = [], [], [], [], []
    for n, sample in enumerate(samples):
        release = sample.published.release
        unit = placement.units(sample.tags, sample.layers, sample.wires, release, chosen)
        cpu = placement.on_cpu(unit, sample.layers, sample.wires)
        found = placement.crossings(cpu, sample.wires, sample.sizes)
        crossed.append((len(found), sum(c.elements for c in found)))
        mapped.append(not cpu.any())
        tables.append(sample.table)
        all_units.append(unit)
        owner.append(np.full(len(unit), n))
    whole, units, owners = timing.join(tables), np.concatenate(all_units), np.concatenate(owner)
    names = list(whole.__dataclass_fields__)
    busy = units != placement.FUSED
    columns = [getattr(whole, name)[busy] for name in names]
    stacked, count = np.unique(np.stack([*columns, units[busy], owners[busy]], 1), axis=0, return_counts=True)
    merged = timing.Table(**{name: stacked[:, n] for n, name in enumerate(names)})
    pairs = np.array(crossed, np.float64)
    return Batch(
        merged,
        stacked[:, -2].astype(np.int8),
        count,
        stacked[:, -1].astype(np.int64),
        pairs[:, 0],
        pairs[:, 1],
        np.array(mapped),
        np.array([s.published.latency_s for s in samples]),
        np.array([s.published.precision_s for s in samples]),
    )


def predict(b: Batch, c: Mapping[str, float], mac_hz: float) -> np.ndarray:
    """(samples,) modelled seconds."""
    layer_s = timing.layer_seconds(b.table, b.units, c, mac_hz).total * b.count
    return (
        np.bincount(b.owner, layer_s, len(b.published_s))
        + c["drpai3.inference_overhead"]
        + timing.crossing_seconds(b.crossings, b.crossed, c)
    )


def fit_constants(b: Batch, c: Constants, start: np.ndarray | None = None, steps: int = 40) -> tuple[np.ndarray, float]:
    """Logarithms of the constants in the order of START, and the cost."""
    prior, low, high = np.log(np.array(list(START.values()))).T
    sigma = np.sqrt(MODEL_ERROR**2 + (ROUNDING * b.precision_s / b.published_s) ** 2)
    values, mac_hz = dict(c), c["drpai3.mac_clock"]

    def residuals(x: np.ndarray) -> np.ndarray:
        values.update(zip(START, np.exp(x)))
        r = np.log(predict(b, values, mac_hz) / b.published_s) / sigma
        robust = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + r * r) - 1))
        return np.concatenate([robust, (x - prior) / PRIOR])

    return least_squares(residuals, prior if start is None else start, low, high, steps)


def least_squares(
    residuals: Callable[[np.ndarray], np.ndarray], x: np.ndarray, low: np.ndarray, high: np.ndarray, steps: int = 40
) -> tuple[np.ndarray, float]:
    """Levenberg-Marquardt with bounds and numerical derivatives; returns the point and its cost."""
    x, damping = np.clip(x, low, high), 1e-2
    r = residuals(x)
    cost = float(r @ r)
    for _ in range(steps):
        jacobian = np.stack([(residuals(x + 1e-4 * e) - r) / 1e-4 for e in np.eye(len(x))], 1)
        normal, slope = jacobian.T @ jacobian, jacobian.T @ r
        before = cost
        for _ in range(8):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -slope)
            trial = np.clip(x + np.clip(step, -1, 1), low, high)
            attempt = residuals(trial)
            if attempt @ attempt < cost:
                x, r, cost, damping = trial, attempt, float(attempt @ attempt), damping / 3
                break
            damping *= 4
        if before - cost < 1e-6 * before:
            break
    return x, cost


def choose(samples: Sequence[Sample], c: Constants) -> tuple[dict[str, int], np.ndarray]:
    """Rules and constants of a training set.

    Begins with every rule's first choice, the one that keeps most on the accelerator, and changes
    one rule after the other where that lowers the training cost, until a whole pass changes
    nothing. A rule that no training network needs keeps its first choice.
    """
    present = {tag for sample in samples for tag in sample.tags}
    rules = [rule for rule in placement.RULES if rule.choices and rule.tag in present]
    chosen = {rule.tag: rule.choices[0] for rule in placement.RULES if rule.choices}
    x, cost = fit_constants(batch(samples, chosen), c, steps=20)
    changed = True
    while changed:
        changed = False
        for rule, unit in ((r, u) for r in rules for u in r.choices):
            if unit == chosen[rule.tag]:
                continue
            trial = {**chosen, rule.tag: unit}
            y, lower = fit_constants(batch(samples, trial), c, x, TRIAL_STEPS)
            if lower < cost * (1 - BETTER):
                chosen, x, cost, changed = trial, y, lower, True
    return chosen, fit_constants(batch(samples, chosen), c, x)[0]


def folds(samples: Sequence[Sample], count: int = 5) -> np.ndarray:
    """(samples,) fold numbers: whole families, the largest first into the emptiest fold."""
    sizes = Counter(sample.published.family for sample in samples)
    load, of = [0] * count, {}
    for family in sorted(sizes, key=lambda name: (-sizes[name], name)):
        of[family] = int(np.argmin(load))
        load[of[family]] += sizes[family]
    return np.array([of[sample.published.family] for sample in samples])


@dataclass(frozen=True)
class Fit:
    """Constants and rules of all samples, and what each sample is predicted when held out."""

    constants: Mapping[str, float]
    chosen: Mapping[str, int]
    predicted_s: np.ndarray
    held_out_s: np.ndarray
    mapped: np.ndarray
    fold_of: np.ndarray
    chosen_in_folds: tuple[Mapping[str, int], ...]


def fit(samples: Sequence[Sample], c: Constants, progress: Callable[[str], None] = lambda text: None) -> Fit:
    """Fits all samples, then each fold's families from the others alone."""
    mac_hz = c["drpai3.mac_clock"]
    progress("all samples")
    chosen, x = choose(samples, c)
    values = {**dict(c), **dict(zip(START, np.exp(x)))}
    whole = batch(samples, chosen)
    fold_of, held_out, rules = folds(samples), np.zeros(len(samples)), []
    for k in range(int(fold_of.max()) + 1):
        progress(f"fold {k + 1}")
        train = [s for s, f in zip(samples, fold_of) if f != k]
        test = [s for s, f in zip(samples, fold_of) if f == k]
        its_rules, y = choose(train, c)
        its_values = {**dict(c), **dict(zip(START, np.exp(y)))}
        held_out[fold_of == k] = predict(batch(test, its_rules), its_values, mac_hz)
        rules.append(its_rules)
    return Fit(
        {name: float(np.exp(v)) for name, v in zip(START, x)},
        chosen,
        predict(whole, values, mac_hz),
        held_out,
        whole.mapped,
        fold_of,
        tuple(rules),
    )
