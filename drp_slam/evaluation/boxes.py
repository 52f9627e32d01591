# SPDX-License-Identifier: Apache-2.0
"""Compares the boxes of detectors: average precision with one detector's boxes as ground truth.

Measures a pruned or quantised detector on any images, without labels: 1 means that it
finds the same boxes and classes as the dense one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.drpai3.detect import candidates, suppress
from drp_slam.drpai3.detector_network import DetectorNetwork

TRUE_FROM, FOUND_FROM = 0.5, 0.05
"""Minimum score of a box of the reference to count as true, and of a box of the other network to be compared."""
OVERLAPS = tuple(np.arange(0.5, 1.0, 0.05).round(2).tolist())
"""Intersections over unions at which precision is averaged, as in COCO."""


@dataclass(frozen=True)
class Boxes:
    """One image: `xyxy` (N, 4) as shares of the image, `score` (N,) descending, `label` (N,) int."""

    xyxy: np.ndarray
    score: np.ndarray
    label: np.ndarray


def found(network: DetectorNetwork, image: np.ndarray, threshold: float) -> Boxes:
    """The boxes of (H, W, 3) BGR uint8 above a score, suppressed as `drpai3.detect` does."""
    boxes_px, score, label = candidates(network, image, threshold, lambda tensor: network.compute(tensor)[0])
    height, width = image.shape[:2]
    xyxy = boxes_px / (width, height, width, height)
    keep = suppress(xyxy, score, label)
    return Boxes(xyxy[keep], score[keep], label[keep])


def agreement(reference: Path, others: Sequence[Path], images: Iterable[np.ndarray]) -> dict[str, Any]:
    """`map50` and `map` (mean over `OVERLAPS`) of each other network, by the reference's boxes.

    `images` are (H, W, 3) BGR uint8. Classes that the reference never finds are omitted from the
    means. Raises DrpAi3Error for networks of another form than `drpai3.detect` reads.
    """
    networks = [DetectorNetwork(path) for path in (reference, *others)]
    truth: list[Boxes] = []
    answers: list[list[Boxes]] = [[] for _ in others]
    for image in images:
        truth.append(found(networks[0], image, TRUE_FROM))
        for answer, network in zip(answers, networks[1:]):
            answer.append(found(network, image, FOUND_FROM))
    labels = sorted({int(n) for boxes in truth for n in boxes.label})
    rows = []
    for path, answer in zip(others, answers):
        table = np.array([[average_precision(truth, answer, n, o) for o in OVERLAPS] for n in labels])
        means = table.mean(0) if len(labels) else np.full(len(OVERLAPS), np.nan)
        named = {"map50": float(means[0]), "map": float(means.mean())} if labels else {"map50": None, "map": None}
        rows.append({"network": str(path), **named, "boxes": int(sum((b.score >= TRUE_FROM).sum() for b in answer))})
    return {
        "reference": str(reference),
        "images": len(truth),
        "reference_boxes": sum(len(boxes.score) for boxes in truth),
        "classes": len(labels),
        "networks": rows,
    }


def average_precision(truth: Sequence[Boxes], answers: Sequence[Boxes], label: int, overlap: float) -> float:
    """Area under precision over recall of one class, over all images (interpolated, all points).

    Boxes are ranked by score; each true box is matched once, by the box that overlaps it most.
    """
    total, hits, scores = 0, [], []
    for true, answer in zip(truth, answers):
        boxes, mine = true.xyxy[true.label == label], answer.label == label
        total += len(boxes)
        order = np.argsort(-answer.score[mine], kind="stable")
        table = intersection_over_union(answer.xyxy[mine][order], boxes)
        taken = np.zeros(len(boxes), bool)
        for row in table:
            row = np.where(taken, -1.0, row)
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= overlap
            if hit:
                taken[best] = True
            hits.append(hit)
        scores.append(answer.score[mine][order])
    if not total:
        return float("nan")
    order = np.argsort(-np.concatenate(scores), kind="stable") if hits else np.zeros(0, np.intp)
    right = np.cumsum(np.array(hits, np.float64)[order])
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    recall = np.concatenate([[0.0], right / total])
    return float((np.diff(recall) * precision).sum())


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) of boxes (N, 4) and (M, 4), x0 y0 x1 y1."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(2)
    area = [np.clip(x[:, 2:] - x[:, :2], 0.0, None).prod(1) for x in (a, b)]
    return shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-12)
