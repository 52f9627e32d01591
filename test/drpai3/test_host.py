# SPDX-License-Identifier: Apache-2.0
"""The network as this host or the chip computes it equals the network as shipped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import resources
from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.emulator import Network, session
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.pixel_blocks import TAPS, Kernel, blocks_in, blocks_out
from drp_slam.drpai3.space_to_depth import rewritten, space_to_depth
from drp_slam.drpai3.upsample_blocks import NOTE, from_blocks, in_blocks


@pytest.mark.parametrize("name", ["xfeat", "xfeat-p50"])
def test_rewritten_network_gives_the_same_bits(name: str) -> None:
    path = resources.network(name)
    original, network = session(path), Network(path, "int8", 130)
    rng = np.random.default_rng(1)
    for shape, spread in (((64, 96), 128), ((96, 64), 20), ((32, 32), 3)):
        tensor = np.clip(rng.normal(-20, spread, shape), -128, 127).astype(np.int8)
        (expected,) = original.run(None, {"tensor": tensor[None, None]})
        (heads,) = network.compute(tensor)
        np.testing.assert_array_equal(heads, expected[0].transpose(1, 2, 0))


def test_the_rewritten_network_has_another_input() -> None:
    model = rewritten(resources.network("xfeat"))
    assert model is not None
    assert session(model).get_inputs()[0].shape[1] == 4


def blocks(x: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (4 C, H/2, W/2), channels (tap, channel)."""
    return np.concatenate([x[:, row::2, column::2] for row, column in TAPS])


def convolved(x: np.ndarray, kernel: Kernel) -> np.ndarray:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    pads = (kernel.before, kernel.after) * 2
    padded = F.pad(torch.from_numpy(x[None].astype(np.float64)), pads)
    weight = torch.from_numpy(kernel.weight.astype(np.float64))
    return F.conv2d(padded, weight, stride=kernel.stride)[0].numpy()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(3, 1, 1), (3, 2, 1), (1, 1, 0), (5, 1, 2), (4, 4, 0), (8, 8, 0)]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_kernels_on_blocks_by_convolution(form: tuple[int, int, int], inputs: int, outputs: int, seed: int) -> None:
    side, stride, padding = form
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 9, (inputs, 16, 32))
    weight = rng.integers(-9, 9, (outputs, inputs, side, side))
    kernel = Kernel(weight, stride, padding, padding)
    expected = convolved(x, kernel)
    np.testing.assert_array_equal(convolved(x, blocks_out(kernel)), blocks(expected))
    both = convolved(blocks(x), blocks_in(blocks_out(kernel)))
    np.testing.assert_array_equal(both, blocks(expected))
    if stride % 2 == 0:
        np.testing.assert_array_equal(convolved(blocks(x), blocks_in(kernel)), expected)


def test_a_float_network_stays_as_it_is() -> None:
    assert rewritten(resources.network("xfeat-fp32")) is None


def test_another_form_is_left_alone(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 8, 8))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, 8, 8))
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [value], [out])), tmp_path / "r.onnx")
    assert rewritten(tmp_path / "r.onnx") is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_space_to_depth_keeps_every_pixel(height: int, width: int, seed: int) -> None:
    tensor = np.random.default_rng(seed).integers(-128, 128, (2 * height, 2 * width), np.int8)
    blocks = space_to_depth(tensor).astype(int) - 128
    back = np.empty_like(tensor)
    for channel, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        back[row::2, column::2] = blocks[0, channel]
    np.testing.assert_array_equal(back, tensor)


@pytest.mark.parametrize("name", ["xfeat", "xfeat-p90"])
def test_upsampling_in_blocks_gives_the_same_bits(name: str) -> None:
    path = resources.network(name)
    blocked = in_blocks(onnx.load(path))
    tensor = np.random.default_rng(0).integers(-128, 128, (1, 1, 64, 96), dtype=np.int8)
    (expected,) = session(path).run(None, {"tensor": tensor})
    (planes,) = session(blocked.SerializeToString()).run(None, {"tensor": tensor})
    assert planes.shape == (1, 520, 4, 6)
    np.testing.assert_array_equal(from_blocks(planes, (64, 65, 1)), expected)
    parts = Network(path, "int8", 130, parts=(64, 65, 1))
    np.testing.assert_array_equal(parts.heads(planes), parts.heads(expected))  # what the board returns


def test_upsampling_in_blocks_is_cheaper_and_counts_the_same_work() -> None:
    path, shape = resources.network("xfeat-p70"), (1, 1, 480, 640)
    constants = load_constants("rzv2h")
    plain, blocked = (load(path, {"": shape}, in_place=place) for place in (False, True))
    as_shipped, in_place = (estimate(graph, constants, results_stay=True) for graph in (plain, blocked))
    assert in_place.total_s < 0.75 * as_shipped.total_s
    assert in_place.cycles == pytest.approx(as_shipped.cycles, rel=0.2)  # added zeros are skipped
    assert NOTE in blocked.notes and NOTE not in plain.notes


@pytest.mark.parametrize("change", ["stride", "linear", "unfiltered"])
def test_upsampling_of_another_form_stays(change: str) -> None:
    model = onnx.load(resources.network("xfeat-p90"))
    nodes = {node.output[0]: node for node in model.graph.node}
    if change == "stride":  # a convolution of stride 2 mixes blocks
        next(a for a in nodes["fusion_0"].attribute if a.name == "strides").ints[:] = [2, 2]
    elif change == "linear":
        next(a for a in nodes["resize_4_nearest"].attribute if a.name == "mode").s = b"linear"
    else:  # the filter after one upsampling is gone, so that not all results come in blocks
        nodes["add_3"].input[1] = "resize_5_nearest_DequantizeLinear_Output"
    assert in_blocks(model) is None
