# SPDX-License-Identifier: Apache-2.0
"""`prune` from source to files: read, prune, compare, write FP32 and INT8, a card, a compressed file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from drp_slam.atomic import write_bytes
from drp_slam.errors import DrpAi3Error, PruningError
from drp_slam.pruning import cutting, onnxfile, onnxgraph, outcome, probe, recovery, selection, surgery
from drp_slam.pruning.cutting import Options, Say
from drp_slam.pruning.inputs import Feeds, feeds
from drp_slam.pruning.methods import saliency
from drp_slam.pruning.onnxnet import OnnxNet
from drp_slam.pruning.xfeat import shipping

log = logging.getLogger(__name__)
COMPARED = 16
"""Number of inputs on which the outputs are compared."""


def prune_file(
    source: str,
    options: Options,
    folder: Path | None,
    out: Path,
    say: Say,
    *,
    shape: Sequence[int] | None = None,
    count: int = 100,
    bgr: bool = False,
    int8: bool = True,
    method: str = "best",
    compress: bool = False,
) -> dict[str, Any]:
    """Writes `<name>-pNN.onnx` and `<name>-pNN-int8.onnx` into `out`; returns the report of `prune`.

    `source` is an ONNX file, a shipped network's name or `package.module:factory`. The float file
    is kept if the quantiser refuses the network; the reason is then in `int8_refused`.
    Raises PruningError.
    """
    selection.check_rate(options.rate)
    if options.stages < 1 or options.retrain < 0 or count < 1:
        raise PruningError(
            f"--stages {options.stages}, --retrain {options.retrain}, --images {count}: expected stages and images of "
            "at least 1, retrain of at least 0"
        )
    graph = onnxfile.read(source, shape)
    layers = cutting.chosen(graph, options)
    dense = graph.copied()
    images, note = _images(folder, graph, shape, count, bgr, needed=cutting.needs_images(options))
    masks = cutting.prune(graph, options, images, say, out / "training.pt")
    name = Path(source.rpartition(":")[2]).stem
    path = out / f"{name}-p{round(100 * options.rate):02d}.onnx"
    model = graph.updated()
    write_bytes(path, model.SerializeToString(), PruningError)
    some = None if images is None else images.first(COMPARED)
    positions = None if images is None else probe.positions(graph, layers, images[0])
    result: dict[str, Any] = {
        "source": source,
        "shape": None if images is None or (images.files[:1] and not any(images.shapes.values())) else _shape(images),
        "images": note,
        "onnx": str(path),
        "int8": None,
        "output_error": None if some is None else probe.network_error(dense.updated(), model, some),
        "layers": outcome.table(layers, masks, positions, options.cell),
        "left_dense": outcome.left_dense(graph, layers),
    }
    if saliency(options.saliency).moves_weights:
        result["rounds"] = {name: surgery.rounds_of(module) for name, module in layers.items()}
    if int8:
        say("quantising: some passes over the images", 1.0)
        result |= _quantised(model, images, method, path)
    if shipping.is_xfeat(model):
        weights = {n: module.weight.detach().numpy() for n, module in layers.items()}
        made_by = f"python -m drp_slam prune {Path(source).name} --rate {options.rate} --saliency {options.saliency}"
        for file in filter(None, (path, result["int8"])):
            stored = model if file == path else onnx.load(file)
            shipping.save(Path(file), stored, weights, Path(source).name, "that of the source", made_by)
        result["card"] = str(path.with_suffix(".yaml"))
    if compress:
        say("compressing", 1.0)
        result["compressed"] = _compressed(graph, dense, options, images, path, say)
    return result


def _shape(images: Feeds) -> list[int] | None:
    """The shape of the only input."""
    return list(next(iter(images[0].values())).shape) if len(images.shapes) == 1 else None


def _images(
    folder: Path | None, graph: onnxgraph.Graph, shape: Sequence[int] | None, count: int, bgr: bool, needed: bool
) -> tuple[Feeds | None, str]:
    """The feeds and their description. Without a folder, None if no image fits and none is needed."""
    try:
        found = feeds(folder, graph, shape, count, bgr)
    except PruningError as error:
        if folder is not None or needed:
            raise
        return None, f"no images: {error}"
    if folder is None:
        return found, f"no images given: {_counted(found, 'photographs of installed packages')}"
    return found, _counted(found, f"inputs of {folder}")


def _counted(found: Feeds, what: str) -> str:
    more = len(found.filled(cutting.STATISTICS_IMAGES)) - len(found)
    return f"{len(found)} {what}" + (f" and {more} random views of them" if more > 0 else "")


def _quantised(model: Any, images: Feeds | None, method: str, path: Path) -> dict[str, Any]:
    from drp_slam.drpai3.quantize_check import quantize_by

    if images is None:
        return {"int8_refused": "the quantiser needs images or arrays; give --calibration DIR"}
    quantised = path.with_name(f"{path.stem}-int8.onnx")
    samples = images.filled(cutting.STATISTICS_IMAGES)  # read one by one in every pass
    try:
        int8, chosen, kept = quantize_by(model, samples, method)
        write_bytes(quantised, int8.SerializeToString(), PruningError)
    except DrpAi3Error as error:
        return {"int8_refused": str(error)}
    except Exception as error:  # onnxruntime's quantiser raises various errors; the float file is valid
        log.info("quantising failed", exc_info=True)
        return {"int8_refused": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    return {"int8": str(quantised), "int8_ranges": chosen, "int8_sqnr_db": min(kept.values(), default=None)}


def _compressed(
    small: onnxgraph.Graph, dense: onnxgraph.Graph, options: Options, images: Feeds | None, path: Path, say: Say
) -> dict[str, Any]:
    """Deep Compression of `small`, in place; trains its centroids by distillation for a quarter of `retrain`."""
    steps, layers = options.retrain // 4, cutting.chosen(small, options)

    def train(tie: Callable[[], None]) -> None:
        def after(step: int, loss: float) -> None:
            tie()
            say(f"centroids, step {step} of {steps}, loss {loss:.4g}", 1.0)

        assert images is not None
        student, teacher = (OnnxNet(graph, parts=True).eval() for graph in (small, dense))
        views = cutting.Stack(images.augmented(options.seed))
        recovery.retrain(student, teacher, layers, {}, views, steps, options.seed, None, after, options.learning_rate)

    found = outcome.compress(small.bag, layers, path.with_suffix(".dsdc"), train if steps else None)
    error = None if images is None else probe.network_error(dense.updated(), small.updated(), images.first(COMPARED))
    return found | {"output_error": error}
