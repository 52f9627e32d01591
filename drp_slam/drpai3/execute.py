# SPDX-License-Identifier: Apache-2.0
"""Runs any network with the chip's arithmetic over a folder of images, on this host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.drpai3.emulator import saturates, session
from drp_slam.drpai3.graph import Graph
from drp_slam.errors import DrpAi3Error

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")
MOST_IMAGES = 100
"""Images of the folder that take part in calibration."""


def read_images(folder: Path, shape: Sequence[int]) -> list[np.ndarray]:
    """Images as float32 (N, C, H, W) in [0, 1], RGB or grey by the channels of `shape`.

    Raises DrpAi3Error for a folder without images or a shape that is no image.
    """
    import cv2

    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DrpAi3Error(f"the network takes {tuple(shape)}, no image; expected (1, 1 or 3, H, W)")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)[:MOST_IMAGES]
    images = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR if shape[1] == 3 else cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise DrpAi3Error(f"{path}: cannot read the image; remove or repair it")
        image = cv2.resize(image, (shape[3], shape[2]), interpolation=cv2.INTER_AREA)
        planes = image[None] if image.ndim == 2 else image[:, :, ::-1].transpose(2, 0, 1)
        images.append(np.ascontiguousarray(planes[None], np.float32) / 255)
    if not images:
        raise DrpAi3Error(f"{folder}: no calibration image; give a folder with {', '.join(SUFFIXES)}")
    return images


def execute(graph: Graph, folder: Path, method: str, percentile: float, out: Path) -> dict[str, Any]:
    """Quantises an FP32 network over the images (kept in `out`), runs the INT8 network on them.

    Returns what ran, the wall time here, and for FP32 networks the signal-to-quantisation-noise
    ratio of the outputs in dB. Raises DrpAi3Error for several inputs or no image.
    """
    if len(graph.inputs) != 1:
        raise DrpAi3Error(f"{graph.path}: {len(graph.inputs)} inputs; --run takes networks with one")
    images = read_images(folder, graph.shapes[graph.inputs[0]])
    result: dict[str, Any] = {"images": len(images), "saturating_cpu": saturates()}
    model, source = graph.path, None
    if not graph.int8:
        from drp_slam.drpai3.quantize import quantize
        from drp_slam.drpai3.reading import read_model

        model = out / f"{graph.name}-int8.onnx"
        source = _fixed(read_model(graph.path), graph)
        quantize(source, images, model, method, percentile)
        result["network"] = str(model)
    run = session(model)
    entry = run.get_inputs()[0]
    scale, zero = (1.0, 0) if entry.type == "tensor(float)" else _input_scale(model)
    walls, noise, signal = [], 0.0, 0.0
    reference = session(source.SerializeToString()) if source is not None else None
    scales = _output_scales(model, len(run.get_outputs())) if source is not None else []
    for image in images[:8]:
        stored = image if entry.type == "tensor(float)" else _quantised(image, scale, zero)
        start = time.perf_counter()
        got = run.run(None, {entry.name: stored})
        walls.append(time.perf_counter() - start)
        if reference is not None:
            wanted = reference.run(None, {reference.get_inputs()[0].name: image})
            for g, w, (s, z) in zip(got, wanted, scales):
                real = (g.astype(np.float64) - z) * s if g.dtype.kind == "i" else g
                noise += float(((real - w) ** 2).sum())
                signal += float((w.astype(np.float64) ** 2).sum())
    result["wall_ms"] = sorted(walls)[len(walls) // 2] * 1e3
    if reference is not None and noise > 0 and signal > 0:
        result["sqnr_db"] = 10 * float(np.log10(signal / noise))
    return result


def _quantised(image: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return np.clip(np.rint(image / scale) + zero, -128, 127).astype(np.int8)


def _input_scale(model: Path) -> tuple[float, int]:
    import onnx

    from drp_slam.drpai3.quantize import border_scales

    return border_scales(onnx.load(model))[0]


def _output_scales(model: Path, outputs: int) -> list[tuple[float, int]]:
    """Scales of the outputs; none where one output joins parts of different scales."""
    import onnx

    from drp_slam.drpai3.quantize import border_scales

    scales = border_scales(onnx.load(model))[1]
    return scales if len(scales) == outputs else []


def _fixed(model: Any, graph: Graph) -> Any:
    """The model with the input's dimensions as `graph` fixed them."""
    (entry,) = [v for v in model.graph.input if v.name in graph.inputs]
    del entry.type.tensor_type.shape.dim[:]
    for size in graph.shapes[entry.name]:
        entry.type.tensor_type.shape.dim.add().dim_value = size
    stored = {t.name for t in model.graph.initializer}
    kept = [v for v in model.graph.input if v.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model
