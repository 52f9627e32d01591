# SPDX-License-Identifier: Apache-2.0
"""What `prune` does: read, calibrate, cut, make up for it or retrain, write FP32 and INT8."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import images as photographs
from drp_slam.pruning import importance, obs, onnxnet, patterns, recovery, schedule
from drp_slam.pruning import layers as L
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, kept_rows

DYNAMIC_SIDES = (256, 320)
"""H and W used where the file leaves them open and no shape is given."""
STATISTICS_IMAGES = 64
LEAST = 0.02
"""Part of its weights that every layer keeps in any case: a layer without weights cuts the net."""
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


def calibration(folder: Path | None, shape: Sequence[int], count: int) -> Tensor:
    """(n, C, H, W) float32. One channel: zero mean, unit variance an image; three: RGB in [0, 1].

    Raises PruningError where there is no image.
    """
    if folder is None:
        raise PruningError("no calibration image: give --calibration DIR with 100 to 500 images")
    _, channels, height, width = shape
    if channels not in (1, 3):
        raise PruningError(
            f"calibration makes images of 1 or 3 channels; the network takes {channels}"
        )
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in photographs.SUFFIXES)
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
        if image is None:
            raise PruningError(
                f"{file}: not an image that OpenCV reads; remove it or copy it again"
            )
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if channels == 1:
            found.append(photographs.normalised(image)[0])
        else:
            found.append(image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255.0)
    if not found:
        raise PruningError(f"--calibration {folder}: no image below it; give 100 to 500 images")
    return torch.from_numpy(np.ascontiguousarray(np.stack(found)))


def input_shape(net: onnxnet.OnnxNet, given: Sequence[int] | None) -> tuple[int, ...]:
    """(1, C, H, W) of the file, or as given. Raises PruningError where it stays open."""
    value = next(i for i in net.model.graph.input if i.name == net.inputs[0])
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if given is not None:
        dims = list(given)
    if len(dims) != 4:
        raise PruningError(f"the input has {len(dims)} axes, expected 4 (1, C, H, W); give --shape")
    shape = [1, dims[1], dims[2] or DYNAMIC_SIDES[0], dims[3] or DYNAMIC_SIDES[1]]
    if min(shape) < 1:
        raise PruningError(f"the input's shape {dims} is open; give --shape 1,C,H,W")
    return tuple(shape)


def prune(net: nn.Module, options: Options, images: Tensor, say: Say,
          checkpoint: Path | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Prunes `net` in place; returns the masks by layer.

    With `retrain`, that many steps of distillation from the dense network follow, spread over the
    schedule's stages. Raises PruningError.
    """
    layers = L.prunable(net, options.layers or None, options.spare)
    positions = L.positions(net, layers, images[:1]) if options.budget == "cycles" else None
    dense = copy.deepcopy(net).eval()
    stages = schedule.rates(options.schedule, options.rate, options.stages)
    masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}  # type: ignore[arg-type]
    for index, rate in enumerate(stages):

        def part_of(text: str, part: float, index: int = index) -> None:
            say(text, (index + 0.7 * part) / len(stages))

        if rate > 0:
            masks = _cut(net, dense, layers, masks, rate, options, images, positions, part_of)
        if steps := options.retrain // len(stages):

            def after(step: int, loss: float, index: int = index, steps: int = steps) -> None:
                say(
                    f"retraining, loss {loss:.4g}", (index + 0.7 + 0.3 * step / steps) / len(stages)
                )

            recovery.retrain(
                net, dense, layers, masks, images, steps, options.seed, checkpoint, after
            )
    return masks


def prune_arrays(net: nn.Module, options: Options, images: np.ndarray, say: Say) -> None:
    """`prune` for callers without torch: `images` (n, C, H, W) float32, one thread, fixed seed."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    prune(net, options, torch.from_numpy(images), say)
    net.eval()


def _cut(net: nn.Module, dense: nn.Module, layers: L.Layers, before: Mapping[str, Tensor],
         rate: float, o: Options, images: Tensor, positions: Mapping[str, int] | None,
         say: Say) -> dict[str, Tensor]:  # fmt: skip
    """One stage: saliencies, layer rates, masks, and for OBS the weights that make up for it."""
    say("calibrating", 0.0)
    statistics = None
    if o.saliency in ("taylor", "obd", "obs"):
        statistics = importance.collect(net, layers, images[:STATISTICS_IMAGES], seed=o.seed)
    if o.saliency == "weight-decay":
        recovery.unit_decay(net, dense, layers, images, o.seed, say)
    values: dict[str, Tensor] = {}
    if o.saliency != "obs" or o.layer_rates == "sensitivity":  # surgery finds its own otherwise
        values = importance.saliencies(o.saliency, layers, statistics, seed=o.seed)
        values = {name: value * before[name] for name, value in values.items()}
    rates: float | dict[str, float] = rate
    if o.layer_rates == "uniform":
        rates = schedule.uniform(before, rate)
    elif o.layer_rates == "sensitivity":
        rates = _by_sensitivity(net, layers, values, rate, o, images)
    if o.saliency != "obs":
        masks = patterns.masks(
            values, rates, o.pattern, cell=o.cell, positions=positions, least=LEAST
        )
        masks = {name: mask & before[name] for name, mask in masks.items()}
        L.apply(layers, masks)
        return masks
    assert statistics is not None
    masks = obs.surgery(
        layers, statistics, rates, o.pattern, cell=o.cell, positions=positions, least=LEAST,
        progress=lambda n, part: say(f"surgery on {n}", 0.1 + 0.5 * part))  # fmt: skip
    masks = {name: mask & before[name] for name, mask in masks.items()}
    obs.refit(net, dense, layers, masks, images[:STATISTICS_IMAGES], sample=256,
              progress=lambda n, part: say(f"refitting {n}", 0.6 + 0.4 * part))  # fmt: skip
    return masks


def _by_sensitivity(net: nn.Module, layers: L.Layers, values: Mapping[str, Tensor], rate: float,
                    o: Options, images: Tensor) -> dict[str, float]:  # fmt: skip
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
        curves = schedule.sensitivity(values, harm, o.pattern, cell=o.cell)
    sizes = {name: value.numel() for name, value in values.items()}
    return schedule.by_sensitivity(curves, sizes, rate)


def table(layers: L.Layers, masks: Mapping[str, Tensor], positions: Mapping[str, int],
          cell: Cell) -> list[dict[str, Any]]:  # fmt: skip
    """One row a layer: shape, rate, mean N and packed cycles beside dense ones."""
    rows = []
    for name, mask in masks.items():
        n, full = kept_rows(mask, cell), kept_rows(torch.ones_like(mask), cell)
        rows.append({
            "layer": name, "shape": list(mask.shape), "rate": 1.0 - float(mask.float().mean()),
            "mean_n": float(n.mean()), "cycles": int(n.sum()) * positions[name],
            "dense_cycles": int(full.sum()) * positions[name],
        })  # fmt: skip
    return rows


def write(model: onnx.ModelProto, path: Path) -> None:
    """Under a temporary name first. Raises PruningError where the disk refuses."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(model.SerializeToString())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PruningError(f"{path}: cannot write: {error.strerror}; what was there is kept"
                           ) from error  # fmt: skip


def run(source: str, options: Options, folder: Path | None, out: Path, say: Say, *,
        shape: Sequence[int] | None = None, count: int = 100, int8: bool = True,
        method: str = "minmax", compress: bool = False) -> dict[str, Any]:  # fmt: skip
    """The whole command but for the chip's time; writes `<name>.onnx` and `<name>-int8.onnx`.

    Raises PruningError, and DrpAi3Error from the quantiser.
    """
    from drp_slam.drpai3.quantize import quantize

    patterns.check_rate(options.rate)
    torch.manual_seed(options.seed)
    net = onnxnet.read(source, shape).eval()
    size = input_shape(net, shape)
    layers = L.prunable(net, options.layers or None, options.spare)
    images = calibration(folder, size, count) if _needs_images(options, int8) else torch.zeros(size)
    positions = L.positions(net, layers, images[:1])
    with torch.no_grad():
        wanted = L.forward(net, images[:16])
    masks = prune(net, options, images, say, out / "training.pt")
    net.eval()
    with torch.no_grad():
        error = recovery.output_error(wanted, L.forward(net, images[:16]))
    name = Path(source.rpartition(":")[2]).stem
    path = out / f"{name}-p{round(100 * options.rate):02d}.onnx"
    model = net.to_onnx()
    write(model, path)
    result: dict[str, Any] = {
        "source": source, "shape": list(size), "onnx": str(path), "int8": None,
        "output_error": error, "layers": table(layers, masks, positions, options.cell),
    }  # fmt: skip
    if int8:
        say("quantising", 1.0)
        quantised = path.with_name(f"{path.stem}-int8.onnx")
        write(quantize(model, [x[None] for x in images.numpy()], None, method), quantised)
        result["int8"] = str(quantised)
    if compress:
        result["compressed"] = _compress(net, layers, path.with_suffix(".dsdc"))
    return result


def _needs_images(options: Options, int8: bool) -> bool:
    light = options.saliency in ("magnitude", "random") and options.layer_rates != "sensitivity"
    return int8 or bool(options.retrain) or not light


def _compress(net: nn.Module, layers: L.Layers, path: Path) -> dict[str, Any]:
    """Deep Compression of the pruned network: a file, and its size beside the dense one's."""
    from drp_slam.pruning import deepcompression as dc

    state = {name: value.numpy() for name, value in net.state_dict().items()}
    shared = {}
    for name in layers:
        weight = state[f"{name}.weight"]
        bits = dc.CONV_BITS if weight.ndim == 4 else dc.LINEAR_BITS
        shared[f"{name}.weight"] = dc.share(weight[weight != 0], bits)
    blob, sizes = dc.encode(state, shared)
    dc.save(path, blob)
    return {"file": str(path), "bytes": sizes.file_bytes, "ratio": sizes.ratio}
