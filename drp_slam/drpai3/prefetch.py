# SPDX-License-Identifier: Apache-2.0
"""Prefetch of weights: streamed from DDR ahead of the layers that use them.

One stream loads the weights in the order of the layers, ahead as far as the on-chip weight buffer
allows; a layer frees its weights when it ends. A layer takes at least as long as its own work and
ends no earlier than its last weight arrives. Several networks are stepped at once, one per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """Networks as rows of (N, S) arrays, padded behind their ends: one step a layer with weights.

    Rows are sorted by length, the longest first; `live` is the number of rows that reach a step.
    `step` is the index of each of the T layers of all networks in the flat arrays; a layer without
    weights belongs to the step that follows it, and after the last one to a step of its own.
    `layer` is the layer of a step, T if padding. `freed_by` is the latest step that must
    end before the last weights of a step fit, counted from 1 (0: none), and `after_bytes` how
    much is loaded from then on.
    """

    step: np.ndarray
    layer: np.ndarray
    freed_by: np.ndarray
    after_bytes: np.ndarray
    live: tuple[int, ...]


def streams(weight_bytes: Sequence[np.ndarray], buffer_bytes: float) -> Streams:
    """Streams of networks whose layers load `weight_bytes` (L,) each, in order, through one buffer."""
    total = sum(len(w) for w in weight_bytes)
    counts = np.array([np.count_nonzero(w) for w in weight_bytes])
    longest = 1 + int(counts.max())
    rank = np.argsort(np.argsort(-counts, kind="stable"))
    shape = (len(weight_bytes), longest)
    step, layer = np.zeros(total, int), np.full(shape, total)
    freed_by, after_bytes = np.zeros(shape, int), np.zeros(shape)
    start = 0
    for row, w in zip(rank.tolist(), weight_bytes):
        loads = np.flatnonzero(w)
        step[start : start + len(w)] = row * longest + np.searchsorted(loads, np.arange(len(w)))
        before = np.concatenate([[0.0], np.cumsum(w[loads])])  # bytes up to and without step n
        # the largest j <= n (from 1) whose weights must have been freed: before[j - 1] + buffer < before[n + 1]
        j = np.minimum(np.searchsorted(before, before[1:] - buffer_bytes, side="left"), np.arange(len(loads)))
        held = np.maximum(before[np.maximum(j - 1, 0)] + buffer_bytes, before[:-1])
        layer[row, : len(loads)] = start + loads
        freed_by[row, : len(loads)] = j
        after_bytes[row, : len(loads)] = np.where(j > 0, np.maximum(before[1:] - held, 0), 0)
        start += len(w)
    live = tuple(int((counts > n).sum()) for n in range(longest))
    return Streams(step, layer, freed_by, after_bytes, live)


def waits(s: Streams, work_s: np.ndarray, weight_bytes: np.ndarray, bandwidth: np.ndarray | float) -> np.ndarray:
    """(..., T) seconds that each layer waits for weights beyond its own `work_s` (..., T), flat arrays.

    Leading axes are variants of the chip, each with its `bandwidth` (...) in bytes a second.
    """
    rows, longest = s.layer.shape
    work = np.atleast_2d(work_s)
    speed = np.broadcast_to(bandwidth, len(work))[:, None]
    steps = [np.bincount(s.step, w, rows * longest).reshape(rows, longest).T for w in work]
    own = np.stack(steps, 1)  # (steps, variants, networks)
    load, after = np.append(weight_bytes, 0.0)[s.layer].T, s.after_bytes.T
    ends = np.zeros((longest + 1, *own.shape[1:]))
    come, wait = np.zeros(own.shape[1:]), np.zeros(own.shape)
    network = np.arange(rows)
    for n, live in enumerate(s.live):
        done = ends[n, :, :live] + own[n, :, :live]
        room = ends[s.freed_by[:live, n], :, network[:live]].T + after[n, :live] / speed
        come = np.maximum(come[:, :live] + load[n, :live] / speed, room)
        wait[n, :, :live] = np.where(load[n, :live] > 0, np.maximum(come - done, 0.0), 0.0)
        ends[n + 1, :, :live] = done + wait[n, :, :live]
    flat = np.zeros((len(work), work.shape[1] + 1))
    flat[:, s.layer.T.ravel()] = wait.transpose(1, 0, 2).reshape(len(work), -1)
    return flat[:, :-1].reshape(work_s.shape)
