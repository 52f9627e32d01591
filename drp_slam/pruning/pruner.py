# SPDX-License-Identifier: Apache-2.0
"""The interface of Renesas' DRP-AI Extension Pack, so that a training script can be ported.

    layers = make_pruning_layer_list(model, input_data=[images])
    pruner = Pruner(model, layers, final_pr=0.7)
    for images, labels in loader:
        pruner.update()
        ...  # forward, loss, backward, optimizer.step() as before

The pattern is flexible N:M as DRP-AI3 packs it; `weight_mask` keeps the masks. To continue from a
pruned file: `load_pruned_state_dict(model, state)`, or `Pruner(model, layers, final_pr=0.0)` and
then `model.load_state_dict`. Scripts written for Renesas' package import `extension_pack` instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import allocation, importance, methods, selection
from drp_slam.pruning import prunable as L
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, density, kept_rows
from drp_slam.pruning.weight_mask import attach_mask


def make_pruning_layer_list(
    model: nn.Module, input_data: Any = None, spare: Iterable[str] = (), *, input_size: Any = None
) -> list[str]:
    """Names of the layers that can be pruned and that the model's inputs reach.

    `input_data`: a tensor, a list of the positional inputs, or a dict of inputs by keyword.
    `input_size`: their shapes instead, filled at random, such as [(1, 3, 224, 224)].
    Raises PruningError where the model cannot be run or nothing is left.
    """
    layers = L.prunable(model, spare=spare)
    reached = L.positions(model, layers, example(model, input_data, input_size), all_reached=False)
    if not reached:
        raise PruningError("input_data reaches no layer that can be pruned; check the model")
    return [name for name in layers if name in reached]


def example(model: nn.Module, input_data: Any, input_size: Any) -> Any:
    """The inputs as `model` takes them, from either argument; shapes given as `input_data` count as sizes."""
    if input_data is not None and not isinstance(input_data, (Tensor, Mapping)):
        parts = list(input_data)
        if all(isinstance(p, int) for p in parts):
            parts = [parts]
        if all(isinstance(p, (tuple, list, torch.Size)) and all(isinstance(n, int) for n in p) for p in parts):
            input_size = parts
    elif input_data is not None:
        return input_data if isinstance(input_data, Mapping) else (input_data,)
    if input_size is None:
        if input_data is None:
            raise PruningError("give input_data (tensors) or input_size (shapes), such as [(1, 3, 224, 224)]")
        return tuple(input_data)
    shapes = [input_size] if isinstance(input_size[0], int) else input_size
    parameter = next(model.parameters())
    return tuple(torch.rand(*shape, dtype=parameter.dtype, device=parameter.device) for shape in shapes)


class Pruner:
    """Keeps weights outside the masks exactly at zero in the user's training loop.

    `final_pr` is the rate in [0, 1); 0 uses the zeros of weights that are loaded later as
    masks. `schedule_name` spreads the rate over the first `steps` updates (`iterative`, `agp`), with
    new masks every `every` updates; `one-shot` prunes immediately, or at the first update if
    the saliency needs gradients. Raises PruningError.
    """

    def __init__(
        self,
        model: nn.Module,
        pruning_layer_list: Iterable[str] | None = None,
        final_pr: float = 0.7,
        *,
        pattern: str = "flexible-nm",
        saliency: str = "magnitude",
        schedule_name: str = "one-shot",
        steps: int = 1,
        every: int = 1,
        cell: Cell = DEFAULT_CELL,
        least: float = methods.LEAST,
    ) -> None:
        selection.check_rate(final_pr, "final_pr")
        if not set(methods.saliency(saliency).needs) <= {"first"}:
            raise PruningError(
                f"saliency {saliency!r} needs calibration images; in training use "
                "magnitude, taylor (from the last gradient) or random"
            )
        names = None if pruning_layer_list is None else list(pruning_layer_list)
        self.layers = L.prunable(model, names)
        self.final_pr, self.pattern, self.saliency = final_pr, pattern, saliency
        self._schedule, self._steps, self._every = schedule_name, steps, every
        self._cell, self._least, self.count = cell, least, 0
        self._masks_on = {name: attach_mask(module) for name, module in self.layers.items()}
        for own in self._masks_on.values():
            own.follows_zeros = final_pr == 0.0
        if final_pr > 0 and schedule_name == "one-shot" and not methods.saliency(saliency).needs:
            self._cut(final_pr)

    @property
    def masks(self) -> dict[str, Tensor]:
        """Layer -> bool tensor of the weight's shape, True = kept."""
        return {name: own.mask for name, own in self._masks_on.items()}

    def _put(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            self._masks_on[name].mask = mask
            self._masks_on[name].apply(self.layers[name])

    def _cut(self, rate: float) -> None:
        """Masks of `rate`; removed weights are never restored."""
        found = selection.masks(self._values(), rate, self.pattern, cell=self._cell, least=self._least)
        self._put({name: self.masks[name] & mask for name, mask in found.items()})

    @property
    def rate(self) -> float:
        """The share of weights removed so far."""
        return 1.0 - density(self.masks)

    def update(self) -> float:
        """Called at the start of each iteration: updates the masks when due, zeroes weights outside them.

        Returns the current rate. Removed weights are never restored.
        """
        self.count += 1
        due = self.count <= self._steps and (self.count - 1) % self._every == 0
        if self.final_pr > 0 and (due or self.count == self._steps):
            steps = 1 if self._schedule == "one-shot" else self._steps
            self._cut(allocation.rate_at(self._schedule, self.final_pr, min(self.count, steps), steps))
        self._put(self.masks)
        return self.rate

    def _values(self) -> dict[str, Tensor]:
        if self.saliency != "taylor":
            values = importance.saliencies(self.saliency, self.layers)
        else:
            weights = {name: module.weight for name, module in self.layers.items()}
            values = {n: (w.detach() if w.grad is None else w.detach() * w.grad).abs() for n, w in weights.items()}
        return {n: importance.standing(value, self.masks[n]) for n, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Masks and count, for a checkpoint."""
        return {"count": self.count, "masks": self.masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a checkpoint. Raises PruningError if the layers differ."""
        if set(state["masks"]) != set(self.masks):
            raise PruningError(
                f"the checkpoint has masks of other layers: {sorted(set(state['masks']) ^ set(self.masks))}"
            )
        self.count = state["count"]
        self._put(state["masks"])


def load_pruned_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], pruning_layer_list: Iterable[str] | None = None
) -> Pruner:
    """Loads weights and keeps their zeros: a pruner whose masks are the non-zero weights.

    Raises PruningError if the state does not fit the model.
    """
    pruner = Pruner(model, pruning_layer_list, final_pr=0.0)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise PruningError(f"the state does not fit the model: {reason}") from error
    return pruner


def deepcopy_model(model: nn.Module) -> nn.Module:
    """A copy that shares the pruner's masks, also after updates: for an average of the weights (EMA)."""
    return copy.deepcopy(model)


def get_model_info(
    model: nn.Module, input_data: Any = None, cell: Cell = DEFAULT_CELL, *, input_size: Any = None
) -> dict[str, Any]:
    """Parameters, zeros, MACs and packed cycles, in total and by layer; inputs as `make_pruning_layer_list`.

    Without layers that the inputs do not reach. Raises PruningError.
    """
    layers = L.prunable(model)
    positions = L.positions(model, layers, example(model, input_data, input_size), all_reached=False)
    rows: list[dict[str, Any]] = []
    for name, count in positions.items():
        weight: Tensor = layers[name].weight.detach()
        mask = weight != 0
        rows.append(
            {
                "layer": name,
                "parameters": weight.numel(),
                "pruning_rate": 1.0 - float(mask.float().mean()),
                "macs": weight.numel() * count,
                "cycles": int(kept_rows(mask, cell).sum()) * count,
            }
        )
    total = sum(row["parameters"] for row in rows)
    zeros = sum(row["pruning_rate"] * row["parameters"] for row in rows)
    return {
        "layers": rows,
        "parameters": total,
        "pruning_rate": zeros / max(total, 1),
        "macs": sum(r["macs"] for r in rows),
        "cycles": sum(r["cycles"] for r in rows),
    }
