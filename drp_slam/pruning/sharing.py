# SPDX-License-Identifier: Apache-2.0
"""Weight sharing: k-means of a layer's weights, with centroids that are trained afterwards.

Han, Mao, Dally, ICLR 2016 (arXiv:1510.00149), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from drp_slam.pruning import prunable as L

CONV_BITS, LINEAR_BITS = 8, 5
"""Bits of an index in the paper's AlexNet and VGG-16."""


@dataclass(frozen=True)
class Shared:
    """Weight sharing of one tensor: `codebook` (k,) float32, `index` int64 of each non-zero."""

    codebook: np.ndarray
    index: np.ndarray


def share(values: np.ndarray, bits: int, iterations: int = 50) -> Shared:
    """k-means of (n,) float values into at most 2**bits, starting from linearly spaced ones.

    Linear starts keep the few large weights well represented (section 3.2). A centroid never is
    zero, since zero means pruned.
    """
    values = values.astype(np.float64)
    unique = np.unique(values)
    if len(unique) <= 2**bits:
        return Shared(unique.astype(np.float32), np.searchsorted(unique, values))
    centres = np.linspace(values.min(), values.max(), 2**bits)
    for _ in range(iterations):
        index = _nearest(centres, values)
        counts = np.bincount(index, minlength=len(centres))
        sums = np.bincount(index, values, minlength=len(centres))
        moved = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    index = _nearest(centres, values)
    used = np.unique(index)
    book = centres[used].astype(np.float32)
    book[book == 0] = np.finfo(np.float32).tiny
    return Shared(book, np.searchsorted(used, index))


def _nearest(centres: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.searchsorted(0.5 * (centres[1:] + centres[:-1]), values)


def share_and_train(
    net: nn.Module, bits: tuple[int, int], fit: Callable[[Callable[[], None]], None], names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Shared]]:
    """Ties the non-zero weights of each layer to a codebook and trains the centroids.

    `bits`: of convolutions and of linear layers. `names`: the layers, None for all. `fit(after)`
    trains; after each step every weight is set to the mean of its cluster, so that a centroid takes
    the mean of its members' steps (Han et al. 2016, section 3.3, sum the gradients instead).
    Returns the state and the sharing, ready for `deepcompression.encode`.
    """
    layers = L.prunable(net, names)
    shared, index = {}, {}
    for name, module in layers.items():
        weight: Tensor = module.weight
        values = weight.detach().numpy()
        shared[name] = share(values[values != 0], bits[0] if weight.ndim == 4 else bits[1])
        index[name] = weight.detach() != 0, torch.from_numpy(shared[name].index)

    @torch.no_grad()
    def tie() -> None:
        for name, module in layers.items():
            kept, owner = index[name]
            weight: Tensor = module.weight
            k = len(shared[name].codebook)
            sums = torch.zeros(k).index_add_(0, owner, weight[kept])
            book = sums / torch.bincount(owner, minlength=k).clamp_min(1)
            book[book == 0] = torch.finfo(torch.float32).tiny
            weight.zero_()
            weight[kept] = book[owner]

    tie()
    fit(tie)
    state = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    for name in layers:
        kept, owner = index[name]
        book = np.zeros(len(shared[name].codebook), np.float32)
        book[owner.numpy()] = state[f"{name}.weight"][kept.numpy()]
        shared[name] = Shared(book, owner.numpy())
    return state, {f"{name}.weight": s for name, s in shared.items()}
