# SPDX-License-Identifier: Apache-2.0
"""Low-rank factorisation: replaces a convolution by a thin one and a 1x1.

The weights as a matrix (K, Cout) of rank r: W ~ U V, U a (r, Cin, kh, kw) convolution and V a 1x1
one with Cout outputs (Zhang et al., TPAMI 2016, arXiv:1505.06798). Where statistics of the
layer's inputs are given, U V is the best of rank r for its outputs on them: the singular values
are those of R W with R^T R = E[x x^T].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import prunable as L
from drp_slam.pruning.importance import Statistics
from drp_slam.pruning.layout import matrix, unmatrix
from drp_slam.pruning.obs import damped
from drp_slam.pruning.selection import check_rate


def decompose(weights: Tensor, hessian: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """U (K, n), singular values (n,) in descending order, V (n, Cout) with W = U V exactly; truncate at any rank."""
    w = weights.double()
    root = torch.eye(len(w), dtype=w.dtype)
    if hessian is not None:
        root = torch.linalg.cholesky(damped(hessian, 1e-4)).T
    u, values, v = torch.linalg.svd(root @ w, full_matrices=False)
    left = torch.linalg.solve_triangular(root, u * values, upper=True)
    return left, values, v


def factorised(module: Any, left: Tensor, right: Tensor, rank: int) -> nn.Sequential:
    """The pair of layers of the given rank."""
    u, v = left[:, :rank], right[:rank]
    bias = module.bias is not None
    if isinstance(module, nn.Linear):
        first: Any = nn.Linear(module.in_features, rank, bias=False)
        second: Any = nn.Linear(rank, module.out_features, bias=bias)
    elif isinstance(module, nn.Conv2d):
        names = ("kernel_size", "stride", "padding", "dilation")
        shape: dict[str, Any] = {name: getattr(module, name) for name in names}
        first = nn.Conv2d(module.in_channels, rank, bias=False, **shape)
        second = nn.Conv2d(rank, module.out_channels, 1, bias=bias)
    else:
        raise PruningError(f"{type(module).__name__} cannot be factorised; only Conv2d and Linear")
    with torch.no_grad():
        first.weight.copy_(unmatrix(u, first.weight.shape))
        second.weight.copy_(unmatrix(v, second.weight.shape))
        if bias:
            second.bias.copy_(module.bias)
    return nn.Sequential(first, second)


def factorise(
    model: nn.Module, layers: L.Layers, rate: float, statistics: Mapping[str, Statistics] | None = None
) -> dict[str, int]:
    """Replaces layers in place so that about `rate` of their weights are removed; returns layer -> rank.

    Ranks share one budget: the component with the most squared singular value per weight, relative
    to its layer, is kept first. A layer whose factors would not be smaller is unchanged.
    Raises PruningError for a rate outside [0, 1).
    """
    check_rate(rate)
    parts = {}
    gains, costs, owners = [], [], []
    for index, (name, module) in enumerate(layers.items()):
        weights = matrix(module.weight.detach())
        hessian = None if statistics is None else statistics[name].inputs[:-1, :-1]
        left, values, right = decompose(weights, hessian)
        parts[name] = left, right
        cost = sum(weights.shape)
        gains.append(values.square() / values.square().sum().clamp_min(1e-30) / cost)
        costs.append(torch.full_like(values, cost))
        owners.append(torch.full((len(values),), index))
    gain, cost_, owner = torch.cat(gains), torch.cat(costs), torch.cat(owners)
    order = gain.argsort(descending=True)
    total = sum(m.weight.numel() for m in layers.values())
    kept = order[cost_[order].cumsum(0) <= (1 - rate) * total]
    ranks = {}
    for index, (name, module) in enumerate(layers.items()):
        rank = max(1, int((owner[kept] == index).sum()))
        size: int = module.weight.numel()
        if rank * sum(matrix(module.weight).shape) < size:
            _replace(model, name, factorised(module, *parts[name], rank))
            ranks[name] = rank
    return ranks


def _replace(model: nn.Module, name: str, module: Any) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
