# SPDX-License-Identifier: Apache-2.0
"""Networks as other tools wrote them (onnx's own test data: IR 3, opset 6 on): INT8 that runs, or one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from drp_slam.drpai3.quantize import quantize
from drp_slam.errors import DrpAi3Error

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def inputs(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    stored = {t.name for t in model.graph.initializer}
    return {v.name: v.type.tensor_type for v in model.graph.input if v.name not in stored}


def of_numbers(path: Path) -> bool:
    return all(t.elem_type not in (0, onnx.TensorProto.STRING) for t in inputs(onnx.load(path)).values())


KINDS = "pytorch-converted", "pytorch-operator", "simple"
FILES = [path for kind in KINDS for path in sorted(DATA.glob(f"{kind}/*/*.onnx")) if of_numbers(path)]


def sample(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {}
    for name, tensor in inputs(model).items():
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        given[name] = rng.normal(size=[d.dim_value or 2 for d in tensor.shape.dim]).astype(kind)
    return given


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_runs_or_is_refused_in_one_line(path: Path) -> None:
    model = onnx.load(path)
    given = sample(model)
    try:
        int8 = quantize(model, [given], method="percentile")
    except DrpAi3Error as error:
        assert "\n" not in str(error)
        return
    assert int8.ir_version >= 4 and not {v.name for v in int8.graph.input} & {t.name for t in int8.graph.initializer}
    ort.InferenceSession(int8.SerializeToString(), providers=["CPUExecutionProvider"])


def test_most_of_them_are_quantised() -> None:
    assert len(FILES) > 100, "onnx no longer ships its test data"
    done = 0
    for path in FILES[::5]:
        model = onnx.load(path)
        try:
            done += bool(quantize(model, [sample(model)]))
        except DrpAi3Error:
            continue
    assert done >= 0.75 * len(FILES[::5])
