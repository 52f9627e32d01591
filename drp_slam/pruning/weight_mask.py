# SPDX-License-Identifier: Apache-2.0
"""Masks attached to layers, which keep zeros under any training loop.

A mask is applied after every optimizer step, before every forward pass, after weights are loaded and
before they are saved. So momentum, weight decay, optimizer state from before pruning, averaged
copies (EMA) and mixed precision cannot change removed weights, and saved weights are exactly sparse.
Names of parameters do not change. A deep copy of the network shares the masks.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class WeightMask:
    """The mask of one layer; True = kept. `follows_zeros`: loaded weights set the mask by their zeros."""

    def __init__(self, mask: Tensor) -> None:
        self.mask, self.follows_zeros = mask, False

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightMask:
        return self

    def apply(self, module: Any, *_: Any) -> None:
        """Sets the weights outside the mask to zero. Bypasses autograd: a network may run twice before backward."""
        if torch.compiler.is_compiling():
            return  # for a compiled network the optimizer's hook does it
        if self.mask.device != module.weight.device:
            self.mask = self.mask.to(module.weight.device)
        module.weight.data.mul_(self.mask)

    def loaded(self, module: Any, _: Any) -> None:
        """Called after `load_state_dict`."""
        if self.follows_zeros:
            self.mask = module.weight.detach() != 0
        self.apply(module)

    def gradient(self, gradient: Tensor) -> Tensor:
        """Masks gradients, so that clipping by norm and momentum ignore removed weights."""
        return gradient * self.mask


def mask_of(module: nn.Module) -> WeightMask | None:
    """The mask that a layer carries."""
    hooks = (getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values())
    return next((owner for owner in hooks if isinstance(owner, WeightMask)), None)


def attach_mask(module: Any) -> WeightMask:
    """The layer's mask; attaches one that keeps everything if it had none."""
    found = mask_of(module)
    if found is None:
        found = WeightMask(torch.ones_like(module.weight, dtype=torch.bool))
        module.register_forward_pre_hook(found.apply)
        module.register_state_dict_pre_hook(found.apply)
        module.register_load_state_dict_post_hook(found.loaded)
        if module.weight.requires_grad:
            module.weight.register_hook(found.gradient)
        _MASKED.add(module)
    return found


_MASKED: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Layers with a mask: global, as torch's hook covers all optimizers of the process."""


def _after_each_step(optimizer: Optimizer, *_: Any) -> None:
    """Applies the masks after a step of any optimizer that holds their layers' weights."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for module in _MASKED:
        if id(module.weight) in own and (found := mask_of(module)) is not None:
            found.apply(module)


register_optimizer_step_post_hook(_after_each_step)
