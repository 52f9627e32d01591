# SPDX-License-Identifier: Apache-2.0
"""Retraining under masks: distils a pruned student from its dense teacher, without labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015. Masks are exact: a masked
weight is zero, and neither gradient nor optimiser ever moves it. A checkpoint is written at every
`keep_every` steps and training resumes from it; if the loss is not finite, the last good
checkpoint is kept and named in the error.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drp_slam.atomic import write_bytes
from drp_slam.errors import PruningError

Loss = Callable[[Any], torch.Tensor]


class MaskedTrainer:
    """AdamW with a cosine schedule over the weights of `net`, some of them masked.

    `masks` maps a parameter's name to a boolean tensor (True = kept). `fisher` is the running mean
    of squared gradients by parameter: the diagonal Hessian of OBD (LeCun et al., 1990) by the
    empirical Fisher. `memory` is further content of a checkpoint, by name.
    """

    def __init__(self, net: nn.Module, rate: float = 1e-3) -> None:
        self.net, self.rate, self.clip, self.step = net, rate, 1.0, 0
        self.masks: dict[str, torch.Tensor] = {}
        self.memory: dict[str, dict[str, Any]] = {}
        self.fisher: dict[str, torch.Tensor] = {}
        self._named = dict(net.named_parameters())
        self._optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.0)

    def mask(self, masks: Mapping[str, torch.Tensor]) -> None:
        """Sets new masks: weights and the optimiser's moments outside them become zero."""
        for name, mask in masks.items():
            if name not in self._named:
                raise PruningError(f"no parameter {name!r} to mask; known: {', '.join(self._named)}")
            self.masks[name] = mask = mask.to(torch.bool)
            parameter = self._named[name]
            with torch.no_grad():
                parameter.mul_(mask)
                for moment in self._optimiser.state.get(parameter, {}).values():
                    if moment.shape == mask.shape:
                        moment.mul_(mask)

    def learns(self, name: str) -> bool:
        """Whether a parameter is trained."""
        return self._named[name].requires_grad

    def saliency(self) -> dict[str, torch.Tensor]:
        """OBD's h w^2 / 2 of the weights of convolutions and linear layers."""
        weights = {n: p for n, p in self._named.items() if p.ndim > 1 and n in self.fisher}
        return {n: 0.5 * self.fisher[n] * p.detach() ** 2 for n, p in weights.items()}

    def update(self, loss: torch.Tensor, progress: float) -> float:
        """One optimiser step at `progress` in [0, 1) of the cosine. Raises PruningError on NaN."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PruningError(
                f"the loss is {value} at step {self.step}; lower the learning rate "
                f"(now {self.rate:g}) or check the images"
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in self._named.items():
            if parameter.grad is None:
                continue
            if name in self.masks:
                parameter.grad.mul_(self.masks[name])
            square = parameter.grad.detach() ** 2
            if name in self.fisher:
                self.fisher[name].lerp_(square, 0.02)
            else:
                self.fisher[name] = square
        nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        warm = min(1.0, (self.step + 1) / 50)
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        self._optimiser.step()
        self.step += 1
        return value

    def state(self) -> dict[str, Any]:
        """The state for `load`."""
        return {
            "net": self.net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "masks": self.masks,
            "fisher": self.fisher,
            "step": self.step,
            "memory": self.memory,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state`."""
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.masks, self.fisher = dict(state["masks"]), dict(state["fisher"])
        self.step = int(state["step"])
        for name, stored in state["memory"].items():
            self.memory[name].clear()
            self.memory[name].update(stored)


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Writes to a temporary name, then renames. Raises PruningError if it cannot be written."""
    buffer = io.BytesIO()  # torch reports a full disk as a different error
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue(), PruningError)


def fit(
    trainer: MaskedTrainer,
    batches: Iterator[Any],
    loss: Loss,
    steps: int,
    checkpoint: Path | None = None,
    keep_every: int = 200,
    after: Callable[[int, float], None] | None = None,
) -> None:
    """`steps` updates, or the remaining ones if `checkpoint` exists.

    `loss(batch)` runs student and teacher. `after(step, loss)` is called after each step and may tighten masks.
    Raises PruningError on a loss that is not finite; the last good checkpoint is kept.
    """
    if checkpoint is not None and checkpoint.is_file():
        device = next(trainer.net.parameters()).device
        trainer.load(torch.load(checkpoint, weights_only=True, map_location=device))
    while trainer.step < steps:
        try:
            value = trainer.update(loss(next(batches)), trainer.step / steps)
        except PruningError as error:
            kept = f"; last good checkpoint: {checkpoint}" if checkpoint else ""
            raise PruningError(f"{error}{kept}") from error
        if after is not None:
            after(trainer.step, value)
        if checkpoint is not None and (trainer.step % keep_every == 0 or trainer.step == steps):
            save_checkpoint(trainer.state(), checkpoint)
