# SPDX-License-Identifier: Apache-2.0
"""The choices of pruning by name: patterns, schedules, layer rates, saliencies. Imports no torch.

A saliency is one entry of `SALIENCIES`; command line, sweep, figures and pruner read this table. One from
outside is named `module:NAME`. Each scores the weights of a layer, larger = keep:

magnitude  |w|                                Han et al., NeurIPS 2015 (arXiv:1506.02626)
taylor     |dL/dw w|, first order             Molchanov et al., CVPR 2019 (arXiv:1906.10771)
obd        h w^2 / 2, h = H_qq                LeCun, Denker, Solla: Optimal Brain Damage, NIPS 1989
obd-network  the same, h = d2L/dw2 of the whole network's loss
obs        w^2 / (2 [H^-1]_qq)                Hassibi, Stork: Optimal Brain Surgeon, NIPS 1992
random     control experiment
weight-decay  |w| after training with unit decay   Hanson, Pratt, NIPS 1988 (`decay`)

H of `obd` and `obs` is layer-wise (Optimal Brain Compression, arXiv:2208.11580; SparseGPT,
arXiv:2301.00774): E[x x^T] of the layer's input rows, times the mean squared gradient of each
output channel (`obs`; arXiv:1503.05671) or of the layer (`obd`), so that layers can be compared.
The bias is part of the layer: the mean contribution of a removed weight is added to it
(`importance.absorb`), and h is the variance of the input, not its square.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drp_slam.errors import PruningError

PATTERNS = ("flexible-nm", "unstructured", "fixed-nm", "filter", "channel", "shape")
SCHEDULES = ("one-shot", "iterative", "agp")
LAYER_RATES = ("global", "uniform", "magnitude", "sensitivity")
BUDGETS = ("weights", "cycles")
LEAST = 0.02
"""Share of its weights that every layer keeps in any case: a layer without weights disconnects the network."""


@dataclass(frozen=True)
class Scored:
    """The input of a saliency: one layer, with float64 torch tensors.

    `weights` (K, Cout); `statistics` an `importance.Statistics` or None; `biased` whether the layer
    has a bias; `damping` relative to the mean of the Hessian's diagonal; `generator` of torch.
    """

    weights: Any
    statistics: Any
    biased: bool
    damping: float
    generator: Any


@dataclass(frozen=True)
class Saliency:
    """`score(layer)` gives (K, Cout), >= 0. `needs` names the fields of `importance.Statistics` that it reads.

    `moves_weights`: the remaining weights are refitted after each cut (`surgery`).
    `decays`: the network is first trained with unit decay (`recovery.unit_decay`).
    """

    name: str
    score: Callable[[Scored], Any]
    needs: tuple[str, ...] = ()
    moves_weights: bool = False
    decays: bool = False

    @property
    def needs_images(self) -> bool:
        """Whether calibration images are needed."""
        return bool(self.needs) or self.decays

    @property
    def needs_gradients(self) -> bool:
        """Whether the network must be differentiated."""
        return bool({"diagonal", "first"} & set(self.needs)) or self.decays


def _magnitude(layer: Scored) -> Any:
    return layer.weights.abs()


def _taylor(layer: Scored) -> Any:
    return (layer.statistics.first * layer.weights).abs()


def _obd(layer: Scored) -> Any:
    s = layer.statistics
    h = (s.centred() if layer.biased else s).inputs.diagonal()[:-1].clamp_min(0.0)
    return 0.5 * s.outputs.mean() * h[:, None] * layer.weights.square()


def _obd_network(layer: Scored) -> Any:
    return 0.5 * layer.statistics.diagonal * layer.weights.square()


def _obs(layer: Scored) -> Any:
    from drp_slam.pruning.obs import damped

    s = layer.statistics
    inverse = damped(s.inputs[:-1, :-1], layer.damping).inverse()
    return 0.5 * s.outputs * layer.weights.square() / inverse.diagonal()[:, None]


def _random(layer: Scored) -> Any:
    import torch

    return torch.rand(layer.weights.shape, generator=layer.generator, dtype=layer.weights.dtype)


SALIENCIES = {
    saliency.name: saliency
    for saliency in (
        Saliency("magnitude", _magnitude),
        Saliency("taylor", _taylor, ("first",)),
        Saliency("obd", _obd, ("inputs", "outputs")),
        Saliency("obd-network", _obd_network, ("diagonal",)),
        Saliency("obs", _obs, ("inputs", "outputs"), moves_weights=True),
        Saliency("random", _random),
        Saliency("weight-decay", _magnitude, decays=True),
    )
}


def saliency(name: str) -> Saliency:
    """The entry of that name, or the `Saliency` of `module:NAME`. Raises PruningError."""
    if name in SALIENCIES:
        return SALIENCIES[name]
    module, colon, entry = name.partition(":")
    if not colon:
        raise PruningError(f"saliency {name!r} is unknown; one of {', '.join(SALIENCIES)}, or module:NAME from outside")
    try:
        found = getattr(importlib.import_module(module), entry)
    except (ImportError, AttributeError) as error:
        raise PruningError(f"saliency {name!r} cannot be imported: {error}") from error
    if not isinstance(found, Saliency):
        raise PruningError(f"saliency {name!r} is {type(found).__name__}, expected drp_slam.pruning.methods.Saliency")
    return found
