# SPDX-License-Identifier: Apache-2.0
"""The interface of Renesas' DRP-AI Extension Pack, so that a training script moves over.

    layers = make_pruning_layer_list(model, input_data=[images])
    pruner = Pruner(model, layers, final_pr=0.7)
    for images, labels in loader:
        pruner.update()
        ...  # forward, loss, backward, optimizer.step() as before

The pattern is flexible N:M as DRP-AI3 packs it. To go on from a pruned file:
`load_pruned_state_dict(model, state)` or `Pruner(model, layers, final_pr=0.0)` and its
`load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import allocation, importance, methods, selection
from drp_slam.pruning import prunable as L
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, density, kept_rows


def make_pruning_layer_list(model: nn.Module, input_data: Sequence[Any], spare: Iterable[str] = ()) -> list[str]:
    """Names of the layers that can be pruned and that `input_data` (the model's inputs) reaches.

    Raises PruningError where the model cannot be run or nothing is left.
    """
    layers = L.prunable(model, spare=spare)
    reached: set[str] = set()
    with L.watching(layers, lambda name, *_: reached.add(name)), torch.no_grad():
        L.forward(model, tuple(input_data))
    found = [name for name in layers if name in reached]
    if not found:
        raise PruningError("input_data reaches no layer that can be pruned; check the model")
    return found


class Pruner:
    """Keeps weights outside the masks at zero, exactly, while the user's loop trains.

    `final_pr` is the rate in [0, 1). `schedule` spreads it over the first `steps` updates
    (`one-shot`, `iterative`, `agp`); masks change every `every` updates. Raises PruningError.
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
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self._weights()}
        for name, weight in self._weights():
            weight.register_hook(lambda g, name=name: g * self.masks[name])  # type: ignore[misc]

    def _weights(self) -> list[tuple[str, Tensor]]:
        return [(n, m.weight) for n, m in self.layers.items()]  # type: ignore[misc]

    @property
    def rate(self) -> float:
        """The part that is removed now."""
        return 1.0 - density(self.masks)

    def update(self) -> float:
        """At the start of each iteration: new masks where they are due, weights outside zero.

        Returns the rate in force. A removed weight never comes back.
        """
        self.count += 1
        due = self.count <= self._steps and (self.count - 1) % self._every == 0
        if self.final_pr > 0 and (due or self.count == self._steps):
            steps = 1 if self._schedule == "one-shot" else self._steps
            wanted = allocation.rate_at(self._schedule, self.final_pr, min(self.count, steps), steps)
            values = self._values()
            found = selection.masks(values, wanted, self.pattern, cell=self._cell, least=self._least)
            self.masks = {n: self.masks[n] & mask for n, mask in found.items()}
        L.apply(self.layers, self.masks)
        return self.rate

    def _values(self) -> dict[str, Tensor]:
        if self.saliency != "taylor":
            values = importance.saliencies(self.saliency, self.layers)
        else:
            values = {n: (w.detach() if w.grad is None else w.detach() * w.grad).abs() for n, w in self._weights()}
        return {n: importance.standing(value, self.masks[n]) for n, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Masks and count, for a checkpoint."""
        return {"count": self.count, "masks": dict(self.masks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them back. Raises PruningError where the layers differ."""
        if set(state["masks"]) != set(self.masks):
            raise PruningError(
                f"the checkpoint's masks are of other layers: {sorted(set(state['masks']) ^ set(self.masks))}"
            )
        self.count, self.masks = state["count"], dict(state["masks"])
        L.apply(self.layers, self.masks)


def load_pruned_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], pruning_layer_list: Iterable[str] | None = None
) -> Pruner:
    """Loads weights and holds their zeros: a pruner whose masks are the non-zero weights.

    Raises PruningError where the state does not fit the model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise PruningError(f"the state does not fit the model: {reason}") from error
    pruner = Pruner(model, pruning_layer_list, final_pr=0.0)
    pruner.masks = {name: module.weight != 0 for name, module in pruner.layers.items()}  # type: ignore[misc]
    return pruner


def get_model_info(model: nn.Module, input_data: Sequence[Any], cell: Cell = DEFAULT_CELL) -> dict[str, Any]:
    """Parameters, zeros, MACs and packed cycles, in all and by layer."""
    layers = L.prunable(model)
    positions = L.positions(model, layers, tuple(input_data))
    rows: list[dict[str, Any]] = []
    for name, module in layers.items():
        weight: Tensor = module.weight.detach()
        mask = weight != 0
        rows.append(
            {
                "layer": name,
                "parameters": weight.numel(),
                "pruning_rate": 1.0 - float(mask.float().mean()),
                "macs": weight.numel() * positions[name],
                "cycles": int(kept_rows(mask, cell).sum()) * positions[name],
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
