# SPDX-License-Identifier: Apache-2.0
"""Folds constant scales and shifts into the matrix layer before or after them, else into one batch norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.drpai3.rewriter import Rewriter, Rule, attribute

if TYPE_CHECKING:
    import onnx

AFFINE = ("BatchNormalization", "Mul", "Add", "Sub", "Div", "Neg")
MATRIX = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift; `scale`, `shift` (1,) or (C,) float64 along `axis` of `source`."""

    source: str
    scale: np.ndarray
    shift: np.ndarray
    axis: int

    def wide(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(self.scale, channels), np.broadcast_to(self.shift, channels)


def affine_of(r: Rewriter, node: onnx.NodeProto) -> Affine | None:
    """The node as a constant scale and shift of its only activation along one axis; None for another node."""
    shape = r.shape(node.output[0])
    if not shape or node.op_type not in AFFINE:
        return None
    if node.op_type == "BatchNormalization":
        return _batch_norm(r, node)
    if node.op_type == "Neg":
        return _checked(r, node.input[0], node, np.array([-1.0]), np.zeros(1), 1)
    places = [n for n, i in enumerate(node.input) if i in r.model.constants]
    if len(node.input) != 2 or len(places) != 1:
        return None
    value = r.array(node.input[places[0]])
    source = node.input[1 - places[0]]
    if value is None or value.dtype.kind != "f" or r.shape(source) != shape or value.ndim > len(shape):
        return None
    axis, row = _row(value, len(shape))
    if row is None or (node.op_type == "Div" and (places[0] == 0 or not row.all())):
        return None
    one, zero = np.ones(1), np.zeros(1)
    match node.op_type:
        case "Mul":
            scale, shift = row, zero
        case "Div":
            scale, shift = 1.0 / row, zero
        case "Add":
            scale, shift = one, row
        case _:
            scale, shift = (one, -row) if places[0] == 1 else (-one, row)
    return _checked(r, source, node, scale, shift, axis)


def _row(value: np.ndarray, rank: int) -> tuple[int, np.ndarray | None]:
    """Axis and values of a constant that varies along at most one axis; None if it varies along more."""
    wide = value.reshape((1,) * (rank - value.ndim) + value.shape).astype(np.float64)
    if value.size and (value.ravel() == value.ravel()[0]).all():
        return 1, wide.ravel()[:1]
    axes = [n for n, size in enumerate(wide.shape) if size > 1]
    return (axes[0], wide.ravel()) if len(axes) == 1 else (0, None)


def _batch_norm(r: Rewriter, node: onnx.NodeProto) -> Affine | None:
    rows = [r.array(i) for i in node.input[1:5]]
    if (
        any(row is None for row in rows)
        or len(rows) != 4
        or any(node.output[1:])
        or attribute(node, "training_mode", 0)
    ):
        return None
    gamma, beta, mean, var = (row.astype(np.float64) for row in rows if row is not None)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        shift = beta - mean * scale
    return _checked(r, node.input[0], node, scale, shift, 1)


def _checked(
    r: Rewriter, source: str, node: onnx.NodeProto, scale: np.ndarray, shift: np.ndarray, axis: int
) -> Affine | None:
    """None for values that are not finite (reported elsewhere) or not floating point."""
    if r.model.types.get(source) not in (1, 10, 11) or not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    return Affine(source, scale, shift, axis)


def fold_back(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Folds a scale and shift into the matrix layer that makes its input."""
    found = affine_of(r, node)
    host = r.only(found.source, node, *MATRIX) if found else None
    if found is None or host is None:
        return False
    weight = r.array(host.input[1])
    rank = len(r.shape(host.output[0]))
    plain = host.op_type in ("Conv", "ConvTranspose")
    if weight is None or (not plain and weight.ndim != 2):
        return False
    if host.input[0] in r.model.constants or (
        found.axis != (1 if plain else rank - 1) and found.scale.size + found.shift.size > 2
    ):
        return False
    channels = r.shape(host.output[0])[1 if plain else -1]
    scale, shift = found.wide(channels)
    out = node.output[0]
    if weight.dtype.kind != "f":  # integers keep their values: the scale is merged into their requantisation
        scale = np.ones(channels)
    if host.op_type == "MatMul":
        new = _scaled(r, host, out, weight, scale)
        if not shift.any():
            return r.replace([host, node], [r.node("MatMul", [host.input[0], new], out, host)])
        return _as_gemm(r, host, node, new, shift)
    bias = _bias(r, host, channels)
    if bias is None:
        return False
    kind = weight.dtype if weight.dtype.kind == "f" else np.float32
    names = [_scaled(r, host, out, weight, scale), r.constant(out, bias * scale + shift, kind)]
    kept = _attributes(host, "beta")
    return r.replace([host, node], [r.node(host.op_type, [host.input[0], *names], out, host, **kept)])


def _scaled(r: Rewriter, host: onnx.NodeProto, out: str, weight: np.ndarray, scale: np.ndarray) -> str:
    """The weight with each output channel scaled, as a new constant; the old one if nothing changes."""
    if (scale == 1).all():
        return host.input[1]
    if host.op_type == "ConvTranspose":
        wide = scale.reshape(int(attribute(host, "group", 1)), 1, -1, *[1] * (weight.ndim - 2))
        new = (weight.reshape(len(wide), -1, *weight.shape[1:]) * wide).reshape(weight.shape)
    elif host.op_type == "Conv" or attribute(host, "transB", 0):
        new = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    else:
        new = weight * scale
    return r.constant(out, new, weight.dtype)


def _attributes(node: onnx.NodeProto, *without: str) -> dict[str, Any]:
    return {a.name: attribute(node, a.name) for a in node.attribute if a.name not in without}


def _bias(r: Rewriter, host: onnx.NodeProto, channels: int) -> np.ndarray | None:
    """(C,) float64 bias of a layer, zeros without one; None if it is not a row of constants."""
    if len(host.input) < 3 or not host.input[2]:
        return np.zeros(channels)
    bias = r.array(host.input[2])
    if bias is None or bias.size not in (1, channels) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
        return None
    return np.broadcast_to(bias.ravel().astype(np.float64) * attribute(host, "beta", 1.0), channels)


def _as_gemm(r: Rewriter, host: onnx.NodeProto, node: onnx.NodeProto, weight: str, shift: np.ndarray) -> bool:
    """A matrix product with a bias; with more than two axes it is placed between two reshapes, which move no data."""
    source, out = host.input[0], node.output[0]
    shape, kind = r.shape(source), np.float16 if r.model.types.get(source) == 10 else np.float32
    if len(shape) < 2:
        return False
    names = [weight, r.constant(out, shift, kind)]
    if len(shape) == 2:
        return r.replace([host, node], [r.node("Gemm", [source, *names], out, host)])
    rows = math.prod(shape[:-1])
    flat, product = r.fresh(out), r.fresh(f"{out}/product")
    r.model.shapes |= {flat: (rows, shape[-1]), product: (rows, len(shift))}
    into = r.constant(out, np.array([rows, shape[-1]], np.int64))
    back = r.constant(out, np.array(r.shape(out), np.int64))
    return r.replace(
        [host, node],
        [
            r.node("Reshape", [source, into], flat, host),
            r.node("Gemm", [flat, *names], product, host),
            r.node("Reshape", [product, back], out, node),
        ],
    )


def fold_forward(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Folds a scale and shift into the one matrix layer that reads it; no shift across padding."""
    found = affine_of(r, node)
    out = node.output[0]
    readers = r.readers[out]
    if found is None or out in r.pinned or len(readers) != 1 or readers[0].op_type not in ("Conv", "Gemm"):
        return False
    host = readers[0]
    weight = r.array(host.input[1])
    if host.input[0] != out or list(host.input).count(out) != 1 or weight is None or weight.dtype.kind != "f":
        return False
    channels = r.shape(out)[1]
    if (found.axis != 1 and found.scale.size + found.shift.size > 2) or attribute(host, "transA", 0):
        return False
    scale, shift = found.wide(channels)
    padded = any(attribute(host, "pads", ())) or attribute(host, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    if shift.any() and padded:
        return False
    count = r.shape(host.output[0])[1]
    bias = _bias(r, host, count)
    if bias is None:
        return False
    if host.op_type == "Gemm":
        by_input = weight if attribute(host, "transB", 0) else weight.T
        new = by_input * scale
        add = (by_input @ shift) * attribute(host, "alpha", 1.0)
        new = new if attribute(host, "transB", 0) else new.T
    else:
        group = int(attribute(host, "group", 1))
        # of output channel c, input i is channel (c // (C / group)) * weight.shape[1] + i
        of = np.arange(count)[:, None] // (count // group) * weight.shape[1] + np.arange(weight.shape[1])
        shaped = (count, weight.shape[1], *[1] * (weight.ndim - 2))
        new = weight * scale[of].reshape(shaped)
        add = (weight * shift[of].reshape(shaped)).reshape(count, -1).sum(axis=1)
    names = [r.constant(out, new, weight.dtype), r.constant(out, bias + add, weight.dtype)]
    kept = _attributes(host, "beta")
    return r.replace([node, host], [r.node(host.op_type, [found.source, *names], host.output[0], host, **kept)])


def merge(r: Rewriter, node: onnx.NodeProto) -> bool:
    """Merges two consecutive constant scales and shifts into one batch norm, also if they are an expanded one."""
    found = affine_of(r, node)
    if found is None or len(r.shape(node.output[0])) != 4 or r.model.types.get(found.source) != 1:
        return False
    before = r.only(found.source, node, *AFFINE)
    first = affine_of(r, before) if before is not None else None
    if before is None or first is None:
        return False
    wide = [a for a in (first, found) if a.scale.size + a.shift.size > 2]
    if any(a.axis != 1 for a in wide):
        return False
    channels = r.shape(node.output[0])[1]
    (s, t), (u, v) = first.wide(channels), found.wide(channels)
    rows = (s * u, t * u + v, np.zeros(channels), np.ones(channels))
    names = [r.constant(node.output[0], row, np.float32) for row in rows]
    new = r.node("BatchNormalization", [first.source, *names], node.output[0], before, epsilon=0.0)
    return r.replace([before, node], [new])


RULES: dict[str, tuple[Rule, ...]] = dict.fromkeys(AFFINE, (fold_back, fold_forward, merge))
