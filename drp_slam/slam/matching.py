# SPDX-License-Identifier: Apache-2.0
"""Descriptor matching: mutual nearest neighbours by one matrix product, with a motion prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matches:
    """Pairs `a[k]` - `b[k]` with their cosine; `flops` is the work of the matrix product."""

    a: np.ndarray
    b: np.ndarray
    cosine: np.ndarray
    flops: float

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True)
class Prior:
    """Where the features `a` and `b` are expected, (N, 2) and (M, 2) pixels.

    The score falls by `penalty` at a distance of `gate_px`, beyond which no pair is accepted.
    """

    a_px: np.ndarray
    b_px: np.ndarray
    gate_px: float
    penalty: float = 0.3


def match(a: np.ndarray, b: np.ndarray, min_cosine: float, prior: Prior | None = None) -> Matches:
    """Mutual nearest neighbours of (N, 64) and (M, 64) unit descriptors.

    The prior costs no extra pass: `cosine - k |pa - pb|^2` is itself a product of vectors longer
    by four, `(da, pa, |pa|^2, 1) . (db, 2k pb, -k, -k |pb|^2)`.
    """
    empty = np.zeros(0, dtype=np.intp)
    if not len(a) or not len(b):
        return Matches(empty, empty, np.zeros(0), 0.0)
    left, right = (a, b) if prior is None else _augment(a, b, prior)
    score = left @ right.T
    best = score.argmax(axis=1)
    rows = np.arange(len(a))
    keep = score[rows, best] >= score.max(axis=0)[best]
    rows, best = rows[keep], best[keep]
    # Ties are the only way to one `b` twice: the first stays, so the pairs stay one to one.
    best, first = np.unique(best, return_index=True)
    rows = rows[first]
    cosine = np.einsum("ij,ij->i", a[rows], b[best])
    keep = cosine >= min_cosine
    if prior is not None:
        offset = prior.a_px[rows] - prior.b_px[best]
        keep &= np.einsum("ij,ij->i", offset, offset) <= prior.gate_px**2
    flops = 2.0 * left.shape[1] * len(a) * len(b)
    return Matches(rows[keep], best[keep], cosine[keep], flops)


def _augment(a: np.ndarray, b: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    # In units of the gate and about a common centre, so that float32 keeps the small differences.
    centre = prior.a_px.mean(axis=0)
    pa = ((prior.a_px - centre) / prior.gate_px).astype(np.float32)
    pb = ((prior.b_px - centre) / prior.gate_px).astype(np.float32)
    left = np.empty((len(a), a.shape[1] + 4), dtype=np.float32)
    right = np.empty((len(b), b.shape[1] + 4), dtype=np.float32)
    k = np.float32(prior.penalty)
    left[:, :-4], right[:, :-4] = a, b
    left[:, -4:-2], left[:, -2], left[:, -1] = pa, np.einsum("ij,ij->i", pa, pa), 1.0
    right[:, -4:-2], right[:, -2] = 2.0 * k * pb, -k
    right[:, -1] = -k * np.einsum("ij,ij->i", pb, pb)
    return left, right
