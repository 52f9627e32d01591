# SPDX-License-Identifier: Apache-2.0
"""Descriptor matching: mutual nearest neighbours by one matrix product, with a motion prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.slam.descriptors import unit


@dataclass(frozen=True)
class Matches:
    """Pairs `a[k]` - `b[k]` with their cosine; `compared` is the number of pairs that were compared."""

    a: np.ndarray
    b: np.ndarray
    cosine: np.ndarray
    compared: float

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
    penalty: float = 0.1


def match(
    a: np.ndarray, b: np.ndarray, min_cosine: float, prior: Prior | None = None, spec: DescriptorSpec = XFEAT_DESCRIPTOR
) -> Matches:
    """Mutual nearest neighbours of (N, length) and (M, length) descriptors.

    The cosine of binary ones is 1 - 2 h / bits at a Hamming distance of h.

    The prior costs no extra pass: `cosine - k |pa - pb|^2` is itself a product of vectors longer
    by four, `(da, pa, |pa|^2, 1) . (db, 2k pb, -k, -k |pb|^2)`. It saves some, because strips of
    the image are compared only with what lies within the gate.
    """
    if not len(a) or not len(b):
        empty = np.zeros(0, dtype=np.intp)
        return Matches(empty, empty, np.zeros(0), 0.0)
    a, b = unit(spec, a), unit(spec, b)
    if prior is None:
        rows, best, compared = _mutual(a, b, [(0, len(a), 0, len(b))])
    else:
        by_x, strips, order_b = _strips(prior)
        left, right = _augment(a, b, prior)
        rows, best, compared = _mutual(left[by_x], right[order_b], strips)
        rows, best = by_x[rows], order_b[best]
    cosine = np.einsum("ij,ij->i", a[rows], b[best])
    keep = cosine >= min_cosine
    if prior is not None:
        offset = prior.a_px[rows] - prior.b_px[best]
        keep &= np.einsum("ij,ij->i", offset, offset) <= prior.gate_px**2
    return Matches(rows[keep], best[keep], cosine[keep], compared)


STRIP = 128
"""Features of a strip: their scores against all points of a strip stay in the cache."""
Strip = tuple[int, int, int, int]


def _strips(prior: Prior) -> tuple[np.ndarray, list[Strip], np.ndarray]:
    """Both sides' order from left to right, and strips: rows of `a` with the rows of `b` near."""
    by_x = np.argsort(prior.a_px[:, 0], kind="stable")
    order_b = np.argsort(prior.b_px[:, 0], kind="stable")
    xa, xb = prior.a_px[by_x, 0], prior.b_px[order_b, 0]
    strips = []
    for first in range(0, len(xa), STRIP):
        last = min(first + STRIP, len(xa))
        low, high = np.searchsorted(xb, (xa[first] - prior.gate_px, xa[last - 1] + prior.gate_px))
        if low < high:
            strips.append((first, last, int(low), int(high)))
    return by_x, strips, order_b


def _mutual(left: np.ndarray, right: np.ndarray, strips: list[Strip]) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of both sides that are each other's best, and how many pairs were compared."""
    best = np.full(len(left), -1, dtype=np.intp)
    row_score = np.full(len(left), -np.inf, dtype=np.float32)
    column_score = np.full(len(right), -np.inf, dtype=np.float32)
    compared = 0.0
    for first, last, low, high in strips:
        score = left[first:last] @ right[low:high].T
        best[first:last] = j = score.argmax(axis=1)
        best[first:last] += low
        row_score[first:last] = score[np.arange(last - first), j]
        np.maximum(column_score[low:high], score.max(axis=0), out=column_score[low:high])
        compared += score.size
    rows = np.flatnonzero((best >= 0) & (row_score >= column_score[best]))
    # Ties are the only way to one column twice: the first stays, so the pairs stay one to one.
    columns, first_of = np.unique(best[rows], return_index=True)
    return rows[first_of], columns, compared


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
