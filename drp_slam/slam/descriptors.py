# SPDX-License-Identifier: Apache-2.0
"""Descriptors of any length and metric: comparison in a common form, and the descriptor of a map point."""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import DescriptorSpec
from drp_slam.errors import SlamError

METRICS = {"cosine": "float32", "hamming": "uint8"}
"""Type of the arrays of each metric."""
MEMORY = 8
"""Observations that a point's descriptor averages; from then on each new one has the weight of one in as many."""
FINE = 127.0
"""Steps to a length of 1 of descriptors that are rounded to bytes."""


def check_spec(spec: DescriptorSpec) -> None:
    """Raises SlamError for descriptors that cannot be compared."""
    if METRICS.get(spec.metric) != spec.dtype or type(spec.length) is not int or spec.length < 1:
        known = ", ".join(f"{dtype} with {metric}" for metric, dtype in METRICS.items())
        raise SlamError(f"descriptors are {spec.length} {spec.dtype} with metric {spec.metric!r}; expected {known}")


def width(spec: DescriptorSpec) -> int:
    """Columns of the result of `unit`."""
    return spec.length if spec.metric == "cosine" else 8 * spec.length


def unit(spec: DescriptorSpec, descriptor: np.ndarray) -> np.ndarray:
    """(N, width) float32 of unit length, whose products are the similarity.

    Float descriptors are that already. The bits of binary ones become +-1 / sqrt(bits), so that
    the product of two is 1 - 2 h / bits at a Hamming distance of h.
    """
    if spec.metric == "cosine":
        return descriptor
    bits = np.unpackbits(descriptor, axis=1).astype(np.float32)
    bits -= np.float32(0.5)
    bits *= np.float32(2.0 / np.sqrt(8 * spec.length))
    return bits


def rounded(descriptor: np.ndarray) -> np.ndarray:
    """(N, width) int8 of unit vectors: the error of a component is 0.004 at most, of a cosine about a thousandth."""
    return np.rint(descriptor * np.float32(FINE)).astype(np.int8)


def restored(descriptor: np.ndarray) -> np.ndarray:
    """(N, width) float32 of descriptors that were `rounded`; others as they are."""
    return descriptor / np.float32(FINE) if descriptor.dtype == np.int8 else descriptor


def comparing(spec: DescriptorSpec, pairs: float) -> dict[str, float]:
    """Counters for comparing so many pairs of descriptors; of binary ones, a compiled port would compare the bits."""
    return {"flops": 2.0 * spec.length * pairs} if spec.metric == "cosine" else {"bits": 8.0 * spec.length * pairs}


def follow(descriptor: np.ndarray, seen: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(N, length) float descriptors after one more observation each, of unit length.

    `seen` (N,) is how many observations `descriptor` averages so far.
    """
    mean = descriptor * np.minimum(seen, MEMORY)[:, None] + new
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return mean


def vote(votes: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes (N, bits) int8 for each bit, and the binary descriptors of their majority, after one more.

    A tie keeps the bit of the newest observation.
    """
    bits = np.unpackbits(new, axis=1)
    votes = np.clip(votes + np.where(bits, 1, -1), -MEMORY, MEMORY).astype(np.int8)
    return votes, np.packbits((votes > 0) | ((votes == 0) & (bits > 0)), axis=1)
