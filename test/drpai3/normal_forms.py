# SPDX-License-Identifier: Apache-2.0
"""Small networks for the tests of normalisation, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx_networks import Builder

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.graph import load

DEVICE = load_constants("rzv2h")


CHANNELS = 8


def run(model: onnx.ModelProto, seed: int = 0) -> list[np.ndarray]:
    """Outputs of a model for random inputs, onnxruntime's own rewrites switched off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    feeds = {i.name: random.normal(size=i.shape).astype(kinds[i.type]) for i in session.get_inputs()}
    return session.run(None, feeds)


def ops_of(path: Path, model: onnx.ModelProto, tolerance: float = 1e-4) -> list[str]:
    """Operators after normalising, outputs proved equal."""
    path.write_bytes(model.SerializeToString())
    graph = load(path)
    rewritten = graph.model()
    onnx.checker.check_model(rewritten)
    for wanted, got in zip(run(model), run(rewritten), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * (np.abs(wanted).max() + 1))
    return [node.op for node in graph.nodes]


def number(b: Builder, value: float) -> str:
    return b.constant(np.float32(value))


def row(b: Builder, rank: int = 3) -> str:
    """One value a channel."""
    return b.constant(b.random.normal(size=(CHANNELS, *[1] * (rank - 1))).astype(np.float32))


def batch_norm(b: Builder, x: str) -> str:
    gamma, beta, mean = (b.constant(b.random.normal(size=CHANNELS).astype(np.float32)) for _ in range(3))
    return b.op("BatchNormalization", x, gamma, beta, mean, b.constant(b.random.uniform(0.1, 2, CHANNELS).astype("f")))


def conv(b: Builder, x: str, **options: Any) -> str:
    return b.conv(x, CHANNELS, CHANNELS, **options)


def network(opset: int = 13) -> Builder:
    return Builder((1, CHANNELS, 6, 6), opset)


FOLDED = {
    "batch norm": batch_norm,
    "scale": lambda b, x: b.op("Mul", x, row(b)),
    "scale, shift": lambda b, x: b.op("Add", b.op("Mul", row(b), x), row(b)),
    "scalars": lambda b, x: b.op("Div", b.op("Sub", x, number(b, 3)), number(b, 7)),
    "from above": lambda b, x: b.op("Sub", row(b), x),
    "batch norm of a batch norm": lambda b, x: batch_norm(b, batch_norm(b, x)),
    "identity": lambda b, x: b.op("Dropout", b.op("Identity", x)),
    "cast": lambda b, x: b.op("Cast", x, to=1),
    "sum of one": lambda b, x: b.op("Max", b.op("Sum", x)),
    "negative": lambda b, x: b.op("Neg", x),
}
