# SPDX-License-Identifier: Apache-2.0
"""Optimal Brain Surgeon: remove the weight that costs least, move the rest to make up for it.

Hassibi and Stork, NIPS 1992: around a minimum with Hessian H, removing weight q costs
w_q^2 / (2 [H^-1]_qq), and the others move by -w_q / [H^-1]_qq * H^-1 e_q. `exact` does this one
weight at a time.

A layer that maps rows x to x W has, for the squared error of its output, the same H = E[x x^T]
for every output column (Optimal Brain Compression, arXiv:2208.11580). After any sequence of
surgeries the remaining weights are the minimum of the quadratic on what remains, so a layer can
be pruned in a few rounds (saliency on what remains, mask by any pattern, solve) and the solve of
each round equals the single steps it stands for. `rounds` = number of weights would be `exact`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import layers as L
from drp_slam.pruning import patterns
from drp_slam.pruning.importance import Statistics, damped
from drp_slam.pruning.layout import DEFAULT_CELL, Cell

CHUNK_BYTES = 2**27
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Surgery:
    """Weights (n,) after the surgery, which are kept (n,) bool, and the loss it cost."""

    weights: Tensor
    kept: Tensor
    loss: float


def exact(weights: Tensor, hessian: Tensor, count: int, block: int | None = None) -> Surgery:
    """Removes `count` of n weights, one at a time, each the cheapest of those left.

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
        inverse -= torch.outer(column, column) / column[q]  # H^-1 of those left, by elimination
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


def _inverse(hessian: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(hessian)
    if bool(info.any()):
        raise PruningError("the Hessian is not positive definite; use more calibration images or "
                           "more damping")  # fmt: skip
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


def solve(target: Tensor, hessian: Tensor, support: Tensor,
          diagonals: bool = True) -> tuple[Tensor, Tensor]:  # fmt: skip
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
            raise PruningError("the Hessian is not positive definite; use more calibration images "
                               "or more damping")  # fmt: skip
        where = index[real], columns[:, None].expand_as(index)[real]
        found[where] = torch.cholesky_solve(right[..., None], factor)[..., 0][real]
        if diagonals:
            inverse[where] = torch.cholesky_inverse(factor).diagonal(0, 1, 2)[real]
    return found, inverse


def _supports(support: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Columns in chunks: (columns, kept rows padded to the longest, which of them are real)."""
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


@dataclass
class Layer:
    """One layer under surgery: dense (K, C) weights, damped H, what it matters, what is kept.

    With a bias, K counts it as a last row that is never removed.
    """

    module: nn.Module
    dense: Tensor
    hessian: Tensor
    outputs: Tensor
    support: Tensor
    weights: Tensor
    diagonal: Tensor | None = None

    @staticmethod
    def of(module: nn.Module, s: Statistics, damping: float, block: int | None) -> Layer:
        """From the module and its statistics."""
        dense = L.matrix(module.weight.detach()).double()  # type: ignore[arg-type, operator, union-attr]
        bias = module.bias
        size = dense.shape[0] + (bias is not None)
        if bias is not None:
            dense = torch.cat([dense, bias.detach().double()[None]])  # type: ignore[operator, union-attr]
        hessian = blocked(damped(s.inputs[:size, :size], damping), block)
        return Layer(module, dense, hessian, s.outputs, torch.ones_like(dense, dtype=torch.bool),
                     dense.clone())  # fmt: skip

    @property
    def rows(self) -> int:
        """Rows that are weights."""
        return len(self.dense) - (self.module.bias is not None)

    def saliency(self) -> Tensor:
        """Of the weight's shape, comparable between layers."""
        if self.diagonal is None:
            _, self.diagonal = solve(self.hessian @ self.dense, self.hessian, self.support)
        value = 0.5 * self.weights.square() / self.diagonal * self.support * self.outputs
        return L.unmatrix(value[: self.rows], self.module.weight)  # type: ignore[arg-type]

    def cut(self, mask: Tensor, last: bool) -> None:
        """Keeps the mask (of the weight's shape) and moves the rest to make up for what goes."""
        self.support[: self.rows] &= L.matrix(mask)
        target = self.hessian @ self.dense
        self.weights, self.diagonal = solve(target, self.hessian, self.support, not last)

    def mask(self) -> Tensor:
        """What is kept, of the weight's shape."""
        return L.unmatrix(self.support[: self.rows], self.module.weight)  # type: ignore[arg-type]

    @torch.no_grad()
    def write(self) -> None:
        """Puts the weights (and the bias) into the module."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        weight.copy_(L.unmatrix(self.weights[: self.rows], weight))
        if self.module.bias is not None:
            self.module.bias.copy_(self.weights[-1])  # type: ignore[operator, union-attr]


def surgery(layers: L.Layers, statistics: Mapping[str, Statistics],
            rate: float | Mapping[str, float], pattern: str = "flexible-nm", *, rounds: int = 3,
            progress: Progress | None = None, **options: Any) -> dict[str, Tensor]:  # fmt: skip
    """Prunes the layers in place by layer-wise OBS, one shot, no retraining; returns the masks.

    The rate rises over `rounds`, large steps first; a weight once removed stays removed.
    `options` are those of `operate`. Raises PruningError.
    """
    parts = [1.0 - (1.0 - step / rounds) ** 2 for step in range(1, rounds + 1)]
    if isinstance(rate, Mapping):
        rates: Sequence[Any] = [{n: r * part for n, r in rate.items()} for part in parts]
    else:
        rates = [rate * part for part in parts]
    *_, masks = operate(layers, statistics, rates, pattern, progress=progress, **options)
    return masks


def operate(layers: L.Layers, statistics: Mapping[str, Statistics],
            rates: Sequence[float | Mapping[str, float]], pattern: str, *, damping: float = 0.01,
            block: int | None = None, cell: Cell = DEFAULT_CELL,
            positions: Mapping[str, int] | None = None, least: float = 0.0,
            progress: Progress | None = None) -> Iterator[dict[str, Tensor]]:  # fmt: skip
    """Yields the masks after each rate, with the layers' weights pruned and made up for.

    Each step starts from the dense weights and keeps a part of what the step before kept.
    Raises PruningError.
    """
    work = {n: Layer.of(m, statistics[n], damping, block) for n, m in layers.items()}
    for step, rate in enumerate(rates):
        values = {}
        for index, (name, layer) in enumerate(work.items()):
            values[name] = layer.saliency()
            if progress:
                progress(name, (step + index / len(work)) / len(rates))
        found = patterns.masks(values, rate, pattern, cell=cell, positions=positions, least=least)
        for name, layer in work.items():
            layer.cut(found[name], step + 1 == len(rates))
            layer.write()
        yield {n: layer.mask() for n, layer in work.items()}


class _Reached(Exception):
    """Ends a forward pass at the layer of interest."""


def refit(model: nn.Module, dense: nn.Module, layers: L.Layers, masks: Mapping[str, Tensor],
          images: Tensor, *, damping: float = 0.01, batch: int = 32, sample: int = 512,
          progress: Progress | None = None) -> None:  # fmt: skip
    """Solves each layer again, first to last, for the inputs that the pruned network gives it.

    So later layers make up for what earlier ones lost; the target is the dense network's output of
    the same layer. Masks hold. Raises PruningError.
    """
    twins = dict(dense.named_modules())
    for index, (name, module) in enumerate(layers.items()):
        if progress:
            progress(name, index / len(layers))
        size = L.matrix(module.weight).shape[0] + (module.bias is not None)  # type: ignore[arg-type]
        own, cross = torch.zeros(size, size).double(), torch.zeros(size, size).double()
        for x in L.chunks(images, batch):
            a = _rows_at(model, name, module, x, sample)[:, :size]
            b = _rows_at(dense, name, twins[name], x, sample)[:, :size]
            own += (a.T @ a).double()
            cross += (a.T @ b).double()
        layer = Layer.of(module, _only(own), damping, None)
        start = Layer.of(twins[name], _only(own), damping, None).dense
        layer.support[: layer.rows] = L.matrix(masks[name].bool())
        target = cross @ start + (layer.hessian - own) @ start
        layer.weights = reconstruct(target, layer.hessian, layer.support)
        layer.write()


def _only(inputs: Tensor) -> Statistics:
    return Statistics(inputs, torch.empty(0), torch.empty(0), torch.empty(0))


@torch.no_grad()
def _rows_at(model: nn.Module, name: str, module: nn.Module, x: Tensor, sample: int) -> Tensor:
    """Input rows of one layer with a 1 appended, (positions, K + 1)."""
    found: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Tensor]) -> None:
        rows = L.rows(module, inputs[0])
        if rows.shape[1] > sample:
            rows = rows[:, torch.linspace(0, rows.shape[1] - 1, sample).long()]
        found.append(rows.reshape(-1, rows.shape[-1]))
        raise _Reached

    handle = module.register_forward_pre_hook(stop)
    try:
        L.forward(model, x)
    except _Reached:
        return torch.cat([found[0], torch.ones(len(found[0]), 1)], 1)
    finally:
        handle.remove()
    raise PruningError(f"layer {name!r} is not reached by the calibration images; spare it")
