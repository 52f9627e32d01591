# SPDX-License-Identifier: Apache-2.0
"""Optimal Brain Surgeon: removes the cheapest weight and adjusts the others to compensate.

Hassibi and Stork, NIPS 1992: around a minimum with Hessian H, removing weight q costs
w_q^2 / (2 [H^-1]_qq), and the others move by -w_q / [H^-1]_qq * H^-1 e_q. `exact` does this one
weight at a time.

A layer that maps rows x to x W has, for the squared error of its output, the same H = E[x x^T]
for every output column (Optimal Brain Compression, arXiv:2208.11580). After any sequence of
surgeries the remaining weights are the minimum of the quadratic on what remains, so a layer can
be pruned in a few rounds (saliency on what remains, mask by any pattern, solve) and the solve of
each round equals the single steps that it replaces. `surgery` does that to the layers of a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from drp_slam.errors import PruningError

CHUNK_BYTES = 2**27


@dataclass(frozen=True)
class Surgery:
    """Weights (n,) after the surgery, kept ones (n,) bool, and the increase of the loss."""

    weights: Tensor
    kept: Tensor
    loss: float


def exact(weights: Tensor, hessian: Tensor, count: int, block: int | None = None) -> Surgery:
    """Removes `count` of n weights, one at a time, each time the cheapest of the remaining ones.

    `hessian` (n, n) is positive definite. `block` ignores what couples different blocks of so many
    weights (WoodFisher, arXiv:2004.14340); None or block >= n is the full form.
    Raises PruningError where the Hessian is not positive definite.
    """
    hessian = blocked(hessian, block)
    w, inverse = weights.clone().double(), _inverse(hessian)
    kept, loss = torch.ones(len(w), dtype=torch.bool), 0.0
    for _ in range(count):
        diagonal = inverse.diagonal()
        cost = torch.where(kept, 0.5 * w.square() / diagonal.clamp_min(1e-300), torch.inf)
        q = int(cost.argmin())
        loss += float(cost[q])
        column = inverse[:, q].clone()
        w -= w[q] / column[q] * column
        inverse -= torch.outer(column, column) / column[q]  # H^-1 of the remaining ones, by elimination
        kept[q] = False
        w[~kept] = 0.0
        inverse[q] = inverse[:, q] = 0.0
    return Surgery(w, kept, loss)


def blocked(hessian: Tensor, block: int | None) -> Tensor:
    """The Hessian without the entries that couple different blocks of `block` weights."""
    if block is None or block >= len(hessian):
        return hessian.double()
    index = torch.arange(len(hessian)) // block
    return torch.where(index[:, None] == index, hessian.double(), 0.0)


def damped(hessian: Tensor, damping: float) -> Tensor:
    """The Hessian plus `damping` times its mean diagonal, which makes it invertible."""
    scale = hessian.diagonal().mean().clamp_min(1e-12)
    return hessian + damping * scale * torch.eye(len(hessian), dtype=hessian.dtype)


def _inverse(hessian: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(hessian)
    if bool(info.any()):
        raise PruningError("the Hessian is not positive definite; use more calibration images or more damping")
    return torch.cholesky_inverse(factor)


def saliency(weights: Tensor, hessian: Tensor, support: Tensor) -> Tensor:
    """w^2 / (2 [H_S^-1]_qq) of (K, C) weights, for each column on its own support S; 0 outside."""
    _, diagonal = solve(hessian @ weights, hessian, support)
    return 0.5 * weights.square() / diagonal * support


def reconstruct(target: Tensor, hessian: Tensor, support: Tensor) -> Tensor:
    """(K, C) weights, zero outside the support, that minimise w^T H w / 2 - w^T target.

    With target = H W the weights that are nearest to W in the output; this is OBS's update for all
    the removed weights at once.
    """
    return solve(target, hessian, support, diagonals=False)[0]


def solve(target: Tensor, hessian: Tensor, support: Tensor, diagonals: bool = True) -> tuple[Tensor, Tensor]:
    """The weights of `reconstruct`, and [H_S^-1]_qq of each (1 outside the support).

    Raises PruningError where the Hessian is not positive definite.
    """
    found, inverse = torch.zeros_like(target), torch.ones_like(target)
    if bool(support.all()):
        whole = _inverse(hessian)
        return whole @ target, whole.diagonal()[:, None].expand_as(target)
    for columns, index, real in _supports(support):
        right = target[index, columns[:, None]] * real
        factor, info = torch.linalg.cholesky_ex(_picked(hessian, index, real))
        if bool(info.any()):
            raise PruningError("the Hessian is not positive definite; use more calibration images or more damping")
        where = index[real], columns[:, None].expand_as(index)[real]
        found[where] = torch.cholesky_solve(right[..., None], factor)[..., 0][real]
        if diagonals:
            inverse[where] = torch.cholesky_inverse(factor).diagonal(0, 1, 2)[real]
    return found, inverse


def _supports(support: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Columns in chunks: (columns, kept rows padded to the longest, mask of the unpadded ones)."""
    counts = support.sum(0)
    order = counts.argsort()
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order):
            if (last + 1 - first) * int(counts[order[last]]) ** 2 * 8 >= CHUNK_BYTES:
                break
            last += 1
        columns, first = order[first:last], last
        longest = int(counts[columns].max())
        if longest == 0:
            continue
        ranked = support[:, columns].T.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        index = ranked[:, :longest]
        real = torch.arange(longest) < counts[columns][:, None]
        yield columns, index, real


def _picked(hessian: Tensor, index: Tensor, real: Tensor) -> Tensor:
    """H restricted to each column's kept rows, the identity where padded."""
    both = real[:, :, None] & real[:, None, :]
    picked = hessian[index[:, :, None], index[:, None, :]]
    return torch.where(both, picked, torch.eye(index.shape[1], dtype=hessian.dtype))
