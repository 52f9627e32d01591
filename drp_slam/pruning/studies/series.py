# SPDX-License-Identifier: Apache-2.0
"""The series of the ResNet-20 study: a saliency, a pattern, layer rates, and masks by rate."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drp_slam.pruning import allocation, importance, selection, surgery
from drp_slam.pruning import prunable as L
from drp_slam.pruning.layout import kept_rows
from drp_slam.pruning.methods import LEAST

RATES, EXACT_RATES = (0.5, 0.6, 0.7, 0.8, 0.9), (0.5, 0.75, 0.875)
"""`EXACT_RATES` are those that N of 16 gives exactly, 8, 4 and 2."""
BOTH_RATES = tuple(sorted({*RATES, *EXACT_RATES}))
FEW_RATES, PACKED_RATES = (0.5, 0.7, 0.9), (*EXACT_RATES, 0.9)
BATCH_NORM, REFIT, DISTILLED = "batch norm", "refit", "distilled"
Rates = float | dict[str, float]


@dataclass(frozen=True)
class Series:
    """One curve: saliency, pattern, layer rates and recoveries.

    At the rates in `distilled` a distillation follows the refit.
    """

    method: str
    pattern: str = "unstructured"
    layer_rates: str = "magnitude"
    rates: tuple[float, ...] = RATES
    recoveries: tuple[str, ...] = (BATCH_NORM, REFIT)
    distilled: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """File name of its part of the study."""
        names = self.method, self.pattern, self.layer_rates, *self.recoveries
        return "-".join(names).replace(" ", "-")

    def wanted(self, rate: float) -> tuple[str, ...]:
        """The recoveries at this rate."""
        return (*self.recoveries, *([DISTILLED] if rate in self.distilled else []))


SERIES = (
    Series("magnitude", recoveries=(BATCH_NORM,)),
    Series("obd", recoveries=(BATCH_NORM,)),
    Series("obs", rates=BOTH_RATES, distilled=EXACT_RATES),
    Series("obs", "flexible-nm", rates=BOTH_RATES, distilled=PACKED_RATES),
    Series("obs", "fixed-nm", "uniform", BOTH_RATES, distilled=EXACT_RATES),
    Series("obs", "flexible-nm", "cycles", (0.5, 0.75, 0.9), distilled=(0.9,)),
    Series("obs", "flexible-nm", "uniform", (0.5, 0.75, 0.9), distilled=(0.9,)),
    Series("obd", layer_rates="global", rates=FEW_RATES, recoveries=(BATCH_NORM,)),
    Series("obd-network", layer_rates="global", rates=FEW_RATES, recoveries=(BATCH_NORM,)),
    Series("magnitude", rates=FEW_RATES, recoveries=(REFIT,)),
    Series("obd", rates=FEW_RATES, recoveries=(REFIT,)),
    Series("obs", layer_rates="global", rates=PACKED_RATES),
    Series("obs", "flexible-nm", "global", PACKED_RATES),
)


def layer_rates(model: nn.Module, kind: str, rate: float) -> Rates:
    """One number under one budget (`global`, `cycles`), or by layer: `uniform`, `magnitude`."""
    weights = {n: m.weight.detach() for n, m in L.prunable(model).items()}
    if kind in ("global", "cycles"):
        return rate
    if kind == "uniform":
        return allocation.uniform(weights, rate)
    return allocation.by_magnitude(weights, rate, LEAST)


def pruned(
    dense: nn.Module, series: Series, statistics: Mapping[str, importance.Statistics], positions: Mapping[str, int]
) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """A network and its masks for each rate in turn; OBS moves weights and starts from 30 %."""
    if series.method == "obs":
        model = copy.deepcopy(dense)
        ways = [layer_rates(dense, series.layer_rates, r) for r in (0.3, *series.rates)]
        steps = surgery.operate(
            L.prunable(model),
            statistics,
            ways,
            series.pattern,
            least=LEAST,
            positions=positions if series.layer_rates == "cycles" else None,
        )
        next(steps)
        for masks in steps:
            yield model, masks
        return
    for rate in series.rates:
        model = copy.deepcopy(dense)
        layers = L.prunable(model)
        values = importance.saliencies(series.method, layers, statistics)
        way = layer_rates(dense, series.layer_rates, rate)
        masks = selection.masks(values, way, series.pattern, least=LEAST)
        L.apply(layers, masks)
        yield model, masks


def cycles_share(masks: dict[str, Tensor], positions: dict[str, int]) -> float:
    """Packed cycles of the masks over those of the dense layers."""
    packed = sum(kept_rows(m).sum() * positions[n] for n, m in masks.items())
    dense = sum(kept_rows(torch.ones_like(m)).sum() * positions[n] for n, m in masks.items())
    return float(packed / dense)
