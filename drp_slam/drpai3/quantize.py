# SPDX-License-Identifier: Apache-2.0
"""INT8 post-training quantisation of an FP32 ONNX network, as Renesas' quantiser does it.

QDQ form: weights symmetric int8 per output channel, activations asymmetric int8 per tensor,
calibrated by MinMax or Percentile over images (TVM documents of the RZ/V2H SDK). The graph is
rewritten by onnxruntime's quantiser with the scales found here; input and outputs become int8,
and a Concat that ends the graph joins its int8 parts unchanged, so each keeps its own scale.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.atomic import write_bytes
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

METHODS = ("minmax", "percentile")
BINS = 4096
"""Bins of the histogram from which percentiles are read."""
EXACT_BITS = 12
"""Fixed filters whose weights are multiples of 2^-12 keep them exactly."""

Scales = Mapping[str, tuple[float, int]]


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of asymmetric int8 over `[low, high]`, widened to hold zero exactly."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = (high - low) / 255.0 or 1.0
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def activation_ranges(
    model: onnx.ModelProto, calibration: Sequence[np.ndarray], method: str = "minmax", percentile: float = 99.99
) -> dict[str, tuple[float, float]]:
    """Range of every float activation over `calibration` (arrays of the network's one input).

    `minmax` takes the extremes over all images; `percentile` cuts `100 - percentile` per cent of
    the values, half at each end (histogram of 4096 bins between the extremes).
    """
    run = _all_activations(model)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for image in calibration:
        for name, value in run(image):
            low[name] = min(low.get(name, np.inf), float(value.min()))
            high[name] = max(high.get(name, -np.inf), float(value.max()))
    if method == "minmax":
        return {name: (low[name], high[name]) for name in low}
    counts = {name: np.zeros(BINS, np.int64) for name in low}
    for image in calibration:
        for name, value in run(image):
            top = max(high[name], low[name] + 1e-12)
            counts[name] += np.histogram(value, BINS, (low[name], top))[0]
    tail = (1.0 - percentile / 100.0) / 2.0
    return {name: _percentile(counts[name], low[name], high[name], tail) for name in low}


def _percentile(counts: np.ndarray, low: float, high: float, tail: float) -> tuple[float, float]:
    share = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, BINS + 1)
    return float(edges[np.searchsorted(share, tail, "right")]), float(
        edges[np.searchsorted(share, 1.0 - tail, "left") + 1]
    )


def _all_activations(model: onnx.ModelProto) -> Any:
    import onnx
    import onnxruntime as ort

    probe = _copy(model)
    del probe.graph.output[:]
    names = [out for node in probe.graph.node for out in node.output if out]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name

    def run(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        yield source, image
        for name, value in zip(names, session.run(names, {source: image})):
            if value.dtype == np.float32:
                yield name, value

    return run


def quantize(
    model: str | Path | onnx.ModelProto,
    calibration: Iterable[np.ndarray],
    out: str | Path | None = None,
    method: str = "minmax",
    percentile: float = 99.99,
    scales: Scales | None = None,
) -> onnx.ModelProto:
    """An FP32 network with one input as INT8 (QDQ), int8 in and out; written to `out` if given.

    `calibration` holds float32 arrays of the input's shape. `scales` (tensor -> scale, zero
    point) replaces what calibration finds: quantisation-aware training fixes them. Raises
    DrpAi3Error without images, for an unknown method, or for a network with several inputs.
    """
    import onnx

    images = [np.ascontiguousarray(image, np.float32) for image in calibration]
    if not images:
        raise DrpAi3Error("no calibration image; quantisation needs at least 1, better 100")
    if method not in METHODS:
        raise DrpAi3Error(f"calibration method {method!r}; known: {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise DrpAi3Error(f"percentile {percentile} is outside (50, 100]; usual is 99.99")
    if not isinstance(model, onnx.ModelProto):
        model = onnx.load(model)
    if len(model.graph.input) != 1:
        raise DrpAi3Error(f"the network has {len(model.graph.input)} inputs; quantisation takes one")
    body, concat = _without_last_concat(model)
    found = {name: affine(*r) for name, r in activation_ranges(body, images, method, percentile).items()}
    found.update(scales or {})
    quantised = _int8_borders(_rewrite(body, images[0], found), concat, _copy(model.graph.output[0]))
    onnx.checker.check_model(quantised)
    if out is not None:
        write_bytes(Path(out), quantised.SerializeToString(), DrpAi3Error)
    return quantised


def _copy(message: Any) -> Any:
    twin = type(message)()
    twin.CopyFrom(message)
    return twin


def _without_last_concat(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.NodeProto | None]:
    """The network with the inputs of its last Concat as outputs, and that Concat."""
    import onnx

    body = _copy(model)
    outputs = [o.name for o in body.graph.output]
    last = next((n for n in body.graph.node if list(n.output) == outputs and n.op_type == "Concat"), None)
    if last is None:
        return body, None
    body.graph.node.remove(last)
    del body.graph.output[:]
    body.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in last.input
    )
    return body, last


def _rewrite(model: onnx.ModelProto, image: np.ndarray, scales: Scales) -> onnx.ModelProto:
    """onnxruntime's quantiser with given scales (its own calibration sees one image, unused)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class One(CalibrationDataReader):
        def __init__(self) -> None:
            self._items = iter([{model.graph.input[0].name: image}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._items, None)

    overrides = {
        name: [
            {
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(zero + 128, np.uint8),
                "quant_type": QuantType.QUInt8,
            }
        ]
        for name, (scale, zero) in scales.items()
    }
    overrides |= _exact_weights(model, QuantType.QInt8)
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)  # it advises pre-processing, which would rename the layers
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(
                model,
                path,
                One(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"TensorQuantOverrides": overrides},
            )
            return onnx.load(path)
    finally:
        log.setLevel(before)


def _exact_weights(model: onnx.ModelProto, kind: Any) -> dict[str, list[dict[str, Any]]]:
    """Scales that are powers of two for depthwise filters of small integers times one, such as
    interpolation: they stay exact, which the largest weight over 127 would not keep."""
    import onnx

    found = {}
    stored = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        weight = stored.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or weight.dims[1] != 1 or weight.dims[0] == 1:
            continue
        steps = onnx.numpy_helper.to_array(weight).astype(np.float64) * 2**EXACT_BITS
        common = np.gcd.reduce(steps.astype(np.int64).ravel())
        common &= -common  # its power of two
        if common and (steps % 1 == 0).all() and np.abs(steps).max() <= 127 * common:
            scale = {
                "scale": np.array(common / 2**EXACT_BITS, np.float32),
                "quant_type": kind,
                "zero_point": np.array(0, np.int8),
                "axis": 0,
            }
            found[node.input[1]] = [scale] * weight.dims[0]
    return found


def _int8_borders(model: onnx.ModelProto, concat: onnx.NodeProto | None, whole: onnx.ValueInfoProto) -> onnx.ModelProto:
    """Input and outputs int8 around a body that onnxruntime holds as uint8 (the same numbers
    plus 128): its kernels for signed activations are eight times slower on x86."""
    import onnx

    graph, int8 = model.graph, onnx.TensorProto.INT8
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {out: node for node in graph.node for out in node.output}

    def border(op: str, source: str, target: str, like: onnx.NodeProto) -> onnx.NodeProto:
        zero = onnx.numpy_helper.from_array(
            (values[like.input[2]].astype(np.int16) - 128).astype(np.int8), f"{target}_zero_point"
        )
        graph.initializer.append(zero)
        return onnx.helper.make_node(op, [source, like.input[1], zero.name], [target], name=target)

    source = graph.input[0]
    first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == source.name)
    first.input[0] = f"{source.name}_real"
    graph.node.insert(0, border("DequantizeLinear", source.name, first.input[0], first))
    source.type.tensor_type.elem_type = int8
    parts = []
    for output in graph.output:
        parts.append(f"{output.name}_int8")
        graph.node.append(border("QuantizeLinear", output.name, parts[-1], makers[output.name]))
        output.name, output.type.tensor_type.elem_type = parts[-1], int8
    if concat is not None:
        graph.node.append(onnx.helper.make_node("Concat", parts, list(concat.output), name=concat.name, axis=1))
        del graph.output[:]
        whole.type.tensor_type.elem_type = int8
        graph.output.append(whole)
    return model


def border_scales(model: onnx.ModelProto) -> tuple[tuple[float, int], list[tuple[float, int]]]:
    """(scale, zero point) of the int8 input, and of each output or each part of the last Concat."""
    from onnx import numpy_helper

    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {out: node for node in model.graph.node for out in node.output}

    def of(node: onnx.NodeProto) -> tuple[float, int]:
        return float(values[node.input[1]]), int(values[node.input[2]])

    source = model.graph.input[0].name
    first = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == source)
    last = makers[model.graph.output[0].name]
    names = list(last.input) if last.op_type == "Concat" else [o.name for o in model.graph.output]
    return of(first), [of(makers[name]) for name in names]
