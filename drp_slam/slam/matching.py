# SPDX-License-Identifier: Apache-2.0
"""Descriptor matching: mutual nearest neighbours, near where a motion prior expects them, or among all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.slam.compiled import native, plain
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


REACH = 1.5
"""A match must be better than any other candidate within so many gates: a similar one outside makes it ambiguous."""


def match(
    a: np.ndarray, b: np.ndarray, min_cosine: float, prior: Prior | None = None, spec: DescriptorSpec = XFEAT_DESCRIPTOR
) -> Matches:
    """Mutual nearest neighbours of (N, length) and (M, length) descriptors; with a prior, of those near it.

    The cosine of binary ones is 1 - 2 h / bits at a Hamming distance of h.
    """
    if not len(a) or not len(b):
        return _none()
    if prior is not None:
        return match_rows(a, b, np.arange(len(b)), min_cosine, prior, spec)
    a, b = unit(spec, a), unit(spec, b)
    rows, best, compared = _mutual(a, b)
    cosine = np.einsum("ij,ij->i", a[rows], b[best])
    keep = cosine >= min_cosine
    return Matches(rows[keep], best[keep], cosine[keep], compared)


def match_rows(
    a: np.ndarray, b: np.ndarray, rows: np.ndarray, min_cosine: float, prior: Prior, spec: DescriptorSpec
) -> Matches:
    """`match` of (N, length) descriptors with those of some `rows` (M,) of an array (any, length), by a prior.

    The array's may be half floats, as the map keeps them. `Matches.b` counts in `rows`. Only pairs within
    `REACH` gates are compared: a small part of all.
    """
    if not len(a) or not len(rows):
        return _none()
    if native is None:
        return _match_rows(a, b[rows].astype(spec.dtype, copy=False), min_cosine, prior, spec)
    pairs, cosine = np.empty((2, len(a)), np.int64), np.empty(len(a))
    count, compared = native.match(
        plain(a, spec.dtype),
        plain(prior.a_px),
        b,
        rows,
        plain(prior.b_px),
        REACH * prior.gate_px,
        prior.penalty / prior.gate_px**2,
        min_cosine,
        prior.gate_px,
        pairs[0],
        pairs[1],
        cosine,
    )
    return Matches(pairs[0, :count], pairs[1, :count], cosine[:count], compared)


def _match_rows(a: np.ndarray, b: np.ndarray, min_cosine: float, prior: Prior, spec: DescriptorSpec) -> Matches:
    """`match_rows` in numpy: strips of the image are compared with what lies within the gate to the left and right."""
    a, b = unit(spec, a), unit(spec, b)
    by_x, strips, order_b = _strips(prior)
    a, b, pa, pb = a[by_x], b[order_b], prior.a_px[by_x], prior.b_px[order_b]
    best, best_score = np.full(len(a), -1, dtype=np.intp), np.full(len(a), -np.inf)
    column, column_score = np.full(len(b), -1, dtype=np.intp), np.full(len(b), -np.inf)
    cosine, compared = np.zeros(len(a)), 0.0
    for first, last, low, high in strips:
        similar = (a[first:last] @ b[low:high].T).astype(np.float64)
        apart = pa[first:last, None] - pb[None, low:high]
        away2 = np.einsum("ijk,ijk->ij", apart, apart)
        inside = away2 <= (REACH * prior.gate_px) ** 2
        compared += float(inside.sum())
        score = np.where(inside, similar - prior.penalty / prior.gate_px**2 * away2, -np.inf)
        j = score.argmax(axis=1)
        each = np.arange(last - first)
        best[first:last], best_score[first:last], cosine[first:last] = low + j, score[each, j], similar[each, j]
        i, mine = score.argmax(axis=0), score.max(axis=0)
        better = mine > column_score[low:high]
        column[low:high][better], column_score[low:high][better] = first + i[better], mine[better]
    rows = np.flatnonzero((best_score > -np.inf) & (cosine >= min_cosine))
    offset = pa[rows] - pb[best[rows]]
    rows = rows[(column[best[rows]] == rows) & (np.einsum("ij,ij->i", offset, offset) <= prior.gate_px**2)]
    order = np.argsort(by_x[rows])
    rows = rows[order]
    return Matches(by_x[rows], order_b[best[rows]], cosine[rows], compared)


def _none() -> Matches:
    empty = np.zeros(0, dtype=np.intp)
    return Matches(empty, empty, np.zeros(0), 0.0)


STRIP = 128
"""Features of a strip: their scores against all points of a strip fit into the cache."""

Strip = tuple[int, int, int, int]


def _strips(prior: Prior) -> tuple[np.ndarray, list[Strip], np.ndarray]:
    """The order of both sides from left to right, and strips: rows of `a` with the rows of `b` near."""
    by_x = np.argsort(prior.a_px[:, 0], kind="stable")
    order_b = np.argsort(prior.b_px[:, 0], kind="stable")
    xa, xb = prior.a_px[by_x, 0], prior.b_px[order_b, 0]
    strips = []
    for first in range(0, len(xa), STRIP):
        last = min(first + STRIP, len(xa))
        low, high = np.searchsorted(xb, (xa[first] - REACH * prior.gate_px, xa[last - 1] + REACH * prior.gate_px))
        if low < high:
            strips.append((first, last, int(low), int(high)))
    return by_x, strips, order_b


def _mutual(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of both sides that are mutual best matches, and how many pairs were compared."""
    score = left @ right.T
    if native is not None:
        pairs = np.empty((2, len(right)), dtype=np.intp)
        count = native.mutual(score, pairs[0], pairs[1])
        return pairs[1, :count], pairs[0, :count], float(score.size)
    best = score.argmax(axis=1)
    rows = np.flatnonzero(score[np.arange(len(left)), best] >= score.max(axis=0)[best])
    # Only ties give a column twice: the first is kept, so the pairs stay one to one.
    columns, first_of = np.unique(best[rows], return_index=True)
    return rows[first_of], columns, float(score.size)
