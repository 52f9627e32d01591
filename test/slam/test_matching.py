# SPDX-License-Identifier: Apache-2.0
"""Matching against a plain loop over all pairs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.datatypes import DescriptorSpec
from drp_slam.errors import SlamError
from drp_slam.slam import descriptors
from drp_slam.slam.map import Map
from drp_slam.slam.matching import Prior, match

ORB = DescriptorSpec(32, "uint8", "hamming")


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


def noisy_twins(rng: np.random.Generator, n: int, m: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Binary descriptors of which the first few of both sides are alike but for some bits."""
    a, b = (rng.integers(0, 256, (k, length), dtype=np.uint8) for k in (n, m))
    both = min(n, m) // 2
    flipped = np.packbits(rng.random((both, 8 * length)) < 0.1, axis=1)
    b[:both] = a[:both] ^ flipped
    return a, b[rng.permutation(m)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 32, 61]))
def test_binary_descriptors_match_as_opencv_matches_them(seed: int, n: int, m: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = noisy_twins(rng, n, m, length)
    spec = DescriptorSpec(length, "uint8", "hamming")
    found = match(a, b, -1.0, spec=spec)
    theirs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a, b)
    apart = np.unpackbits(a[:, None] ^ b, axis=2).sum(axis=2, dtype=int)
    for i, j, cosine in zip(found.a.tolist(), found.b.tolist(), found.cosine.tolist()):
        assert cosine == pytest.approx(1.0 - 2.0 * apart[i, j] / (8 * length), abs=1e-5)
        assert apart[i, j] == apart[i].min() == apart[:, j].min()
    pairs = {(p.queryIdx, p.trainIdx) for p in theirs}
    tied = {(i, j) for i, j in pairs if (apart[i] == apart[i, j]).sum() + (apart[:, j] == apart[i, j]).sum() > 2}
    assert pairs - tied <= set(zip(found.a.tolist(), found.b.tolist()))


def test_prior_tells_binary_twins_apart() -> None:
    d = np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8).repeat(2, axis=0)
    px = np.array([[100.0, 100.0], [400.0, 300.0]])
    found = match(d, d[::-1].copy(), 0.9, Prior(px, px[::-1] + 3.0, 50.0), ORB)
    assert dict(zip(found.a.tolist(), found.b.tolist())) == {0: 1, 1: 0}


def test_a_points_binary_descriptor_is_the_majority_of_its_views() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 256, (20, 32), dtype=np.uint8)
    votes = np.zeros((20, 256), np.int8)
    seen = [true ^ np.packbits(rng.random((20, 256)) < 0.2, axis=1) for _ in range(7)]
    for one in seen:
        votes, majority = descriptors.vote(votes, one)
    bits = np.stack([np.unpackbits(one, axis=1) for one in seen])
    np.testing.assert_array_equal(np.unpackbits(majority, axis=1), bits.mean(axis=0) > 0.5)
    for _ in range(100):
        votes, majority = descriptors.vote(votes, ~true)
    np.testing.assert_array_equal(majority, ~true)


@pytest.mark.parametrize("spec", [("uint8", "cosine"), ("float32", "hamming"), ("float64", "cosine"), ("uint8", "l2")])
def test_descriptors_that_cannot_be_compared_are_refused(spec: tuple[str, str]) -> None:
    with pytest.raises(SlamError, match="expected float32 with cosine, uint8 with hamming"):
        Map(DescriptorSpec(32, *spec))
