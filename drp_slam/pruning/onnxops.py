# SPDX-License-Identifier: Apache-2.0
"""ONNX operators of convolutional networks as torch functions.

One function per operator, `(inputs, attributes) -> output`; inputs are tensors or None if
absent. Convolutions and linear layers are modules (see `onnxnet`), so that they can be pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Inputs = list[Any]
Attributes = Mapping[str, Any]

SIMPLE: dict[str, Callable[..., Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Sqrt": torch.sqrt,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Identity": lambda x: x,
    "Dropout": lambda x, *_: x,
    "HardSwish": F.hardswish,
    "Softplus": F.softplus,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": lambda a, b: _divide(a, b),
    "Pow": torch.pow,
    "MatMul": torch.matmul,
    "Floor": torch.floor,
    "Erf": torch.erf,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Shape": lambda x: torch.tensor(x.shape),
    "Log": torch.log,
}


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a // b if not a.is_floating_point() and not b.is_floating_point() else a / b


def _ints(value: Any) -> list[int]:
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def _axes(i: Inputs, a: Attributes, at: int = 1) -> list[int] | None:
    """Axes are an attribute up to opset 12 (17 for reductions) and an input after it."""
    value = i[at] if len(i) > at and i[at] is not None else a.get("axes")
    return None if value is None else _ints(value)


def padded(x: Tensor, pads: list[int], value: float) -> tuple[Tensor, tuple[int, int]]:
    """Symmetric padding is left to the operator; other padding is applied here."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _pool(i: Inputs, a: Attributes, largest: bool) -> Tensor:
    x, pads = padded(i[0], list(a.get("pads", [0] * 4)), float("-inf") if largest else 0.0)
    stride, ceil = list(a.get("strides", [1, 1])), bool(a.get("ceil_mode", 0))
    if largest:
        return F.max_pool2d(x, a["kernel_shape"], stride, pads, 1, ceil)
    return F.avg_pool2d(x, a["kernel_shape"], stride, pads, ceil, bool(a.get("count_include_pad", 0)))


def _convolve(i: Inputs, a: Attributes) -> Tensor:
    """Convolutions that are not layers of `onnxgraph`: with computed weights, or three dimensions."""
    size = i[1].ndim - 2
    pads, ones = list(a.get("pads", [0] * 2 * size)), [1] * size
    x = F.pad(i[0], [p for n in reversed(range(size)) for p in (pads[n], pads[size + n])])
    function = (F.conv1d, F.conv2d, F.conv3d)[size - 1]
    bias = i[2] if len(i) > 2 else None
    return function(x, i[1], bias, a.get("strides", ones), 0, a.get("dilations", ones), a.get("group", 1))


def _transposed(i: Inputs, a: Attributes) -> Tensor:
    pads, extra = list(a.get("pads", [0] * 4)), list(a.get("output_padding", [0, 0]))
    bias = i[2] if len(i) > 2 else None
    return F.conv_transpose2d(i[0], i[1], bias, a.get("strides", [1, 1]), pads[:2], extra, a.get("group", 1))


def _gemm(i: Inputs, a: Attributes) -> Tensor:
    x, w = (t.T if a.get(f"trans{side}") else t for side, t in zip("AB", i))
    y = a.get("alpha", 1.0) * (x @ w)
    return y + a.get("beta", 1.0) * i[2] if len(i) > 2 and i[2] is not None else y


def _resize(i: Inputs, a: Attributes) -> Tensor:
    x = i[0]
    if len(i) > 3 and i[3] is not None and i[3].numel():
        size = _ints(i[3])[2:]
    else:
        scales = (i[2] if len(i) > 2 else i[1]).tolist()[2:]
        size = [round(n * s) for n, s in zip(x.shape[2:], scales)]
    if a.get("mode", "nearest") == "nearest":
        return F.interpolate(x, size, mode="nearest")
    corners = a.get("coordinate_transformation_mode") == "align_corners"
    return F.interpolate(x, size, mode="bilinear", align_corners=corners)


def _slice(i: Inputs, a: Attributes) -> Tensor:
    starts, ends = (_ints(i[k] if len(i) > k else a[n]) for k, n in ((1, "starts"), (2, "ends")))
    axes = _axes(i, a, 3) or list(range(len(starts)))
    steps = _ints(i[4]) if len(i) > 4 and i[4] is not None else [1] * len(starts)
    x = i[0]
    for start, end, axis, step in zip(starts, ends, axes, steps):
        index = torch.arange(x.shape[axis])[slice(start, end, step) if step > 0 else slice(None)]
        if step < 0:  # torch has no negative steps
            index = torch.tensor(range(x.shape[axis])[start : None if end < -(2**31) else end : step])
        x = x.index_select(axis, index)
    return x


def _reshape(i: Inputs, a: Attributes) -> Tensor:
    shape = _ints(i[1])
    if len(shape) > 1 and shape[0] == 1 and i[0].ndim > 1 and -1 not in shape:
        shape[0] = i[0].shape[0]  # a batch that the exporter fixed to 1; `recovery.joins` tests whether that is valid
    return i[0].reshape([i[0].shape[n] if s == 0 else s for n, s in enumerate(shape)])


def _pad(i: Inputs, a: Attributes) -> Tensor:
    pads = _ints(i[1] if len(i) > 1 else a["pads"])
    half = len(pads) // 2
    flat = [p for n in reversed(range(half)) for p in (pads[n], pads[half + n])]
    value = float(i[2]) if len(i) > 2 and i[2] is not None else float(a.get("value", 0.0))
    mode = a.get("mode", "constant")
    return F.pad(i[0], flat, value=value) if mode == "constant" else F.pad(i[0], flat, mode=mode)


def _gather(i: Inputs, a: Attributes) -> Tensor:
    axis = a.get("axis", 0)
    found = i[0].index_select(axis, i[1].reshape(-1) % i[0].shape[axis])
    return found.reshape(*i[0].shape[:axis], *i[1].shape, *i[0].shape[axis:][1:])


def _unsqueeze(i: Inputs, a: Attributes) -> Tensor:
    for axis in sorted(_axes(i, a) or []):
        i = [i[0].unsqueeze(axis)]
    return i[0]


def _squeeze(i: Inputs, a: Attributes) -> Tensor:
    axes = _axes(i, a)
    return i[0].squeeze() if axes is None else i[0].squeeze(tuple(axes))


def _clip(i: Inputs, a: Attributes) -> Tensor:
    low = i[1] if len(i) > 1 else a.get("min")
    high = i[2] if len(i) > 2 else a.get("max")
    return i[0].clamp(None if low is None else float(low), None if high is None else float(high))


def _norm(i: Inputs, a: Attributes) -> Tensor:
    return F.batch_norm(i[0], i[3], i[4], i[1], i[2], False, 0.0, a.get("epsilon", 1e-5))


def _mean(i: Inputs, a: Attributes) -> Tensor:
    axes = _axes(i, a)
    return i[0].mean(axes if axes is not None else list(range(i[0].ndim)), bool(a.get("keepdims", 1)))


def _filled(i: Inputs, a: Attributes) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return value.reshape(()).expand(_ints(i[0])).clone()


def _cast(i: Inputs, a: Attributes) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
    return i[0].to(kinds[a["to"]])


GENERAL: dict[str, Callable[[Inputs, Attributes], Tensor]] = {
    "LeakyRelu": lambda i, a: F.leaky_relu(i[0], a.get("alpha", 0.01)),
    "HardSigmoid": lambda i, a: (a.get("alpha", 0.2) * i[0] + a.get("beta", 0.5)).clamp(0, 1),
    "Softmax": lambda i, a: i[0].softmax(a.get("axis", -1)),
    "Conv": _convolve,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "Concat": lambda i, a: torch.cat(i, a["axis"]),
    "MaxPool": lambda i, a: _pool(i, a, True),
    "AveragePool": lambda i, a: _pool(i, a, False),
    "Resize": _resize,
    "Slice": _slice,
    "Reshape": _reshape,
    "Pad": _pad,
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Clip": _clip,
    "BatchNormalization": _norm,
    "ReduceMean": _mean,
    "ConstantOfShape": _filled,
    "Cast": _cast,
    "Flatten": lambda i, a: i[0].flatten(a.get("axis", 1)),
    "Transpose": lambda i, a: i[0].permute(a.get("perm") or tuple(reversed(range(i[0].ndim)))),
    "Split": lambda i, a: i[0].split(_ints(i[1] if len(i) > 1 else a["split"]), a.get("axis", 0)),  # type: ignore[dict-item]
}
