# SPDX-License-Identifier: Apache-2.0
"""What `prune` does: read, calibrate, cut, make up for it or retrain, write FP32 and INT8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import allocation, importance, onnxnet, outcome, recovery, selection, surgery
from drp_slam.pruning import prunable as L
from drp_slam.pruning.inputs import calibration, input_shape
from drp_slam.pruning.layout import DEFAULT_CELL, Cell
from drp_slam.pruning.methods import LEAST, saliency

STATISTICS_IMAGES = 64
Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Options:
    """How to prune; the command line's options of the same names."""

    rate: float
    pattern: str = "flexible-nm"
    saliency: str = "obs"
    budget: str = "weights"
    schedule: str = "one-shot"
    layer_rates: str = "global"
    layers: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    stages: int = 4
    retrain: int = 0
    seed: int = 0
    cell: Cell = field(default=DEFAULT_CELL)


def prune(
    net: nn.Module, options: Options, images: Tensor, say: Say, checkpoint: Path | None = None
) -> dict[str, Tensor]:
    """Prunes `net` in place; returns the masks by layer.

    With `retrain`, that many steps of distillation from the dense network follow, spread over the
    schedule's stages. Raises PruningError.
    """
    layers = L.prunable(net, options.layers or None, options.spare)
    positions = L.positions(net, layers, images[:1]) if options.budget == "cycles" else None
    dense = copy.deepcopy(net).eval()
    stages = allocation.rates(options.schedule, options.rate, options.stages)
    masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}  # type: ignore[arg-type]
    for index, rate in enumerate(stages):

        def part_of(text: str, part: float, index: int = index) -> None:
            say(text, (index + 0.7 * part) / len(stages))

        if rate > 0:
            masks = _cut(net, dense, layers, masks, rate, options, images, positions, part_of)
        share = [options.retrain * done // len(stages) for done in (index, index + 1)]
        if steps := share[1] - share[0]:

            def after(step: int, loss: float, index: int = index, steps: int = steps) -> None:
                say(f"retraining, loss {loss:.4g}", (index + 0.7 + 0.3 * step / steps) / len(stages))

            recovery.retrain(net, dense, layers, masks, images, steps, options.seed, checkpoint, after)
    return masks


def prune_arrays(net: nn.Module, options: Options, images: np.ndarray, say: Say) -> None:
    """`prune` for callers without torch: `images` (n, C, H, W) float32, one thread, fixed seed."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    prune(net, options, torch.from_numpy(images), say)
    net.eval()


def _cut(
    net: nn.Module,
    dense: nn.Module,
    layers: L.Layers,
    before: Mapping[str, Tensor],
    rate: float,
    o: Options,
    images: Tensor,
    positions: Mapping[str, int] | None,
    say: Say,
) -> dict[str, Tensor]:
    """One stage: saliencies, layer rates, masks, and for OBS the weights that make up for it."""
    say("calibrating", 0.0)
    statistics, entry = None, saliency(o.saliency)
    if entry.needs:
        statistics = importance.collect(net, layers, images[:STATISTICS_IMAGES], seed=o.seed)
    if entry.decays:
        recovery.unit_decay(net, dense, layers, images, o.seed, say)
    values: dict[str, Tensor] = {}
    if not entry.moves_weights or o.layer_rates == "sensitivity":  # surgery finds its own otherwise
        values = importance.saliencies(o.saliency, layers, statistics, seed=o.seed)
        values = {name: importance.standing(v, before[name]) for name, v in values.items()}
    rates: float | dict[str, float] = rate
    if o.layer_rates == "uniform":
        rates = allocation.uniform(before, rate)
    elif o.layer_rates == "magnitude":
        rates = allocation.by_magnitude(_weights(layers), rate, LEAST)
    elif o.layer_rates == "sensitivity":
        rates = _by_sensitivity(net, layers, values, rate, o, images)
    if not entry.moves_weights:
        masks = selection.masks(values, rates, o.pattern, cell=o.cell, positions=positions, least=LEAST)
        masks = {name: mask & before[name] for name, mask in masks.items()}
        if statistics is not None:
            importance.absorb(layers, masks, statistics)
        L.apply(layers, masks)
        return masks
    assert statistics is not None
    masks = surgery.surgery(
        layers,
        statistics,
        rates,
        o.pattern,
        before=before,
        cell=o.cell,
        positions=positions,
        least=LEAST,
        progress=lambda n, part: say(f"surgery on {n}", 0.1 + 0.5 * part),
    )
    masks = {name: mask & before[name] for name, mask in masks.items()}
    surgery.refit(
        net,
        dense,
        layers,
        masks,
        images[:STATISTICS_IMAGES],
        sample=256,
        progress=lambda n, part: say(f"refitting {n}", 0.6 + 0.4 * part),
    )
    return masks


def _weights(layers: L.Layers) -> dict[str, Tensor]:
    return {name: module.weight.detach() for name, module in layers.items()}  # type: ignore[operator, union-attr, misc]


def _by_sensitivity(
    net: nn.Module, layers: L.Layers, values: Mapping[str, Tensor], rate: float, o: Options, images: Tensor
) -> dict[str, float]:
    few = images[:8]
    wanted = L.forward(net, few)

    def harm(masks: Mapping[str, Tensor]) -> float:
        kept = {name: layers[name].weight.detach().clone() for name in masks}  # type: ignore[operator, union-attr]
        L.apply(layers, masks)
        found = recovery.output_error(wanted, L.forward(net, few))
        with torch.no_grad():
            for name, weight in kept.items():
                layers[name].weight.copy_(weight)  # type: ignore[operator, union-attr]
        return found

    with torch.no_grad():
        curves = allocation.sensitivity(values, harm, o.pattern, cell=o.cell)
    sizes = {name: value.numel() for name, value in values.items()}
    return allocation.by_sensitivity(curves, sizes, rate)


def run(
    source: str,
    options: Options,
    folder: Path | None,
    out: Path,
    say: Say,
    *,
    shape: Sequence[int] | None = None,
    count: int = 100,
    int8: bool = True,
    method: str = "minmax",
    compress: bool = False,
) -> dict[str, Any]:
    """The whole command but for the chip's time; writes `<name>.onnx` and `<name>-int8.onnx`.

    Raises PruningError, and DrpAi3Error from the quantiser.
    """
    from drp_slam.drpai3.quantize import quantize

    selection.check_rate(options.rate)
    if options.stages < 1 or options.retrain < 0 or count < 1:
        raise PruningError(
            f"--stages {options.stages}, --retrain {options.retrain}, --images "
            f"{count}: expected stages and images of at least 1, retrain of at "
            "least 0"
        )
    torch.manual_seed(options.seed)
    net = onnxnet.read(source, shape).eval()
    size = input_shape(net, shape)
    layers = L.prunable(net, options.layers or None, options.spare)
    images = calibration(folder, size, count) if _needs_images(options, int8) else torch.zeros(size)
    positions = L.positions(net, layers, images[:1])
    dense = copy.deepcopy(net)
    masks = prune(net, options, images, say, out / "training.pt")
    net.eval()
    name = Path(source.rpartition(":")[2]).stem
    path = out / f"{name}-p{round(100 * options.rate):02d}.onnx"
    model = net.to_onnx()
    outcome.write(model, path)
    result: dict[str, Any] = {
        "source": source,
        "shape": list(size),
        "onnx": str(path),
        "int8": None,
        "output_error": _error(dense, net, images),
        "layers": outcome.table(layers, masks, positions, options.cell),
    }
    if int8:
        say("quantising", 1.0)
        quantised = path.with_name(f"{path.stem}-int8.onnx")
        outcome.write(quantize(model, [x[None] for x in images.numpy()], None, method), quantised)
        result["int8"] = str(quantised)
    if compress:
        say("compressing", 1.0)
        result["compressed"] = _compressed(net, dense, options, images, path, say)
    return result


def _compressed(
    net: nn.Module, dense: nn.Module, options: Options, images: Tensor, path: Path, say: Say
) -> dict[str, Any]:
    """Deep Compression; its centroids imitate the dense network for a quarter of `retrain`."""
    layers = L.prunable(net, options.layers or None, options.spare)
    steps = options.retrain // 4

    def train(small: nn.Module, tie: Callable[[], None]) -> None:
        def after(step: int, loss: float) -> None:
            tie()
            say(f"centroids, step {step} of {steps}, loss {loss:.4g}", 1.0)

        recovery.retrain(small, dense, L.prunable(small), {}, images, steps, options.seed, None, after)

    small, found = outcome.compress(net, layers, path.with_suffix(".dsdc"), train if steps else None)
    return found | {"output_error": _error(dense, small, images)}


@torch.no_grad()
def _error(dense: nn.Module, net: nn.Module, images: Tensor) -> float:
    some = images[:16]
    return recovery.output_error(L.forward(dense, some), L.forward(net, some))


def _needs_images(options: Options, int8: bool) -> bool:
    probed = options.layer_rates == "sensitivity"
    return int8 or bool(options.retrain) or probed or saliency(options.saliency).needs_images
