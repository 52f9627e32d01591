# SPDX-License-Identifier: Apache-2.0
"""Place recognition: which keyframes show the same place as a view.

Every keyframe keeps its best descriptors, and each of the view's descriptors votes for the keyframes
that have a similar one. A small map compares all with all by one matrix product; a large one
keeps an inverted file (Sivic and Zisserman, ICCV 2003): descriptors lie in the buckets of their
nearest centroid, and only the buckets nearest to a view's descriptor are searched.
"""

from __future__ import annotations

import math

import numpy as np

from drp_slam.slam.compiled import native
from drp_slam.slam.descriptors import FINE, comparing, restored, rounded, unit, width
from drp_slam.slam.map import Map
from drp_slam.slam.view import View

KEPT = 128
"""Descriptors kept of each keyframe."""
ASKED = 256
"""Descriptors of a lost view that vote."""
EXACT = 64
"""Keyframes up to which all descriptors are compared."""
MOVED = 8
"""So many of these are moved to the inverted file at each later keyframe."""
BUCKETS, PROBED = 256, 3
"""Of the inverted file: number of centroids, and of buckets searched. About 80 % of the votes of an exact search
remain, and the same best keyframes."""
TRAINED_WITH = 4096
"""Descriptors from which the centroids are found."""


class Places:
    """The keyframes of a map by appearance: an index that can be rebuilt from the map at any time."""

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self._stored = np.zeros((16, KEPT, width(slam_map.spec)), dtype=np.float32)
        self._inverted: InvertedFile | None = None
        self._count = self._moved = 0
        self.update()

    def update(self) -> None:
        """Adds the new keyframes; features are best first, so the first are kept."""
        for view in self._map.views[self._count :]:
            kept = unit(self._map.spec, restored(view.descriptor[:KEPT])).astype(np.float32, copy=False)
            if self._inverted is not None:
                self._inverted.add(self._count, kept)
                if len(self._stored):
                    self._move(self._inverted)
            else:
                if self._count == len(self._stored):
                    self._stored = np.concatenate([self._stored, np.zeros_like(self._stored)])
                self._stored[self._count, : len(kept)] = kept
            self._count += 1
            if self._count == EXACT:
                self._inverted = InvertedFile(self._stored[:EXACT])

    def _move(self, inverted: InvertedFile) -> None:
        """Moves the next of the first keyframes to the inverted file."""
        some = self._stored[self._moved : self._moved + MOVED]
        keyframe, row = np.nonzero((some != 0).any(axis=2))
        inverted.add(self._moved + keyframe, some[keyframe, row])
        self._moved += len(some)
        if self._moved == len(self._stored):
            self._stored, self._moved = self._stored[:0].copy(), 0

    def forget(self, number: int) -> None:
        """Removes a culled keyframe: it gets no votes any more."""
        if self._inverted is not None:
            self._inverted.forget(number)
        self._stored[number : number + 1] = 0.0

    def votes(self, view: View, min_cosine: float, asked: int = ASKED) -> tuple[np.ndarray, dict[str, float]]:
        """(K,) how many of the view's `asked` best descriptors each keyframe has, and the work by counter."""
        asking = unit(self._map.spec, view.descriptor[:asked]).astype(np.float32, copy=False)
        if not self._count or not len(asking):
            return np.zeros(self._count, dtype=np.intp), {}
        votes, compared = np.zeros(self._count, dtype=np.intp), 0.0
        if self._inverted is not None:
            votes, compared = self._inverted.votes(asking, min_cosine, self._count)
        left = self._stored[self._moved : self._count]
        if len(left):
            similarity = asking @ left.reshape(-1, left.shape[2]).T
            best = similarity.reshape(len(asking), len(left), KEPT).max(axis=2)
            votes[self._moved : self._moved + len(left)] += (best >= min_cosine).sum(axis=0)
            compared += float(similarity.size)
        return votes, comparing(self._map.spec, compared)

    def query(self, view: View, min_cosine: float, limit: int) -> tuple[list[int], dict[str, float]]:
        """Numbers of the keyframes with most votes, best first, and the work by counter."""
        votes, counters = self.votes(view, min_cosine)
        order = np.argsort(-votes, kind="stable")[:limit]
        return [int(k) for k in order if votes[k] > 0], counters


class InvertedFile:
    """Descriptors of unit length, rounded to bytes, in buckets by their nearest centroid."""

    def __init__(self, first: np.ndarray, probed: int = PROBED) -> None:
        """Finds the centroids from the descriptors `first` (K, n, width) of the first keyframes.

        A search examines `probed` buckets.
        """
        self._probed = probed
        flat = first.reshape(-1, first.shape[2])
        flat = flat[(flat != 0).any(axis=1)]
        rng = np.random.default_rng(0)
        sample = flat[np.sort(rng.permutation(len(flat))[:TRAINED_WITH])]
        seeds = sample[rng.permutation(len(sample))[:BUCKETS]]
        sums, bucket = np.zeros_like(seeds), (sample @ seeds.T).argmax(axis=1)
        order, begin = _runs(bucket)
        sums[bucket[order][begin]] = np.add.reduceat(sample[order], begin)
        self._centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        self._size = np.zeros(len(seeds), dtype=np.intp)
        self._rows = [np.zeros((0, flat.shape[1]), np.int8)] * len(seeds)
        self._owner = [np.zeros(0, np.int32)] * len(seeds)
        self._gone: set[int] = set()

    def add(self, owner: int | np.ndarray, descriptor: np.ndarray) -> None:
        """Adds descriptors (n, width) of one keyframe or (n,) several."""
        bucket = (descriptor @ self._centroids.T).argmax(axis=1)
        owner, descriptor = np.broadcast_to(owner, bucket.shape), rounded(descriptor)
        order, first = _runs(bucket)
        for b, rows in zip(bucket[order][first].tolist(), np.split(order, first[1:])):
            begin = int(self._size[b])
            end = begin + len(rows)
            if end > len(self._owner[b]):
                stays = np.ones(begin, dtype=bool)
                if self._gone:
                    stays = ~np.isin(self._owner[b][:begin], list(self._gone))
                begin = int(np.count_nonzero(stays))
                end = begin + len(rows)
                more = max(end, begin + begin // 4) - begin
                room = np.zeros((more, descriptor.shape[1]), np.int8)
                self._rows[b] = np.concatenate([self._rows[b][: len(stays)][stays], room])
                self._owner[b] = np.concatenate([self._owner[b][: len(stays)][stays], np.zeros(more, np.int32)])
            self._rows[b][begin:end], self._owner[b][begin:end], self._size[b] = descriptor[rows], owner[rows], end

    def forget(self, number: int) -> None:
        """Gives a keyframe no votes any more; its descriptors are removed when their buckets grow."""
        self._gone.add(number)

    def votes(self, asking: np.ndarray, least: float, count: int) -> tuple[np.ndarray, float]:
        """(count,) how many of the descriptors `asking` (n, width) each keyframe holds; pairs that were compared."""
        nearness = asking @ self._centroids.T
        probed = np.argpartition(nearness, -self._probed, axis=1)[:, -self._probed :].ravel()
        asker = np.repeat(np.arange(len(asking)), self._probed)
        order, first = _runs(probed)
        asking, compared = rounded(asking), float(nearness.size)
        bar = math.ceil(least * FINE * FINE)
        # a descriptor votes at most once for each keyframe
        hits = np.zeros((len(asking), count), dtype=bool)
        for b, rows in zip(probed[order][first].tolist(), np.split(asker[order], first[1:])):
            size = int(self._size[b])
            if not size:
                continue
            compared += len(rows) * size
            if native is not None:
                native.vote(asking, rows, self._rows[b], size, self._owner[b], bar, hits)
                continue
            products = asking[rows].astype(np.float32) @ self._rows[b][:size].astype(np.float32).T
            which, row = np.nonzero(products >= bar)
            hits[rows[which], self._owner[b][row]] = True
        votes = hits.sum(axis=0)
        votes[list(self._gone)] = 0
        return votes, compared


def _runs(bucket: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of (n,) numbers of buckets by bucket, and where in it each bucket begins."""
    order = np.argsort(bucket, kind="stable")
    return order, np.flatnonzero(np.diff(bucket[order], prepend=-1))
