# SPDX-License-Identifier: Apache-2.0
"""The layers of a torch network that can be pruned, and the rows of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError

Layers = Mapping[str, Any]
"""Layer name -> module with a weight and a bias or None."""


def can_prune(module: Any) -> bool:
    """Ordinary convolutions and linear layers; grouped ones do not pack on DRP-AI3."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return module.groups == 1 and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def prunable(model: nn.Module, names: Iterable[str] | None = None, spare: Iterable[str] = ()) -> dict[str, Any]:
    """Layer name -> module, in the order of definition: all that can be pruned, or the named ones.

    Raises PruningError: an unknown name, a layer that cannot be pruned, or none left.
    """
    modules = dict(model.named_modules())
    usable = [name for name, module in modules.items() if can_prune(module)]
    spared = set(spare)
    for name in [*(names or ()), *spared]:
        if name not in modules:
            raise PruningError(
                f"no layer {name!r} in the model; layers that can be pruned: {', '.join(usable) or 'none'}"
            )
        if name not in usable and name not in spared:
            raise PruningError(
                f"layer {name!r} ({_describe(modules[name])}) cannot be pruned; "
                "only Conv1d and Conv2d with groups=1 and Linear can"
            )
    chosen = {n: modules[n] for n in (names or usable) if n not in spared}
    if not chosen:
        raise PruningError(
            "no layer left to prune; spare fewer, or check that the model has convolutions (groups=1) or Linear layers"
        )
    return chosen


def _describe(module: Any) -> str:
    groups = getattr(module, "groups", 1)
    return type(module).__name__ + (f", groups={groups}" if groups != 1 else "")


def positions(model: nn.Module, layers: Layers, inputs: Any, all_reached: bool = True) -> dict[str, int]:
    """Output positions (H x W, 1 for linear) of each layer that these inputs reach.

    Raises PruningError where the model cannot be run or, with `all_reached`, a layer is not reached.
    """
    found: dict[str, int] = {}

    def note(name: str, module: Any, _: Any, output: Tensor) -> None:
        count = 1 if isinstance(module, nn.Linear) else output.shape[2:].numel()
        found[name] = found.get(name, 0) + count

    with watching(layers, note), torch.no_grad():
        forward(model, inputs)
    if all_reached and (missing := [name for name in layers if name not in found]):
        raise PruningError(
            f"layer {missing[0]!r} is not reached by the example input; spare it or give an input that uses it"
        )
    return found


def forward(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs in evaluation mode, for one input, a sequence of them or a dict by keyword.

    Raises PruningError where it cannot be run.
    """
    was = model.training
    model.eval()
    try:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        given = (
            inputs.values()
            if isinstance(inputs, Mapping)
            else inputs
            if isinstance(inputs, (tuple, list))
            else [inputs]
        )
        shapes = ", ".join(str(tuple(x.shape)) for x in given if isinstance(x, Tensor))
        reason = str(error).splitlines()[0]
        raise PruningError(f"the model cannot be run on an input of shape {shapes}: {reason}") from error
    finally:
        model.train(was)


@contextmanager
def watching(layers: Layers, see: Callable[[str, nn.Module, Any, Tensor], None]) -> Any:
    """Calls `see(name, module, inputs, output)` after each forward of each layer."""
    with ExitStack() as stack:
        for name, module in layers.items():
            handle = module.register_forward_hook(
                lambda m, i, o, name=name: see(name, m, i[0], o)  # type: ignore[misc]
            )
            stack.callback(handle.remove)
        yield


def rows(module: Any, inputs: Tensor, sample: int | None = None) -> Tensor:
    """The inputs of each output position of the layer: (N, L, K), K ordered kh, kw, cin.

    `sample`: at most this many positions, evenly spaced; only those are copied.
    """
    if isinstance(module, nn.Linear):
        return sampled(inputs.reshape(inputs.shape[0], -1, inputs.shape[-1]), sample)
    assert isinstance(module, (nn.Conv1d, nn.Conv2d)) and not isinstance(module.padding, str)
    kernel, stride, dilation, padding = module.kernel_size, module.stride, module.dilation, module.padding
    if isinstance(module, nn.Conv1d):
        inputs, kernel, padding = inputs[:, :, None], (1, *kernel), (0, *padding)
        stride, dilation = (1, *stride), (1, *dilation)
    (kh, kw), (sy, sx), (dy, dx), (py, px) = kernel, stride, dilation, padding  # type: ignore[misc]
    x = nn.functional.pad(inputs, (px, px, py, py))
    seen = x.unfold(2, dy * (kh - 1) + 1, sy).unfold(3, dx * (kw - 1) + 1, sx)[..., ::dy, ::dx]
    n, cin, height, width = seen.shape[:4]
    at = places(height * width, sample)
    picked = seen[:, :, at // width, at % width]  # (N, cin, L, kh, kw)
    return picked.permute(0, 2, 3, 4, 1).reshape(n, len(at), kh * kw * cin)


def places(count: int, sample: int | None) -> Tensor:
    """At most `sample` of `count` positions, evenly spaced."""
    if sample is None or count <= sample:
        return torch.arange(count)
    return torch.linspace(0, count - 1, sample).long()


def sampled(found: Tensor, sample: int | None) -> Tensor:
    """(N, L, K) at the places of `rows`."""
    if sample is None or found.shape[1] <= sample:
        return found
    return found[:, places(found.shape[1], sample)]


def output_rows(module: Any, output: Tensor, sample: int | None = None) -> Tensor:
    """An output (or its gradient) as (N, L, Cout), at the places of `rows`."""
    if isinstance(module, nn.Linear):
        return sampled(output.reshape(output.shape[0], -1, output.shape[-1]), sample)
    return sampled(output.flatten(2).transpose(1, 2), sample)


def apply(layers: Layers, masks: Mapping[str, Tensor]) -> None:
    """Sets the weights outside the masks to zero."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight: Tensor = layers[name].weight
            weight.mul_(mask.to(weight.dtype))


def chunks(items: Tensor, size: int) -> Sequence[Tensor]:
    """The first dimension in pieces. Raises PruningError without images."""
    if len(items) == 0:
        raise PruningError("no calibration image; give at least one (100 to 500 are usual)")
    return items.split(size)
