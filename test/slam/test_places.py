# SPDX-License-Identifier: Apache-2.0
"""Place recognition in maps of many keyframes: the inverted file against comparing all with all."""

from __future__ import annotations

import numpy as np

from drp_slam.slam import places
from drp_slam.slam.map import Map
from drp_slam.slam.places import InvertedFile, Places
from drp_slam.slam.view import View

SIGHTINGS, PER_PLACE = 300, 4


def sighting(descriptor: np.ndarray) -> View:
    plane = np.zeros((len(descriptor), 2))
    return View(0, 0, plane.astype(np.float32), plane, np.ones(len(descriptor)), descriptor)


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def worlds() -> np.ndarray:
    """(K, 128, 64) descriptors of keyframes, four of each place, noisy."""
    rng = np.random.default_rng(3)
    place = np.repeat(rng.normal(size=(SIGHTINGS // PER_PLACE, 128, 64)), PER_PLACE, axis=0)
    return unit(unit(place) + rng.normal(scale=0.05, size=place.shape))


def test_finds_the_places_of_an_exact_search() -> None:
    descriptor = worlds()
    slam_map = Map()
    index = Places(slam_map)
    for k in range(SIGHTINGS):
        slam_map.add_keyframe(sighting(descriptor[k]), np.eye(4))
        index.update()
    assert SIGHTINGS > places.EXACT
    rng = np.random.default_rng(4)
    agreement, share = [], []
    for k in range(0, SIGHTINGS, 7):
        asking = unit(descriptor[k] + rng.normal(scale=0.03, size=descriptor[k].shape))[:64]
        exact = ((asking @ descriptor.reshape(-1, 64).T).reshape(64, SIGHTINGS, 128).max(axis=2) >= 0.75).sum(axis=0)
        votes, work = index.votes(sighting(asking), 0.75, 64)
        assert (votes <= exact).all() and work["flops"] < 0.2 * 2 * 64 * descriptor[..., 0].size * 64
        share.append(votes.sum() / exact.sum())
        best = set(np.argsort(-exact, kind="stable")[:PER_PLACE].tolist())
        agreement.append(best == set(np.argsort(-votes, kind="stable")[:PER_PLACE].tolist()))
    assert np.mean(share) > 0.6 and np.mean(agreement) > 0.95


def test_an_index_built_at_once_is_the_one_that_grew() -> None:
    descriptor = worlds()
    slam_map = Map()
    grown = Places(slam_map)
    for k in range(SIGHTINGS):
        slam_map.add_keyframe(sighting(descriptor[k]), np.eye(4))
        grown.update()
    asking = sighting(descriptor[200])
    np.testing.assert_array_equal(grown.votes(asking, 0.7)[0], Places(slam_map).votes(asking, 0.7)[0])


def test_the_first_keyframes_get_votes_while_they_are_moved_to_the_index() -> None:
    descriptor = worlds()[: places.EXACT + 12]
    slam_map = Map()
    index = Places(slam_map)
    for k in range(len(descriptor)):
        slam_map.add_keyframe(sighting(descriptor[k]), np.eye(4))
        index.update()
        for asked in (0, places.EXACT // 2, k):
            votes = index.votes(sighting(descriptor[asked, :64]), 0.75, 64)[0]
            assert asked > k or votes[asked] > 40
    index.forget(70)
    assert index.votes(sighting(descriptor[70]), 0.75)[0][70] == 0


def test_probing_all_buckets_is_an_exact_search() -> None:
    descriptor = worlds()[:60]
    index = InvertedFile(descriptor, places.BUCKETS)
    index.add(np.repeat(np.arange(60), 128), descriptor.reshape(-1, 64))
    votes, _ = index.votes(descriptor[5, :32], 0.6, 60)
    exact = ((descriptor[5, :32] @ descriptor.reshape(-1, 64).T).reshape(32, 60, 128).max(axis=2) >= 0.6).sum(axis=0)
    np.testing.assert_array_equal(votes, exact)
