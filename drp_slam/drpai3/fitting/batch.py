# SPDX-License-Identifier: Apache-2.0
"""Joins many networks and the rows of a translator's table into one set of arrays for a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3 import placement, prefetch, residency, timing
from drp_slam.drpai3.fitting.corpus import Sample
from drp_slam.drpai3.fitting.translator import Group

MODEL_ERROR = 0.06
"""Relative model error that the fit assumes for a network, as its weight."""
ROW_ERROR = 0.5
"""The same for a row of a translator's table, where work may be charged to a neighbouring row."""
FEATURE_SHARE = "drpai3.feature_share"


@dataclass(frozen=True)
class Rows:
    """A translator's table: its network, and the groups of rows (`translator.align`)."""

    sample: Sample
    groups: tuple[Group, ...]

    @property
    def known(self) -> list[Group]:
        """Groups with layers of the network."""
        return [g for g in self.groups if g.layers or g.outputs]


@dataclass(frozen=True)
class Batch:
    """Times to predict and the layers that they sum, for one choice of rules.

    `owner` is the time to which a layer of `table` contributes; one past the last means none. `ideal`
    marks layers whose times come from a translator, which counts no contention: the shorter of work and
    traffic is hidden completely.
    `crossed` (times, 4): number and elements of tensors moved between accelerator and CPU, and of
    results. `inferences` is 1 where a time includes the fixed cost of an inference. `error` is the
    relative model error that the fit assumes.
    """

    table: timing.Table
    units: np.ndarray
    owner: np.ndarray
    ideal: np.ndarray
    streams: prefetch.Streams
    crossed: np.ndarray
    inferences: np.ndarray
    mapped: np.ndarray
    published_s: np.ndarray
    precision_s: np.ndarray
    error: np.ndarray


def _placed(
    sample: Sample, chosen: Mapping[str, float], c: Mapping[str, float]
) -> tuple[timing.Table, np.ndarray, list[placement.Crossing], bool]:
    """Table with traffic, units, crossings, and whether the CPU has none of a sample; kept."""
    rules = placement.chosen_of(c) | {tag: int(unit) for tag, unit in chosen.items() if tag != FEATURE_SHARE}
    buffer_bytes = c["drpai3.feature_buffer"] * chosen.get(FEATURE_SHARE, c[FEATURE_SHARE])
    key = (frozenset(rule for rule in rules.items() if rule[0] in sample.rules), buffer_bytes)
    if key not in sample.placed:
        unit = placement.units(sample.tags, sample.layers, sample.wires, sample.published.release, rules)
        sizes = {name: int(c["drpai3.element_bytes"]) * size for name, size in sample.sizes.items()}
        lies = residency.simulate(sample.layers, sample.wires, unit, sizes, buffer_bytes)
        cpu = placement.on_cpu(unit, sample.layers, sample.wires)
        found = placement.crossings(cpu, sample.wires, sample.sizes)
        sample.placed[key] = (timing.with_traffic(sample.table, lies), unit, found, not cpu.any())
    return sample.placed[key]


def batch(
    samples: Sequence[Sample], chosen: Mapping[str, float], c: Mapping[str, float], rows: Rows | None = None
) -> Batch:
    """Places the samples and flattens them; the times of `rows` follow those of the samples."""
    known = rows.known if rows is not None else []
    everyone = [*samples, rows.sample] if rows is not None else list(samples)
    placed = [_placed(sample, chosen, c) for sample in everyone]
    crossed = [_crossed(found) for _, _, found, _ in placed[: len(samples)]]
    owner = [np.full(len(units), n) for n, (_, units, _, _) in enumerate(placed)]
    if rows is not None:
        owner[-1][:] = len(samples) + len(known)
        for k, group in enumerate(known):
            owner[-1][list(group.layers)] = len(samples) + k
            crossed.append((0, 0, len(group.outputs), sum(rows.sample.sizes[o] for o in group.outputs)))
    table = timing.join([t for t, _, _, _ in placed])
    of_network = np.repeat(np.arange(len(everyone)), [len(units) for _, units, _, _ in placed])
    units = np.concatenate([u for _, u, _, _ in placed])
    busy = units != placement.FUSED
    table = timing.select(table, busy)
    owners = np.concatenate(owner)[busy]
    streamed = timing.streamed_bytes(table, units[busy])
    published = [s.published.latency_s for s in samples] + [g.vendor_us * 1e-6 for g in known]
    return Batch(
        table,
        units[busy],
        owners,
        owners >= len(samples),
        prefetch.streams([streamed[of_network[busy] == n] for n in range(len(everyone))], c["drpai3.weight_buffer"]),
        np.array(crossed, np.float64).reshape(-1, 4),
        np.array([float(s.published.call) for s in samples] + [0.0] * len(known)),
        np.array([m for _, _, _, m in placed[: len(samples)]] + [True] * len(known)),
        np.array(published),
        np.array([s.published.precision_s for s in samples] + [1e-6] * len(known)),
        np.repeat([MODEL_ERROR, ROW_ERROR], [len(samples), len(known)]),
    )


def _crossed(found: Sequence[placement.Crossing]) -> tuple[int, int, int, int]:
    results = [crossing.elements for crossing in found if crossing.result]
    others = [crossing.elements for crossing in found if not crossing.result]
    return len(others), sum(others), len(results), sum(results)


def predict(b: Batch, variants: Sequence[Mapping[str, float]], mac_hz: float) -> np.ndarray:
    """(variants, times) modelled seconds of each time of the batch, for each set of constants."""
    count = len(b.published_s)
    parts = [timing.own_parts(b.table, b.units, c, mac_hz) for c in variants]
    own_s = np.stack([p.total - b.ideal * p.exposed for p in parts])
    bandwidth = np.array([c["drpai3.weight_bandwidth"] for c in variants])
    layer_s = own_s + prefetch.waits(b.streams, own_s, timing.streamed_bytes(b.table, b.units), bandwidth)
    return np.stack(
        [
            np.bincount(b.owner, seconds, count)[:count]
            + b.inferences * c["drpai3.inference_overhead"]
            + timing.crossing_seconds(b.crossed[:, 0], b.crossed[:, 1], c)
            + timing.result_seconds(b.crossed[:, 2], b.crossed[:, 3], c)
            for c, seconds in zip(variants, layer_s)
        ]
    )
