# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest
from damage import CASES, damaged, survives
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.errors import PruningError
from drp_slam.pruning import deepcompression as dc
from drp_slam.pruning import huffman, sharing

symbols = st.lists(st.integers(0, 40), min_size=1, max_size=300).map(np.array)


@given(symbols)
@settings(max_examples=60, deadline=None)
def test_round_trip_and_length_within_a_bit_of_entropy(values):
    coded = huffman.encode(values, 41)
    assert (huffman.decode(coded) == values).all()
    mean = coded.lengths[values].mean()
    share = np.unique(values, return_counts=True)[1] / max(len(values), 1)
    entropy = -(share * np.log2(share)).sum()
    assert entropy - 1e-9 <= mean < entropy + 1.0 + 1e-9
    assert len(coded.payload) == -(-int(coded.lengths[values].sum()) // 8)


def test_code_is_prefix_free_and_complete():
    lengths = huffman.code_lengths(np.array([50, 20, 10, 0, 10, 5, 5]))
    assert sum(2.0 ** -int(n) for n in lengths if n) == 1.0
    assert lengths[3] == 0 and lengths[0] == 1


def test_cut_off_payload_and_bad_table_are_named():
    coded = huffman.encode(np.arange(40) % 7, 7)
    with pytest.raises(PruningError, match="truncated"):
        huffman.decode(huffman.Coded(coded.lengths, coded.payload[:3], 40))
    with pytest.raises(PruningError, match="not those of a code"):
        huffman.decode(huffman.Coded(np.ones(3, np.uint8), b"abc", 3))


@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.sampled_from([(7, 5, 3, 3), (40, 60), (1, 1)]))
@settings(max_examples=40, deadline=None)
def test_container_gives_the_shared_weights_back_bit_for_bit(seed, density, shape):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal(shape).astype(np.float32) * (rng.random(shape) < density)
    shared = (
        sharing.share(dense[dense != 0], 4)
        if dense.any()
        else sharing.Shared(np.empty(0, np.float32), np.empty(0, np.int64))
    )
    tensors = {"w": dense, "b": rng.standard_normal(3).astype(np.float32), "n": np.array(7)}
    found = dc.decode(dc.encode(tensors, {"w": shared})[0])
    expected = np.zeros_like(dense)
    expected[dense != 0] = shared.codebook[shared.index]
    assert found["w"].tobytes() == expected.tobytes()
    assert found["b"].tobytes() == tensors["b"].tobytes() and found["n"] == 7


@given(st.integers(0, 999), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_gaps_fit_their_bits_and_rebuild_the_places(seed, bits):
    flat = np.random.default_rng(seed).random(200) < 0.05
    jump, owner = dc.gaps(flat, bits)
    assert jump.max(initial=0) < 2**bits
    assert (np.cumsum(jump + 1)[owner >= 0] - 1 == np.flatnonzero(flat)).all()


def test_sharing_uses_at_most_the_codes_and_is_a_local_optimum():
    values = np.random.default_rng(0).standard_normal(5000)
    shared = sharing.share(values, 4)
    assert len(shared.codebook) <= 16 and np.count_nonzero(shared.codebook) == len(shared.codebook)
    nearest = np.abs(values[:, None] - shared.codebook).argmin(1)
    assert (nearest == shared.index).mean() > 0.999
    for k in range(len(shared.codebook)):
        assert abs(values[shared.index == k].mean() - shared.codebook[k]) < 0.02


def test_damage_under_a_checksum_that_holds_is_one_line_or_tensors():
    """Whoever wrote it: damaged headers, tables and payloads."""
    rng, refused = random.Random(CASES), 0
    weights = np.where(np.random.default_rng(0).random((8, 4, 3, 3)) < 0.3, 1.0, 0.0) * np.arange(1, 33).reshape(
        8, 4, 1, 1
    )
    tensors = {"w": weights, "b": np.ones(8, np.float32)}
    blob, _ = dc.encode(tensors, {"w": sharing.share(weights[weights != 0], 3)})
    header = 8 + int.from_bytes(blob[4:8], "little")
    for case in range(CASES):
        text, body = blob[8:header], blob[header:-32]
        text, body = (damaged(text, rng), body) if case % 3 else (text, damaged(body, rng))
        forged = blob[:4] + len(text).to_bytes(4, "little") + text + body
        refused += survives(lambda forged=forged: dc.decode(forged + hashlib.sha256(forged).digest()))
    assert refused > CASES // 4
    for shape in ([2**40], [-1], [10**30, 0.5]):
        entry = json.dumps([{"name": "x", "shape": shape, "kind": "plain", "bytes": 0, "dtype": "<f4"}]).encode()
        forged = b"DSDC" + len(entry).to_bytes(4, "little") + entry
        with pytest.raises(PruningError):
            dc.decode(forged + hashlib.sha256(forged).digest())


def test_damage_is_found():
    blob, sizes = dc.encode({"w": np.eye(40)}, {"w": sharing.share(np.ones(40), 2)})
    assert sizes.file_bytes == len(blob) and sizes.dense_bytes == 6400 and sizes.ratio > 5
    with pytest.raises(PruningError, match="checksum"):
        dc.decode(blob[:50] + b"x" + blob[51:])
    with pytest.raises(PruningError, match="DSDC"):
        dc.decode(b"zip!")
