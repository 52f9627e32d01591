# SPDX-License-Identifier: Apache-2.0
"""Channel shuffles become convolutions of equal result; anything else that moves data stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_networks import Builder

from drp_slam.chip.constants import load_constants
from drp_slam.cli import main
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import Graph, load
from drp_slam.reporting.estimate_page import verdict

FORMS = ("five axes", "three axes, Gather", "three axes, Split")


def shuffled(form: str, groups: int, per_group: int, height: int, width: int, seed: int) -> onnx.ModelProto:
    """A convolution, a shuffle as exporters write it, and a convolution behind each part."""
    count = groups * per_group
    b = Builder((1, 3, height, width), seed=seed)

    def shape(*sizes: int) -> str:
        return b.constant(np.array(sizes, np.int64))

    x = b.conv("x", 3, count)
    if form == "five axes":
        y = b.op("Transpose", b.op("Reshape", x, shape(1, groups, per_group, height, width)), perm=[0, 2, 1, 3, 4])
        return b.model(b.conv(b.op("Reshape", y, shape(1, count, height, width)), count, 5))
    y = b.op("Reshape", x, shape(count // 2, 2, height * width))
    y = b.op("Reshape", b.op("Transpose", y, perm=[1, 0, 2]), shape(2, 1, count // 2, height, width))
    if form == "three axes, Gather":
        parts = [b.op("Gather", y, b.constant(np.array(n, np.int64)), axis=0) for n in (0, 1)]
    else:
        first = b.op("Split", y, outputs=2, axis=0)
        parts = [b.op("Squeeze", part, b.constant(np.array([0], np.int64))) for part in (first, first[:-1] + "1")]
    return b.model(*(b.conv(b.op("Relu", part), count // 2, 5) for part in parts))


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (given_,) = session.get_inputs()
    return session.run(None, {given_.name: np.random.default_rng(1).normal(size=given_.shape).astype(np.float32)})


def convolved(path: Path, model: onnx.ModelProto) -> Graph:
    """The network with its shuffles as convolutions, outputs proved equal."""
    path.write_bytes(model.SerializeToString())
    graph = load(path, convolve_shuffles=True)
    onnx.checker.check_model(graph.model())
    for wanted, got in zip(outputs(model), outputs(graph.model()), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    return graph


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(FORMS),
    groups=st.integers(2, 4),
    per_group=st.integers(2, 6).filter(lambda n: n % 2 == 0),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_shuffles_become_convolutions_of_equal_result(tmp_path, form, groups, per_group, size, seed):
    graph = convolved(tmp_path / "net.onnx", shuffled(form, groups, per_group, *size, seed))
    assert {node.op for node in graph.nodes} <= {"Conv", "Relu"}
    if form == "five axes":  # the convolution behind takes the choice over
        assert len(graph.nodes) == 2


def test_a_shuffle_leaves_the_chip_and_its_convolution_does_not(tmp_path):
    model = shuffled("three axes, Gather", 2, 8, 16, 16, 0)
    device = load_constants("rzv2h")
    before = convolved(tmp_path / "net.onnx", model)
    as_written = estimate(load(tmp_path / "net.onnx"), device)
    rewritten = estimate(before, device)
    assert any(row.unit == "cpu" for row in as_written.rows)
    assert not any(row.unit == "cpu" for row in rewritten.rows)
    assert rewritten.total_s < as_written.total_s
    assert any("shuffle" in note for note in before.notes)


def test_estimate_says_what_convolved_shuffles_would_take(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    onnx.save(shuffled("five axes", 2, 8, 16, 16, 0), path)
    results = []
    for option in ([], ["--convolve-shuffles"]):
        assert main(["estimate", str(path), "--json", *option]) == 0
        results.append(json.loads(capsys.readouterr().out))
    as_written, rewritten = results
    assert as_written["shuffles_convolved_ms"] == rewritten["total_ms"] < as_written["total_ms"]
    assert "shuffles_convolved_ms" not in rewritten
    assert "--convolve-shuffles" in verdict(as_written)[0] and not any("--convolve" in v for v in verdict(rewritten))


@pytest.mark.parametrize("perm", [(0, 2, 1, 3, 4), (0, 1, 2, 4, 3)])
def test_what_moves_positions_stays(tmp_path, perm):
    """Space to depth, and a transposed image: no choice of channels."""
    b = Builder((1, 4, 4, 4))
    y = b.op("Reshape", b.conv("x", 4, 4), b.constant(np.array([1, 4, 4, 2, 2], np.int64)))
    y = b.op("Transpose", y, perm=list(perm))
    y = b.op("Reshape", y, b.constant(np.array([1, 4, 4, 4], np.int64)))
    graph = convolved(tmp_path / "net.onnx", b.model(b.conv(y, 4, 4)))
    assert "Transpose" in {node.op for node in graph.nodes}
    assert not graph.notes
