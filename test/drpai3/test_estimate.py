# SPDX-License-Identifier: Apache-2.0
"""Placement, timing and energy: peaks, monotonicity, fallbacks with reasons, memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_networks import Builder, residual

from drp_slam.chip.constants import load_constants
from drp_slam.chip.pricing import clock_hz
from drp_slam.drpai3 import packing
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.packed_layers import share_of_rows
from drp_slam.drpai3.verify import verify
from drp_slam.errors import DrpAi3Error

DEVICE = load_constants("rzv2h")
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ideal(path, rows_kept: int):
    """A convolution that fills the array, with `rows_kept` of every 16 rows in each column."""
    b = Builder((1, 64, 64, 64))
    w = np.zeros((64, 64, 3, 3), np.float32)
    for channel in range(64):
        w[:, channel] = 1.0 if channel % 16 < rows_kept else 0.0
    return b.save(path, b.op("Conv", "x", b.constant(w), pads=[1, 1, 1, 1]))


def test_a_dense_ideal_convolution_reaches_8_tops_and_a_pruned_one_the_sparse_peak(tmp_path):
    dense = estimate(load(ideal(tmp_path / "d.onnx", 16)), DEVICE)
    pruned = estimate(load(ideal(tmp_path / "p.onnx", 1)), DEVICE)
    assert dense.array_tops == pytest.approx(8.0, rel=0.01)
    assert pruned.array_tops == pytest.approx(128.0, rel=0.01)
    assert pruned.cycles * 16 == dense.cycles
    # with the array busy all the time this is ISSCC's 23.9 TOPS/W; waiting takes idle power
    busy_s = pruned.cycles / DEVICE["drpai3.mac_clock"]
    busy_j = 2 * pruned.macs / 16 * DEVICE["drpai3.array_power"] / DEVICE["drpai3.dense_peak"]
    assert busy_j < pruned.accelerator_j < dense.accelerator_j
    ideal_j = busy_j + busy_s * DEVICE["drpai3.idle_power"]
    assert 2e-12 * pruned.macs / ideal_j == pytest.approx(23.9, rel=0.03)


@QUICK
@given(st.floats(0.05, 1), st.floats(0, 1), st.integers(0, 99))
def test_more_zeros_never_cost_cycles_or_time(tmp_path, density, keep, seed):
    b = Builder((1, 32, 16, 16), seed=seed)
    model = b.model(b.conv("x", 32, 48, density=density))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    w = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).copy()
    w[np.random.default_rng(seed).random(w.size) >= keep] = 0
    model.graph.initializer[0].raw_data = w.tobytes()
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    more, less = (estimate(load(tmp_path / f), DEVICE) for f in ("a.onnx", "b.onnx"))
    assert less.cycles <= more.cycles and less.total_s <= more.total_s
    assert less.energy_j <= more.energy_j * (1 + 1e-12)


@QUICK
@given(st.floats(0, 0.99), st.floats(0, 0.99), st.sampled_from(("balanced", "random")))
def test_supposed_sparsity_is_monotone(tmp_path, a, b, pattern):
    graph = load(residual(tmp_path / "a.onnx"))
    low, high = (estimate(graph, DEVICE, sparsity=s, pattern=pattern) for s in sorted((a, b)))
    assert high.cycles <= low.cycles and high.total_s <= low.total_s


@QUICK
@given(st.integers(1, 127), st.integers(1, 127), st.floats(0.05, 1), st.integers(0, 9))
def test_a_lower_clock_never_saves_time(tmp_path, first, second, density, seed):
    low, high = sorted((first, second))
    assert clock_hz(DEVICE, "drpai3.mac_clock", high) <= clock_hz(DEVICE, "drpai3.mac_clock", low)
    b = Builder((1, 32, 16, 16), seed=seed)
    graph = load(b.save(tmp_path / "a.onnx", b.conv("x", 32, 48, density=density)))
    fast, slow = (estimate(graph, DEVICE, index) for index in (low, high))
    assert slow.total_s >= fast.total_s and slow.cycles == fast.cycles
    for row, other in zip(slow.rows, fast.rows):
        assert row.seconds >= other.seconds


def test_clock_table(tmp_path):
    mhz = {1: 1000, 2: 1000, 3: 630, 4: 420, 5: 315, 8: 180, 16: 84, 127: 10}
    for index, value in mhz.items():
        assert clock_hz(DEVICE, "drpai3.mac_clock", index) == pytest.approx(value * 1e6)
    graph = load(residual(tmp_path / "a.onnx"))
    times = [estimate(graph, DEVICE, index).total_s for index in (2, 3, 8, 127)]
    assert times == sorted(times) and times[0] < times[-1]


def test_random_zeros_gain_less_than_balanced_ones():
    assert share_of_rows(0.9, "balanced", 16, 32) == pytest.approx(0.1)
    assert share_of_rows(0.99, "balanced", 16, 32) == 1 / 16
    w = np.random.default_rng(0).random((512, 2048)) < 0.1
    cycles = packing.group_counts(w.astype(np.int8)).sum() / packing.dense_cycles(w.shape)
    assert share_of_rows(0.9, "random", 16, 32) == pytest.approx(cycles, rel=0.03)
    for bad in ((1.0, "random"), (-0.1, "balanced"), (0.5, "striped")):
        with pytest.raises(DrpAi3Error):
            share_of_rows(*bad, 16, 32)


def test_a_mapped_network_has_no_fallback(tmp_path):
    found = estimate(load(residual(tmp_path / "a.onnx")), DEVICE)
    assert not found.fallbacks
    units = {row.name: row.unit for row in found.rows}
    assert units["relu1"] == "fused" and units["conv0"] == "ai-mac" and units["add3"] == "ai-mac"
    parts = sum(row.seconds + row.wait_s for row in found.rows) + found.overhead_s
    assert found.total_s == pytest.approx(parts)


@pytest.mark.parametrize(
    "name, unit", [("channels", "cpu"), ("strided", "drp"), ("whole", "gone"), ("equal", "copy"), ("unequal", "cpu")]
)
def test_slices_and_splits(tmp_path, name, unit):
    b = Builder()
    y = b.conv("x", 16, 16)
    if name in ("equal", "unequal"):
        parts = [8, 8] if name == "equal" else [4, 12]
        y = b.op("Split", y, b.constant(np.array(parts)), outputs=2, axis=1)
        y = b.conv(y, parts[0], 8)
    else:
        first, last, axis, step = {"channels": (0, 8, 1, 1), "strided": (0, 99, 2, 2), "whole": (0, 99, 2, 1)}[name]
        y = b.op("Slice", y, *(b.constant(np.array([v])) for v in (first, last, axis, step)))
        y = b.conv(y, 8 if name == "channels" else 16, 8)
    found = estimate(load(b.save(tmp_path / "a.onnx", y)), DEVICE)
    between = [] if name == "whole" else [unit]
    assert [row.unit for row in found.rows] == ["ai-mac", *between, "ai-mac"]


def test_a_split_of_the_channels_left_the_chip_before_release_2_5(tmp_path):
    b = Builder()
    left = b.op("Split", b.conv("x", 16, 16), b.constant(np.array([8, 8])), outputs=2, axis=1)
    joined = b.op("Concat", b.conv(left, 8, 8), "t1_1", axis=1)
    graph = load(b.save(tmp_path / "a.onnx", b.conv(joined, 16, 8)))
    old, new = estimate(graph, DEVICE, release=2.4), estimate(graph, DEVICE, release=2.5)
    assert [row.op for row in old.fallbacks][:1] == ["Split"] and old.crossings > new.crossings == 1
    assert [row.unit for row in new.rows if row.op in ("Split", "Concat")] == ["copy", "copy"]


def test_memory_areas_add_up_and_tensors_lie_where_the_areas_say(tmp_path):
    found = estimate(load(residual(tmp_path / "a.onnx")), DEVICE)
    areas = found.memory
    assert areas.inputs == 4 * 16 * 32 * 32 and areas.weights == 64 * 9 * 80
    assert areas.total == areas.inputs + areas.features + areas.weights + DEVICE["drpai3.configuration_bytes"]
    assert areas.features == 64 * 32 * 32  # the result; the rest stays on chip


def test_a_newer_release_maps_asymmetric_kernels(tmp_path):
    b = Builder()
    graph = load(b.save(tmp_path / "a.onnx", b.conv("x", 16, 16, (7, 1))))
    assert estimate(graph, DEVICE, release=2.4).fallbacks
    assert not estimate(graph, DEVICE, release=2.7).fallbacks


def test_hard_swish_runs_on_the_drp_and_silu_behind_its_convolution(tmp_path):
    b = Builder()
    y = b.conv("x", 16, 16)
    y = b.op("Mul", y, b.op("HardSigmoid", y))
    y = b.conv(y, 16, 16)
    y = b.op("Mul", y, b.op("Sigmoid", y))
    found = estimate(load(b.save(tmp_path / "a.onnx", y)), DEVICE)
    assert [row.unit for row in found.rows] == ["ai-mac", "fused", "drp", "ai-mac", "fused", "fused"]


@pytest.mark.parametrize("k", [3, 5])
def test_nearest_upsampling_smoothed_by_a_depthwise_convolution_is_mapped(tmp_path, k):
    """A sum of branches of unequal size, as in XFeat: every addition behind a convolution."""
    b = Builder((1, 16, 32, 32))
    total = first = b.conv("x", 16, 16)
    for factor in (2, 4):
        y = b.conv(first, 16, 16, stride=factor)
        scale = b.constant(np.array([1, 1, factor, factor], np.float32))
        y = b.op("Resize", y, "", scale, mode="nearest")
        total = b.op("Add", total, b.conv(y, 16, 16, k, group=16))
    found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(total, 16, 16))), DEVICE)
    assert not found.fallbacks and found.crossings == 1
    for row in found.rows:
        assert row.unit == ("drp" if row.op == "Resize" else "ai-mac"), row


@pytest.mark.parametrize("opset, axes", [(13, [2, 3]), (18, [-2, -1])])
def test_a_mean_over_the_image_is_known_in_every_spelling(tmp_path, opset, axes):
    b = Builder((1, 16, 32, 32), opset=opset)
    y = b.conv("x", 16, 16)
    if opset < 18:
        y = b.op("ReduceMean", y, axes=axes, keepdims=1)
    else:
        y = b.op("ReduceMean", y, b.constant(np.array(axes)), keepdims=1)
    found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(y, 16, 8, 1))), DEVICE)
    assert [row.unit for row in found.rows if row.op == "GlobalAveragePool"] == ["drp"] and not found.fallbacks


def test_rearrangements_of_images_are_mapped_and_others_are_not(tmp_path):
    b = Builder((1, 16, 32, 32))
    y = b.op("Reshape", b.conv("x", 16, 16), b.constant(np.array([1, 16, 16, 2, 16, 2])))
    y = b.op("Transpose", y, perm=[0, 1, 3, 5, 2, 4])
    y = b.op("Reshape", y, b.constant(np.array([1, 64, 16, 16])))
    y = b.conv(b.op("Transpose", b.conv(y, 64, 16), perm=[0, 1, 3, 2]), 16, 8)
    found = estimate(load(b.save(tmp_path / "a.onnx", y)), DEVICE)
    assert [row.unit for row in found.rows if row.op == "Transpose"] == ["cpu", "drp"]
    assert "four axes" in found.fallbacks[0].reason


def test_a_resizing_that_is_only_added_repeats_numbers_at_the_rate_of_the_memory(tmp_path):
    """It costs the DRP no conversion: a fixed time, and the way of what it reads and writes."""
    rows = {}
    for last in ("Add", "Concat"):
        b = Builder((1, 16, 16, 16))
        small = b.conv(b.conv("x", 16, 16), 16, 16, stride=2)
        scales = b.constant(np.array([1, 1, 2, 2], np.float32))
        y, x = b.op("Resize", small, "", scales, mode="nearest"), b.conv("x", 16, 16)
        y = b.op("Add", y, x) if last == "Add" else b.op("Concat", y, x, axis=1)
        found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(y, 16 if last == "Add" else 32, 8))), DEVICE)
        rows[last] = next(row.seconds for row in found.rows if row.op == "Resize")
    elements = 16 * 16 * 16
    fixed, way = DEVICE["drpai3.drp_op_overhead"], 1.25 * elements / DEVICE["drpai3.feature_bandwidth"]
    assert rows["Add"] == pytest.approx(fixed + way)
    assert rows["Concat"] == pytest.approx(fixed + elements / DEVICE["drpai3.drp_element_rate"])


def test_the_array_works_on_square_tiles(tmp_path):
    """An image of 5 x 5 takes four tiles of 4 x 4, one of 4 x 4 takes one."""
    cycles = {}
    for side in (4, 5, 8):
        b = Builder((1, 64, side, side))
        cycles[side] = estimate(load(b.save(tmp_path / "a.onnx", b.conv("x", 64, 64))), DEVICE).cycles
    assert cycles[5] == cycles[8] == 4 * cycles[4]


def test_functions_on_the_cpu_take_more_than_arithmetic(tmp_path):
    seconds = {}
    for op in ("Abs", "Erf"):
        b = Builder((1, 16, 32, 32))
        found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(b.op(op, b.conv("x", 16, 16)), 16, 8))), DEVICE)
        (row,) = found.fallbacks
        seconds[op] = row.seconds
    assert seconds["Erf"] - seconds["Abs"] == pytest.approx(16 * 32 * 32 / DEVICE["fallback.curve_rate"])


def test_average_and_maximum_pooling_differ_by_their_taps(tmp_path):
    seconds = {}
    for op in ("MaxPool", "AveragePool"):
        b = Builder((1, 64, 64, 64))
        y = b.op(op, b.conv("x", 64, 64), kernel_shape=[4, 4], strides=[4, 4])
        found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(y, 64, 8))), DEVICE)
        seconds[op] = found.rows[1].seconds
    rates = DEVICE["drpai3.pool_tap_rate"], DEVICE["drpai3.average_tap_rate"]
    taps = 64 * 64 * 64
    assert seconds["AveragePool"] - seconds["MaxPool"] == pytest.approx(taps / rates[1] - taps / rates[0])


def test_a_network_that_does_not_fit_is_refused(tmp_path):
    b = Builder((1, 16, 4096, 8192))
    graph = load(b.save(tmp_path / "big.onnx", b.conv("x", 16, 64, 1)))
    with pytest.raises(DrpAi3Error, match=r"big.onnx: needs \d+ MiB, the DRP-AI area.*512"):
        estimate(graph, DEVICE)


def test_verify_counts_every_weight(tmp_path):
    counts = verify(load(residual(tmp_path / "a.onnx", density=0.3)), DEVICE)
    assert counts == {"layers": 2, "weights": 64 * 9 * 80, "accumulators": 256, "exact": True}


@QUICK
@given(st.floats(0.1, 0.9), st.sampled_from((8, 33, 64)), st.integers(0, 9))
def test_energy_of_the_array_is_that_of_the_products_it_makes(tmp_path, density, cout, seed):
    b = Builder((1, 32, 16, 16), seed=seed)
    model = b.model(b.conv("x", 32, cout, density=density))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = estimate(load(tmp_path / "a.onnx"), DEVICE)
    weights = np.frombuffer(model.graph.initializer[0].raw_data, np.float32)
    products = np.count_nonzero(weights) * 16 * 16
    idle_j = found.total_s * DEVICE["drpai3.idle_power"]  # less the crossing, which the CPU makes
    idle_j -= found.crossing_s * DEVICE["drpai3.idle_power"]
    per_product = DEVICE["drpai3.array_power"] * 2 / DEVICE["drpai3.dense_peak"]
    assert found.accelerator_j - idle_j == pytest.approx(products * per_product, rel=1e-6)


@pytest.mark.parametrize("device", ["rzv2n", "rzv2l", "rzv2m", "rzv2ma"])
def test_other_devices_are_slower(tmp_path, device):
    graph = load(residual(tmp_path / "a.onnx", cin=64))
    assert estimate(graph, load_constants(device)).total_s > estimate(graph, DEVICE).total_s


def test_every_constant_has_a_source():
    for entry in load_constants("rzv2h").entries():
        assert entry.kind in ("cited", "fitted", "assumed") and entry.unit
        assert "placeholder" not in entry.source


def test_unknown_operators_of_a_known_domain_run_on_the_cpu(tmp_path):
    b = Builder()
    y = b.op("LpNormalization", b.conv("x", 16, 8))
    found = estimate(load(b.save(tmp_path / "a.onnx", y)), DEVICE)
    assert found.fallbacks[0].reason == "operator that no rule maps"
