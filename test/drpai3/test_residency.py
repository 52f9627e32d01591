# SPDX-License-Identifier: Apache-2.0
"""Where tensors lie: on chip along a chain, in DDR where branches, copies and other units read them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_networks import Builder

from drp_slam.drpai3 import order, placement, prefetch, residency, subgraphs
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import layers

SIDE, WIDTH = 32, 16
TENSOR = SIDE * SIDE * WIDTH
ROOMY = 100 * TENSOR


def on_chip_bytes(lies):
    """(L,) bytes of the feature buffer in use while each layer runs."""
    used = np.zeros(len(lies.load))
    for tensor in lies.held:
        if tensor.on_chip:
            used[max(tensor.first, 0) : tensor.last + 1] += tensor.bytes
    return used


def simulated(path, buffer_bytes):
    graph = load(path)
    work = layers(graph)
    wires = subgraphs.wiring(graph, work)
    units = placement.units(subgraphs.find(graph, work, wires), work, wires)
    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    return work, units, residency.simulate(work, wires, units, sizes, buffer_bytes)


def by_op(work, values):
    return [(layer.op, int(value)) for layer, value in zip(work, values) if layer.op not in ("Relu",)]


@pytest.fixture
def b():
    return Builder((1, WIDTH, SIDE, SIDE))


def test_a_chain_loads_its_input_and_stores_its_result(b, tmp_path):
    y = b.op("Relu", b.conv("x", WIDTH, WIDTH))
    path = b.save(tmp_path / "chain.onnx", b.conv(b.conv(y, WIDTH, WIDTH), WIDTH, WIDTH))
    work, _, lies = simulated(path, ROOMY)
    assert by_op(work, lies.load) == [("Conv", TENSOR), ("Conv", 0), ("Conv", 0)]
    assert by_op(work, lies.store) == [("Conv", 0), ("Conv", 0), ("Conv", TENSOR)]
    work, _, lies = simulated(path, 2 * TENSOR - 1)  # input and output of a layer do not fit together
    assert by_op(work, lies.load) == [("Conv", TENSOR), ("Conv", 0), ("Conv", TENSOR)]


def test_a_residual_stays_until_its_addition_while_it_fits(b, tmp_path):
    first = b.op("Relu", b.conv("x", WIDTH, WIDTH))
    y = b.conv(b.op("Relu", b.conv(first, WIDTH, WIDTH)), WIDTH, WIDTH)
    path = b.save(tmp_path / "residual.onnx", b.conv(b.op("Add", y, first), WIDTH, WIDTH))
    work, _, lies = simulated(path, 3 * TENSOR)
    assert by_op(work, lies.load) == [("Conv", TENSOR), ("Conv", 0), ("Conv", 0), ("Add", 0), ("Conv", 0)]
    assert on_chip_bytes(lies).max() == 3 * TENSOR
    work, _, lies = simulated(path, 3 * TENSOR - 1)
    loads = dict(zip([layer.name for layer in work], lies.load))
    assert sum(loads.values()) == 3 * TENSOR  # the input, and the residual twice
    assert by_op(work, lies.store)[0] == ("Conv", TENSOR)


def test_branches_and_concatenations_go_through_ddr(b, tmp_path):
    first = b.conv("x", WIDTH, WIDTH)
    left, right = b.conv(first, WIDTH, WIDTH), b.conv(first, WIDTH, WIDTH)
    path = b.save(tmp_path / "csp.onnx", b.conv(b.op("Concat", left, right, axis=1), 2 * WIDTH, WIDTH))
    work, units, lies = simulated(path, ROOMY)
    assert units[[layer.op for layer in work].index("Concat")] == placement.COPY
    assert by_op(work, lies.load)[1:3] == [("Conv", TENSOR), ("Conv", TENSOR)]
    assert by_op(work, lies.store)[:3] == [("Conv", TENSOR)] * 3
    assert by_op(work, lies.load)[3:] == [("Concat", 2 * TENSOR), ("Conv", 0)]  # the next layer reads its result


def test_a_concatenation_goes_to_ddr_where_two_layers_read_it_or_it_does_not_fit(b, tmp_path):
    left, right = (b.conv(b.conv("x", WIDTH, WIDTH), WIDTH, WIDTH) for _ in range(2))
    joined = b.op("Concat", left, right, axis=1)
    once = b.save(tmp_path / "once.onnx", b.conv(joined, 2 * WIDTH, WIDTH))
    work, _, lies = simulated(once, 2 * TENSOR - 1)
    assert by_op(work, lies.store)[4:] == [("Concat", 2 * TENSOR), ("Conv", TENSOR)]
    both = b.op("Add", b.conv(joined, 2 * WIDTH, WIDTH), b.conv(joined, 2 * WIDTH, WIDTH))
    work, _, lies = simulated(b.save(tmp_path / "twice.onnx", both), ROOMY)
    at = [layer.op for layer in work].index("Concat")
    assert lies.store[at] == 2 * TENSOR and lies.load.sum() == (2 + 2 + 2 * 2) * TENSOR


def test_a_depthwise_layer_streams_whatever_the_size(b, tmp_path):
    y = b.conv(b.conv("x", WIDTH, WIDTH), WIDTH, WIDTH, group=WIDTH)
    path = b.save(tmp_path / "depthwise.onnx", b.conv(y, WIDTH, WIDTH))
    work, _, lies = simulated(path, 10.0)
    assert by_op(work, lies.load) == [("Conv", TENSOR), ("Conv", 0), ("Conv", 0)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
def test_no_more_lies_on_chip_than_fits(seed, share):
    """Random graphs of convolutions and additions: capacity holds at every layer, and every load has
    a store or is an input."""
    import tempfile
    from pathlib import Path

    random, b = np.random.default_rng(seed), Builder((1, WIDTH, SIDE, SIDE), seed=seed)
    made = [b.conv("x", WIDTH, WIDTH)]
    for _ in range(int(random.integers(2, 10))):
        if random.random() < 0.4 and len(made) > 1:
            made.append(b.op("Add", made[-1], made[int(random.integers(len(made) - 1))]))
        else:
            made.append(b.conv(made[-1] if random.random() < 0.7 else made[int(random.integers(len(made)))], 16, 16))
    with tempfile.TemporaryDirectory() as folder:
        work, _, lies = simulated(b.save(Path(folder) / "net.onnx", made[-1]), share * 3 * TENSOR)
    assert (on_chip_bytes(lies) - TENSOR * np.array([x.op == "Add" for x in work]) <= share * 3 * TENSOR).all()
    outside = [t for t in lies.held if not t.on_chip]
    assert lies.store.sum() == sum(t.bytes for t in outside if t.first >= 0)
    assert (lies.load > 0).sum() <= sum(len(x.node.inputs) for x in work)


def stream_by_bytes(work, weights, buffer_bytes, bandwidth, step=1.0):
    """The same stream, byte by byte: a byte is loaded when its room is free, in order."""
    ends, now, before = [], 0.0, np.concatenate([[0.0], np.cumsum(weights)])
    clock, waits = 0.0, []
    for n, w in enumerate(weights):
        for byte in np.arange(before[n], before[n + 1], step):
            room = byte + step - buffer_bytes
            freed = next((ends[k] for k in range(n) if before[k + 1] >= room), 0.0) if room > 0 else 0.0
            now = max(now, freed) + step / bandwidth
        done = clock + work[n]
        waits.append(max(now - done, 0.0) if w else 0.0)
        clock = done + waits[-1]
        ends.append(clock)
    return waits


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=8),
    st.integers(1, 60),
    st.integers(1, 3),
)
def test_the_weight_stream_against_one_of_single_bytes(pairs, buffer_bytes, bandwidth):
    work, weights = np.array(pairs, float).T
    s = prefetch.streams([weights], buffer_bytes)
    found = prefetch.waits(s, work, weights, bandwidth)
    # a layer's own bytes beyond the buffer stream through it: the oracle lets them pass
    np.testing.assert_allclose(found, stream_by_bytes(work, weights, buffer_bytes, bandwidth), atol=1e-9)


def test_networks_side_by_side_do_not_touch_each_other():
    random = np.random.default_rng(0)
    work = [random.random(n) for n in (3, 7, 1)]
    weights = [random.random(n) * (random.random(n) < 0.7) for n in (3, 7, 1)]
    alone = [prefetch.waits(prefetch.streams([w], 0.8), t, w, 0.5) for t, w in zip(work, weights)]
    s = prefetch.streams(weights, 0.8)
    both = np.stack([np.concatenate(work)] * 2)
    together = prefetch.waits(s, both, np.concatenate(weights), np.array([0.5, 5.0]))
    np.testing.assert_allclose(together[0], np.concatenate(alone))
    assert (together[1] <= together[0] + 1e-12).all()


def test_branches_that_a_file_lists_in_turn_run_one_after_the_other(tmp_path):
    """Two chains written alternately keep their tensors on chip all the same."""
    b = Builder((1, WIDTH, SIDE, SIDE))
    left = right = b.conv("x", WIDTH, WIDTH)
    for _ in range(3):
        left, right = b.conv(left, WIDTH, WIDTH), b.conv(right, WIDTH, WIDTH)
    graph = load(b.save(tmp_path / "turns.onnx", b.op("Add", left, right)))
    work = order.chain_first(graph, layers(graph))
    assert sorted(x.name for x in work) == sorted(x.name for x in layers(graph))
    made = {"x"}
    for layer in work:
        assert {i for i in layer.node.inputs if i in graph.shapes and not graph.is_constant(i)} <= made
        made |= set(layer.node.outputs)
    wires = subgraphs.wiring(graph, work)
    units = placement.units(subgraphs.find(graph, work, wires), work, wires)
    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    lies = residency.simulate(work, wires, units, sizes, ROOMY)
    assert lies.store.sum() == 2 * TENSOR  # the branching point and the result
