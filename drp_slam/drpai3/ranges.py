# SPDX-License-Identifier: Apache-2.0
"""Ranges of all activations of a float network over calibration samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

BINS = 4096
"""Number of histogram bins for percentiles."""


def activation_ranges(
    model: onnx.ModelProto,
    calibration: Iterable[np.ndarray | Mapping[str, np.ndarray]],
    method: str = "minmax",
    percentile: float = 99.99,
) -> dict[str, tuple[float, float]]:
    """Range of every float activation over `calibration`: arrays of the one input, or one by name. Percentiles
    read it twice.

    Infinities (attention masks) are ignored. Raises DrpAi3Error for an activation that is NaN,
    or where onnxruntime cannot load or run the network.

    `minmax` uses the extremes over all images; `percentile` clips `100 - percentile` per cent of
    the values, half at each end (histogram of 4096 bins between the extremes).
    """
    run = _all_activations(model)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for sample in calibration:
        for name, value in run(by_name(model, sample)):
            low[name] = min(low.get(name, np.inf), float(value.min()))
            high[name] = max(high.get(name, -np.inf), float(value.max()))
    if method == "minmax":
        return {name: (low[name], high[name]) for name in low}
    counts = {name: np.zeros(BINS, np.int64) for name in low if high[name] > low[name]}
    for sample in calibration:
        for name, value in run(by_name(model, sample)):
            if name in counts:
                share = (value.astype(np.float64) - low[name]) / (high[name] - low[name])
                counts[name] += np.histogram(share, BINS, (0.0, 1.0))[0]
    tail = (1.0 - percentile / 100.0) / 2.0
    ranges = {name: (low[name], high[name]) for name in low}
    return ranges | {name: _percentile(counts[name], low[name], high[name], tail) for name in counts}


def by_name(model: onnx.ModelProto, sample: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A sample by input name; floats as float32."""
    entries = [v.name for v in model.graph.input]
    given = sample if isinstance(sample, Mapping) else {entries[0]: sample}
    if set(given) != set(entries):
        raise DrpAi3Error(f"calibration has arrays for {sorted(given)}, the network's inputs are {sorted(entries)}")
    return {k: np.ascontiguousarray(v, np.float32 if v.dtype.kind == "f" else v.dtype) for k, v in given.items()}


def _percentile(counts: np.ndarray, low: float, high: float, tail: float) -> tuple[float, float]:
    share = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, BINS + 1)
    return float(edges[np.searchsorted(share, tail, "right")]), float(
        edges[np.searchsorted(share, 1.0 - tail, "left") + 1]
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _all_activations(model: onnx.ModelProto) -> Any:
    import onnx
    import onnxruntime as ort

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = [out for node in probe.graph.node for out in node.output if out]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class
        raise DrpAi3Error(f"onnxruntime cannot load the network: {_first_line(error)}") from error

    def values(sample: Mapping[str, np.ndarray]) -> list[Any]:
        try:
            return session.run(names, dict(sample))
        except Exception as error:
            raise DrpAi3Error(f"onnxruntime cannot run the network on a sample: {_first_line(error)}") from error

    def run(sample: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in (*sample.items(), *zip(names, values(sample))):
            if not isinstance(value, np.ndarray) or value.dtype != np.float32 or not value.size:
                continue
            finite = np.isfinite(value)
            if np.isnan(value).any():
                raise DrpAi3Error(f"activation {name!r} is NaN for a calibration input; check its preprocessing")
            if finite.any():
                yield name, value if finite.all() else value[finite]

    return run
