# SPDX-License-Identifier: Apache-2.0
"""Layer-wise Optimal Brain Surgeon on the layers of a network, and the fit of each afterwards.

The Hessian of a layer is that of its inputs, E[x x^T] (`obs`); the rate rises in a few rounds, more
of them in small layers, where a round costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import prunable as L
from drp_slam.pruning import selection
from drp_slam.pruning.importance import Statistics, standing
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, matrix, unmatrix
from drp_slam.pruning.obs import blocked, damped, reconstruct, solve

Progress = Callable[[str, float], None]
ROUNDS = (3, 12)
"""Fewest and most rounds; more rounds reduce the output error, beyond twelve only slightly."""
ROUNDS_WORK = 1e11
"""Work limit, K^3 Cout summed over a layer's rounds, for more than the fewest: about 3 s of one core."""


@dataclass
class Layer:
    """A layer during surgery: dense (K, C) weights, damped H, its sensitivity, and the kept weights.

    With a bias, K counts it as a last row that is never removed.
    """

    module: Any
    dense: Tensor
    hessian: Tensor
    outputs: Tensor
    support: Tensor
    weights: Tensor
    diagonal: Tensor | None = None

    @staticmethod
    def of(module: Any, s: Statistics, damping: float, block: int | None) -> Layer:
        """From the module and its statistics."""
        dense = matrix(module.weight.detach()).double()
        bias = module.bias
        size = dense.shape[0] + (bias is not None)
        if bias is not None:
            dense = torch.cat([dense, bias.detach().double()[None]])
        hessian = blocked(damped(s.inputs[:size, :size], damping), block)
        return Layer(module, dense, hessian, s.outputs, torch.ones_like(dense, dtype=torch.bool), dense.clone())

    @property
    def rows(self) -> int:
        """Rows that are weights."""
        return len(self.dense) - (self.module.bias is not None)

    def saliency(self) -> Tensor:
        """Saliency of the weight's shape, comparable between layers."""
        if self.diagonal is None:
            _, self.diagonal = solve(self.hessian @ self.dense, self.hessian, self.support)
        value = standing(0.5 * self.weights.square() / self.diagonal * self.outputs, self.support)
        return unmatrix(value[: self.rows], self.module.weight.shape)

    def cut(self, mask: Tensor, last: bool) -> None:
        """Applies a mask (of the weight's shape) and adjusts the kept weights to compensate."""
        self.support[: self.rows] &= matrix(mask)
        target = self.hessian @ self.dense
        self.weights, self.diagonal = solve(target, self.hessian, self.support, not last)

    def mask(self) -> Tensor:
        """Mask of the weight's shape."""
        return unmatrix(self.support[: self.rows], self.module.weight.shape)

    @torch.no_grad()
    def write(self) -> None:
        """Writes the weights (and the bias) into the module."""
        weight: Tensor = self.module.weight
        weight.copy_(unmatrix(self.weights[: self.rows], weight.shape))
        if self.module.bias is not None:
            self.module.bias.copy_(self.weights[-1])


def surgery(
    layers: L.Layers,
    statistics: Mapping[str, Statistics],
    rate: float | Mapping[str, float],
    pattern: str = "flexible-nm",
    *,
    rounds: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Prunes the layers in place by layer-wise OBS, one shot, no retraining; returns the masks.

    The rate rises over `rounds`, large steps first; removed weights stay removed. Without
    `rounds` each layer gets the number of `rounds_of`, spread over the whole.
    `options` are those of `operate`. Raises PruningError.
    """
    own = {name: rounds or rounds_of(module) for name, module in layers.items()}
    most = max(own.values())
    parts = [1.0 - (1.0 - step / most) ** 2 for step in range(1, most + 1)]
    if isinstance(rate, Mapping):
        rates: Sequence[Any] = [{n: r * part for n, r in rate.items()} for part in parts]
    else:
        rates = [rate * part for part in parts]
    *_, masks = operate(layers, statistics, rates, pattern, rounds=own, progress=progress, **options)
    return masks


def rounds_of(module: Any) -> int:
    """Rounds of OBS for a layer of this size: a round solves Cout systems of up to K unknowns."""
    k, outputs = matrix(module.weight).shape
    return int(min(ROUNDS[1], max(ROUNDS[0], ROUNDS_WORK / (float(k) ** 3 * outputs))))


def operate(
    layers: L.Layers,
    statistics: Mapping[str, Statistics],
    rates: Sequence[float | Mapping[str, float]],
    pattern: str,
    *,
    damping: float = 0.01,
    block: int | None = None,
    cell: Cell = DEFAULT_CELL,
    positions: Mapping[str, int] | None = None,
    least: float = 0.0,
    before: Mapping[str, Tensor] | None = None,
    rounds: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yields the masks after each rate, with the layers' weights pruned and refitted.

    Each step starts from the current weights and keeps some of those kept before, the
    first step of those in `before`. A layer with fewer `rounds` than rates is cut in that many of the
    steps, evenly spread, the last among them. Raises PruningError.
    """
    work = {n: Layer.of(m, statistics[n], damping, block) for n, m in layers.items()}
    for name, mask in (before or {}).items():
        work[name].support[: work[name].rows] &= matrix(mask)
    for step, rate in enumerate(rates):
        values = {}
        for index, (name, layer) in enumerate(work.items()):
            values[name] = layer.saliency()
            if progress:
                progress(name, (step + index / len(work)) / len(rates))
        found = selection.masks(values, rate, pattern, cell=cell, positions=positions, least=least)
        for name, layer in work.items():
            own = len(rates) if rounds is None else min(rounds[name], len(rates))
            if (step + 1) * own // len(rates) > step * own // len(rates):
                layer.cut(found[name], step + 1 == len(rates))
                layer.write()
        yield {n: layer.mask() for n, layer in work.items()}


@torch.no_grad()
def refit(
    model: nn.Module,
    dense: nn.Module,
    layers: L.Layers,
    masks: Mapping[str, Tensor],
    images: Tensor,
    *,
    damping: float = 0.01,
    batch: int = 32,
    sample: int = 512,
) -> None:
    """Refits each layer, first to last, to the inputs that the pruned network gives it.

    So later layers compensate errors of earlier ones; the target is the dense network's output of
    the same layer. Masks are kept. All images pass through the network at once, and each layer is solved when
    they reach it; `batch` and `sample` (positions of an image) bound what is unfolded.
    Raises PruningError.
    """
    twins = {name: dict(dense.named_modules())[name] for name in layers}
    wanted = _outputs(dense, twins, L.chunks(images, batch), sample)
    done: list[str] = []

    def solve_at(name: str, inputs: Tensor) -> None:
        if name in done:  # a layer that is used twice is fitted at its first use
            return
        done.append(name)
        _fit(layers[name], twins[name], masks[name], inputs.split(batch), wanted.pop(name), sample, damping)

    with ExitStack() as stack:
        for name, module in layers.items():
            handle = module.register_forward_pre_hook(
                lambda _, i, name=name: solve_at(name, i[0])  # type: ignore[misc]
            )
            stack.callback(handle.remove)
        L.forward(model, images)
    if missing := [name for name in layers if name not in done]:
        raise PruningError(f"layer {missing[0]!r} is not reached by the calibration images; spare it")


def _fit(
    module: Any, twin: Any, mask: Tensor, parts: Sequence[Tensor], wanted: Tensor, sample: int, damping: float
) -> None:
    """Solves one layer for input parts (n, ...) and the outputs (rows, Cout) they should give."""
    size = matrix(module.weight).shape[0] + (module.bias is not None)
    own, target = torch.zeros(size, size).double(), torch.zeros(size, wanted.shape[1]).double()
    first = 0
    for part in parts:
        rows = L.rows(module, part, sample).flatten(0, 1)
        rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)[:, :size]
        own += (rows.T @ rows).double()
        target += (rows.T @ wanted[first : first + len(rows)]).double()
        first += len(rows)
    solve_again(module, twin, mask, own, target, damping)


def solve_again(module: Any, twin: Any, mask: Tensor, own: Tensor, target: Tensor, damping: float) -> None:
    """Writes into `module` the weights under the mask that minimise the output error.

    `own` (K+1, K+1) is the sum of x x^T over the module's inputs, `target` (K+1, Cout) that of
    x y^T with the outputs y it should give; without a bias both end at K. The damping pulls towards
    the weights of `twin`, the dense layer.
    """
    layer = Layer.of(module, _only(own), damping, None)
    start = Layer.of(twin, _only(own), damping, None).dense
    layer.support[: layer.rows] = matrix(mask.bool())
    layer.weights = reconstruct(target + (layer.hessian - own) @ start, layer.hessian, layer.support)
    layer.write()


def _only(inputs: Tensor) -> Statistics:
    return Statistics(inputs, torch.empty(0), torch.empty(0), torch.empty(0))


def _outputs(model: nn.Module, layers: L.Layers, parts: Sequence[Tensor], sample: int) -> dict[str, Tensor]:
    """Outputs (rows, Cout) of each layer at its first use, at the sampled positions."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    for count, part in enumerate(parts, 1):

        def see(name: str, module: Any, _: Any, output: Tensor, count: int = count) -> None:
            if len(found[name]) < count:
                found[name].append(L.output_rows(module, output, sample).flatten(0, 1))

        with L.watching(layers, see):
            L.forward(model, part)
    return {name: torch.cat(pieces) for name, pieces in found.items() if pieces}
