# SPDX-License-Identifier: Apache-2.0
"""Matching against a plain loop over all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.slam.matching import Prior, match


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    d = rng.normal(size=(n, 64))
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


def plain(score: np.ndarray) -> set[tuple[int, int]]:
    """Mutual best pairs, one by one."""
    rows, columns = score.argmax(axis=1), score.argmax(axis=0)
    return {(i, int(j)) for i, j in enumerate(rows) if columns[j] == i and np.isfinite(score[i, j])}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 300))
def test_mutual_nearest_neighbours(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = unit(rng, n), unit(rng, m)
    found = match(a, b, -1.0)
    assert set(zip(found.a.tolist(), found.b.tolist())) == plain(a @ b.T)
    np.testing.assert_allclose(found.cosine, (a @ b.T)[found.a, found.b], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 500), st.integers(1, 500))
def test_prior_is_a_penalty_and_a_gate(seed: int, n: int, m: int) -> None:
    """Strips leave pairs out only where they lie outside the gate in x."""
    rng = np.random.default_rng(seed)
    a, b = unit(rng, n), unit(rng, m)
    pa, pb = rng.uniform(0, 640, (n, 2)), rng.uniform(0, 640, (m, 2))
    prior = Prior(pa, pb, 80.0)
    found = match(a, b, -1.0, prior)
    offset = np.linalg.norm(pa[:, None] - pb, axis=2)
    assert (offset[found.a, found.b] <= 80.0).all()
    assert len(set(found.a.tolist())) == len(set(found.b.tolist())) == len(found)
    score = a @ b.T - prior.penalty * (offset / 80.0) ** 2
    ours = score[found.a, found.b]
    near = np.where(offset <= 80.0, score, -np.inf)
    assert (ours >= near[found.a].max(axis=1) - 1e-5).all()
    assert (ours >= near[:, found.b].max(axis=0) - 1e-5).all()


def test_prior_tells_twins_apart() -> None:
    rng = np.random.default_rng(0)
    d = unit(rng, 1).repeat(2, axis=0)
    px = np.array([[100.0, 100.0], [400.0, 300.0]])
    found = match(d, d[::-1].copy(), 0.9, Prior(px, px[::-1] + 3.0, 50.0))
    assert dict(zip(found.a.tolist(), found.b.tolist())) == {0: 1, 1: 0}


def test_identical_descriptors_stay_one_to_one() -> None:
    d = np.ones((5, 64), dtype=np.float32) / 8.0
    found = match(d, d[:3], 0.5)
    assert len(set(found.a.tolist())) == len(set(found.b.tolist())) == len(found) > 0


def test_nothing_to_match() -> None:
    d = unit(np.random.default_rng(0), 4)
    assert len(match(d[:0], d, 0.5)) == len(match(d, d[:0], 0.5)) == 0
    assert len(match(d, -d, 0.9)) == 0
