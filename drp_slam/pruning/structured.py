# SPDX-License-Identifier: Apache-2.0
"""Removes whole filters and everything that depends on them, so that the network becomes smaller.

The dependency graph (Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900) is torch-pruning's: a
filter is removed together with its batch norm, the inputs of the layers after it, and everything that an
addition ties to it. The saliency of a group is the sum over its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError, pip_install
from drp_slam.pruning import prunable as L
from drp_slam.pruning.selection import check_rate


def remove_filters(
    model: nn.Module,
    example: Tensor,
    rate: float,
    saliency: Mapping[str, Tensor],
    spare: tuple[str, ...] = (),
    round_to: int = 1,
) -> dict[str, float]:
    """Removes the filters of least saliency in place, under one rate for all channels.

    `saliency`: layer -> tensor of the weight's shape (see `importance.saliencies`). Layers in
    `spare` (such as the last, whose outputs have a meaning) keep all filters. `round_to` keeps
    channel counts multiples. Returns parameters and MACs, each before and after.
    Raises PruningError: a rate outside [0, 1), a model that cannot be traced, torch-pruning absent.
    """
    check_rate(rate)
    try:
        import torch_pruning as tp
    except ImportError as error:
        raise PruningError(f"structured pruning needs torch-pruning; {pip_install('drp_slam[prune]')}") from error
    layers = L.prunable(model)
    owner = {module: saliency[name] for name, module in layers.items() if name in saliency}

    def worth(group: object) -> Tensor | None:
        total: Tensor | None = None
        for dependency, indices in group:  # type: ignore[attr-defined]
            tensor = owner.get(dependency.target.module)
            if tensor is None:
                continue
            outputs = dependency.handler in (tp.prune_conv_out_channels, tp.prune_linear_out_channels)
            each = tensor.transpose(0, 0 if outputs else 1).flatten(1).sum(1)
            if max(indices) < len(each) and len(set(indices)) == len(indices):
                part = each[indices]
                total = part if total is None or len(total) != len(part) else total + part
        return total

    before = tp.utils.count_ops_and_params(model, example)
    try:
        pruner = tp.pruner.BasePruner(
            model,
            example,
            importance=worth,
            global_pruning=False,
            pruning_ratio=rate,
            round_to=round_to,
            ignored_layers=[layers[n] for n in L.prunable(model, spare)] if spare else [],
        )
        pruner.step()
        with torch.no_grad():
            L.forward(model, example)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise PruningError(
            f"the model cannot be traced for structured pruning: {str(error).splitlines()[0]}"
        ) from error
    after = tp.utils.count_ops_and_params(model, example)
    return {
        "macs_before": float(before[0]),
        "macs_after": float(after[0]),
        "parameters_before": float(before[1]),
        "parameters_after": float(after[1]),
    }
