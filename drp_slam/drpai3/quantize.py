# SPDX-License-Identifier: Apache-2.0
"""INT8 post-training quantisation of an FP32 ONNX network, like Renesas' quantiser.

QDQ form: weights symmetric int8 per output channel, activations asymmetric int8 per tensor,
calibrated by MinMax or Percentile over images (TVM documents of the RZ/V2H SDK). The graph is
rewritten by onnxruntime's quantiser with the scales found here; input and outputs become int8,
and a Concat that ends the graph joins its int8 parts unchanged, so each keeps its own scale.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.atomic import write_bytes
from drp_slam.drpai3.quantize_borders import Scales, int8_borders
from drp_slam.drpai3.ranges import activation_ranges, by_name
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnx

METHODS = ("minmax", "percentile")
PER_CHANNEL_OPSET = 13
FREE_INITIALISERS_IR = 4
"""The first IR version whose initialisers need not be inputs."""
EXACT_BITS = 12
"""Fixed filters whose weights are multiples of 2^-12 keep them exactly."""


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of asymmetric int8 over `[low, high]`, widened to hold zero exactly."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = (high - low) / 255.0 or 1.0
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def quantize(
    model: str | Path | onnx.ModelProto,
    calibration: Iterable[np.ndarray | Mapping[str, np.ndarray]],
    out: str | Path | None = None,
    method: str = "minmax",
    percentile: float = 99.99,
    scales: Scales | None = None,
) -> onnx.ModelProto:
    """An FP32 network as INT8 (QDQ); inputs and outputs that are quantised become int8. Written to `out` if given.

    `calibration` holds float32 arrays of the one input's shape, or one array for each input by
    name; a sequence is read again in every pass, one sample at a time. `scales` (tensor ->
    scale, zero point) replaces calibration, for scales fixed by quantisation-aware training.
    Integer inputs stay as they are. Raises DrpAi3Error without samples, for an unknown method, or
    for a network that onnxruntime cannot run or quantise.
    """
    import onnx

    if method not in METHODS:
        raise DrpAi3Error(f"calibration method {method!r}; known: {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise DrpAi3Error(f"percentile {percentile} is outside (50, 100]; usual is 99.99")
    if not isinstance(model, onnx.ModelProto):
        model = onnx.load(model)
    model = _per_channel_opset(_without_initialiser_inputs(model))
    samples = calibration if isinstance(calibration, Sized) else list(calibration)
    if not len(samples):
        raise DrpAi3Error("no calibration image; quantisation needs at least 1, better 100")
    first = by_name(model, next(iter(samples)))
    found = {name: affine(*r) for name, r in activation_ranges(model, samples, method, percentile).items()}
    found |= {node.output[0]: affine(0.0, 1.0) for node in model.graph.node if node.op_type == "Softmax"}
    found.update(scales or {})
    body, concat = _without_last_concat(model)
    quantised = _rewrite(body, first, found)
    if concat is not None and not all(_is_dequantised(quantised, o.name) for o in quantised.graph.output):
        quantised, concat = _rewrite(_copy(model), first, found), None
    quantised = int8_borders(quantised, found, concat, _copy(model.graph.output[0]))
    try:
        onnx.checker.check_model(quantised)
    except onnx.checker.ValidationError as error:
        raise DrpAi3Error(f"the INT8 network is not valid: {str(error).splitlines()[0]}; simplify or cut it") from error
    if out is not None:
        write_bytes(Path(out), quantised.SerializeToString(), DrpAi3Error)
    return quantised


def _without_initialiser_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model; IR 3, which lists every initialiser as an input too, becomes IR 4 without them."""
    stored = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in stored]
    if model.ir_version >= FREE_INITIALISERS_IR and len(inputs) == len(model.graph.input):
        return model
    model = _copy(model)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, FREE_INITIALISERS_IR)
    return model


def _per_channel_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, lifted to the opset with scales per channel if it is older."""
    from onnx import version_converter

    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset >= PER_CHANNEL_OPSET:
        return model
    try:
        return version_converter.convert_version(model, PER_CHANNEL_OPSET)
    except Exception as error:  # C++ exceptions for operators that cannot be converted
        raise DrpAi3Error(
            f"opset {opset} has no scales per channel and cannot be lifted: {str(error).strip().splitlines()[-1]}; "
            f"export for opset {PER_CHANNEL_OPSET}"
        ) from error


def as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose half-precision tensors are float32; the quantiser requires it."""
    from onnx import TensorProto, numpy_helper

    model, half = _copy(model), TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == half:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = TensorProto.FLOAT
    return model


def _is_dequantised(model: onnx.ModelProto, name: str) -> bool:
    return any(name in node.output and node.op_type == "DequantizeLinear" for node in model.graph.node)


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
    made = {out for node in body.graph.node for out in node.output}
    if last is None or len(set(last.input)) < len(last.input) or not made.issuperset(last.input):
        return body, None
    body.graph.node.remove(last)
    del body.graph.output[:]
    body.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in last.input
    )
    return body, last


def _rewrite(model: onnx.ModelProto, sample: Mapping[str, np.ndarray], scales: Scales) -> onnx.ModelProto:
    """onnxruntime's quantiser with given scales (its own calibration sees one sample, unused)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class One(CalibrationDataReader):
        def __init__(self) -> None:
            self._items = iter([dict(sample)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._items, None)

    known = {v.name for v in model.graph.input} | {out for node in model.graph.node for out in node.output}
    overrides = {
        name: [
            {
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(zero + 128, np.uint8),
                "quant_type": QuantType.QUInt8,
            }
        ]
        for name, (scale, zero) in scales.items()
        if name in known
    }
    overrides |= _exact_weights(model, QuantType.QInt8)
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)  # it recommends pre-processing, which would rename the layers
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
    except Exception as error:  # the quantiser raises various errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DrpAi3Error(f"onnxruntime cannot quantise the network: {reason}; simplify or cut it") from error
    finally:
        log.setLevel(before)


def _exact_weights(model: onnx.ModelProto, kind: Any) -> dict[str, list[dict[str, Any]]]:
    """Scales that are powers of two for depthwise filters of small integers times one, such as
    interpolation: they stay exact, unlike with the largest weight over 127 as scale."""
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
