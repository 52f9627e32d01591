# SPDX-License-Identifier: Apache-2.0
"""Runs any network with the chip's arithmetic over images or arrays, on this host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_bytes
from drp_slam.drpai3.emulator import saturates, session
from drp_slam.drpai3.graph import Graph, load
from drp_slam.drpai3.quantize_check import COMPARED, SUSPICIOUS_DB, quantize_by, stored
from drp_slam.drpai3.samples import Preprocessing, Sample, read_samples
from drp_slam.errors import DrpAi3Error

KINDS = {"tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def execute(graph: Graph, path: Path, how: Preprocessing, method: str, percentile: float, out: Path) -> dict[str, Any]:
    """Quantises a float network over the samples at `path` (written to `out`) and runs the INT8 network on them.

    Returns a description, the wall time on this host, and for float networks the signal-to-quantisation-noise
    ratio of each output in dB. A fixed batch becomes 1 where the network allows it. Raises DrpAi3Error.
    """
    import onnx

    result: dict[str, Any] = {"saturating_cpu": saturates()}
    graph, note = _batch_of_one(graph)
    if note:
        result["note"] = note
    model = graph.model()
    if not graph.int8:
        from drp_slam.drpai3.quantize import as_float32

        model = as_float32(model)
    inputs = session(model.SerializeToString()).get_inputs()
    shapes = {entry.name: tuple(graph.shapes[entry.name]) for entry in inputs}
    types = {entry.name: np.dtype(KINDS.get(entry.type, np.float32)) for entry in inputs}
    samples = read_samples(path, shapes, types, how)
    result["images"] = len(samples)
    if graph.int8:
        as_filed = onnx.load(graph.path) if graph.path.suffix == ".onnx" else model
        return result | {"wall_ms": _wall_ms(as_filed, samples)}
    kept = out / f"{graph.name}-int8.onnx"
    int8, chosen, known = quantize_by(model, samples, method, percentile)
    write_bytes(kept, int8.SerializeToString(), DrpAi3Error)
    result |= {"network": str(kept), "method": chosen, "wall_ms": _wall_ms(int8, samples)}
    if known:
        result |= {"sqnr_db": min(known.values()), "sqnr_db_by_output": known}
        if result["sqnr_db"] < SUSPICIOUS_DB:
            result["warning"] = _suspicion(samples, result["sqnr_db"])
    return result


def _batch_of_one(graph: Graph) -> tuple[Graph, str]:
    """The network with batch 1, as the vendor's compiler requires, and a note if the batch was changed."""
    sizes = {graph.shapes[name][0] for name in graph.inputs if len(graph.shapes[name]) > 1}
    if not sizes or max(sizes) == 1:
        return graph, ""
    was = f"the file's batch of {max(sizes)}"
    try:
        dims = {name: (1, *graph.shapes[name][1:]) for name in graph.inputs if len(graph.shapes[name]) > 1}
        single = load(graph.path, dims, batch_of_one=True)
        run = session(single.model().SerializeToString())
        run.run(None, {i.name: np.zeros(i.shape, KINDS.get(i.type, np.float32)) for i in run.get_inputs()})
        return single, f"{was} was made 1"
    except Exception:  # DrpAi3Error, or an error of onnxruntime if the batch is fixed in a Reshape
        return graph, f"{was} is fixed inside the network and was kept; the vendor's compiler takes a batch of 1"


def _wall_ms(int8: Any, samples: list[Sample]) -> float:
    """Median wall time of one inference on this host."""
    from drp_slam.drpai3.quantize_borders import input_scales

    scales = input_scales(int8)
    run, walls = session(int8.SerializeToString()), []
    for sample in samples[:COMPARED]:
        given = stored(sample, scales)
        start = time.perf_counter()
        run.run(None, given)
        walls.append(time.perf_counter() - start)
    return sorted(walls)[len(walls) // 2] * 1e3


def _suspicion(samples: list[Sample], lowest_db: float) -> str:
    seen = [v for sample in samples for v in sample.values() if v.dtype.kind == "f"]
    low, high = min(float(v.min()) for v in seen), max(float(v.max()) for v in seen)
    return (
        f"{lowest_db:.1f} dB is low: is the input (seen: {low:.3g} to {high:.3g}) prepared as in training? "
        "See --mean, --std, --input-scale, --bgr, --layout, and --method percentile"
    )
