# SPDX-License-Identifier: Apache-2.0
"""The fit finds constants that made the data, and the metrics are what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_networks import Builder, residual

from drp_slam import cli
from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.fitting import fit, metrics
from drp_slam.drpai3.fitting.batch import Rows, batch, predict
from drp_slam.drpai3.fitting.corpus import (
    Pair,
    read_corpus,
    read_index,
    read_pairs,
    release_of,
    with_latencies,
    with_pairs,
)
from drp_slam.drpai3.fitting.translator import Group, TableRow
from drp_slam.drpai3.fitting.validate import row_summary
from drp_slam.drpai3.fitting.write_constants import write_constants
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.timing import result_seconds
from drp_slam.errors import DataError, DeviceError

DEVICE = load_constants("rzv2h")


def corpus(folder):
    """Six networks of three families whose published time is the model's own, to 1 ns; every second one is of a
    pair, published without the call of the runtime."""
    (folder / "graphs").mkdir(parents=True)
    lines = ["id,published_model,published_ms,published_precision_ms,family,sw_version"]
    for n, (family, width) in enumerate((f, w) for f in "abc" for w in (32, 128)):
        b = Builder((1, 16, 32, 32))
        y = b.op("Relu", b.conv("x", 16, width))
        if family == "b":
            y = b.conv(y, width, width, group=4)
        if family == "c":
            y = b.op("MaxPool", b.conv(y, width, width), kernel_shape=[2, 2], strides=[2, 2])
        path = b.save(folder / "graphs" / f"n{n}.onnx", b.conv(y, width, 16))
        name = f"docs-site N{n}" if n % 2 else f"N{n}"
        seconds = estimate(load(path), DEVICE, sparsity=0.0).total_s - n % 2 * DEVICE["drpai3.inference_overhead"]
        lines.append(f'n{n},{name},{seconds * 1e3:.6f},0.000001,{family},"TVM v2.7.0"')
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def samples_of(folder):
    return read_corpus(corpus(folder), read_index(folder), DEVICE)


def test_the_models_own_times_are_reproduced(tmp_path):
    """`estimate` and the fit's flattened batch are the same model."""
    samples = samples_of(tmp_path / "c")
    b = batch(samples, {}, DEVICE)
    np.testing.assert_allclose(predict(b, [DEVICE], 1e9)[0], b.published_s, rtol=1e-5)
    assert list(b.mapped) == [True, True, False, False, True, True]


def test_a_fit_recovers_the_constants_from_another_start(tmp_path):
    samples = samples_of(tmp_path / "c")
    b = batch(samples, {}, DEVICE)
    x, _ = fit.fit_constants(b, DEVICE)
    found = {**dict(DEVICE), **dict(zip(fit.START, np.exp(x)))}
    error = np.abs(predict(b, [found], 1e9)[0] / b.published_s - 1)
    assert np.median(error) < 0.08


def test_folds_keep_families_together(tmp_path):
    samples = samples_of(tmp_path / "c")
    fold = fit.folds(samples, 3)
    assert sorted(set(fold)) == [0, 1, 2] and all(fold[0::2] == fold[1::2])


def test_least_squares_finds_a_minimum_inside_and_at_a_bound():
    target = np.array([0.5, 4.0])
    x, cost = fit.least_squares(lambda x: x - target, np.zeros(2), np.full(2, -1.0), np.full(2, 2.0))
    np.testing.assert_allclose(x, [0.5, 2.0], atol=1e-6)
    assert cost == pytest.approx(4.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=12), st.integers(0, 99))
def test_spearman_against_a_definition(values, seed):
    a = np.array(values, float)
    b = np.random.default_rng(seed).permutation(a)
    found = metrics.spearman(a, b)
    if np.ptp(a) == 0:
        assert found is None
    else:
        rank = lambda v: np.array([(v < x).sum() + ((v == x).sum() - 1) / 2 for x in v])  # noqa: E731
        assert found == pytest.approx(np.corrcoef(rank(a), rank(b))[0, 1])


def test_metrics_with_and_without_rounding():
    found = metrics.metrics(np.array([1.0, 10.0]), np.array([1.4, 12.0]), np.array([1.0, 1.0]))
    assert found["median_ape_pct"] == pytest.approx(30.0) and found["n"] == 2
    assert found["median_ape_rounded_pct"] == pytest.approx((0 + 15) / 2)
    assert metrics.metrics(np.array([]), np.array([]), np.array([]))["n"] == 0


def test_pruned_twins_have_less_work(tmp_path):
    samples = samples_of(tmp_path / "c")
    both = with_pairs(samples, [Pair("N1", 0.9, 2e-3, 1e-3)], DEVICE)
    assert len(both) == 7 and both[2].published.name == "n1@90%"
    assert both[2].table.cycles.sum() < both[1].table.cycles.sum()
    result = metrics.summary(both, np.full(7, 1e-3), np.ones(7, bool))
    assert result["all"]["n"] == 6 and result["pairs"][0]["predicted_speedup"] == 1.0


def test_validate_device_command(tmp_path, capsys):
    folder = corpus(tmp_path / "c")
    argv = ["validate-device", str(folder), "--out", str(tmp_path / "o"), "--json"]
    assert cli.main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    for part in ("all", "mapped"):
        assert {"n", "median_ape_pct", "mape_pct", "spearman"} <= set(result[part])
    assert result["all"]["median_ape_pct"] < 0.01 and set(result["families"]) == {"a", "b", "c"}
    assert {"published_ms", "predicted_ms", "mapped"} <= set(result["models"][0])
    assert (tmp_path / "o" / "predicted-vs-published.png").stat().st_size > 1000
    assert cli.main(argv[:-1]) == 0
    assert "mapped" in capsys.readouterr().out


def test_another_chips_latencies_take_the_place(tmp_path):
    folder, table = corpus(tmp_path / "c"), tmp_path / "chips.csv"
    table.write_text("id,rzv2l_ms\nn0,7\nn3,\nn5,40\nelse,3\n")
    rows = with_latencies(read_index(folder), table, "rzv2l_ms")
    assert [(r.name, r.latency_s, r.precision_s) for r in rows] == [("n0", 7e-3, 1e-3), ("n5", 40e-3, 1e-3)]
    with pytest.raises(DataError, match=r"chips.csv: cannot read.*rzv2m_ms"):
        with_latencies(rows, table, "rzv2m_ms")


def test_rows_of_a_table_are_left_out_of_the_fold_that_tests_their_family(tmp_path):
    """The same network as a sample and as rows: both are predicted without either."""
    samples = samples_of(tmp_path / "c")
    groups = [Group("Conv", (), (n,)) for n, layer in enumerate(samples[0].layers) if layer.macs]
    groups = [replace(g, rows=(TableRow(k, "Conv", (3, 3), 1, (1,) * 3, (1,) * 3, 5.0),)) for k, g in enumerate(groups)]
    rows = Rows(samples[0], tuple(groups))
    whole = batch(samples, {}, DEVICE, rows)
    (times,) = predict(whole, [DEVICE], 1e9)
    calm = DEVICE.replace({"drpai3.exposed_share": 0.0})  # a translator counts no contention
    (alone,) = predict(batch(samples[:1], {}, DEVICE), [calm], 1e9)
    fixed = DEVICE["drpai3.inference_overhead"] + float(result_seconds(1, 16 * 32 * 32, DEVICE))
    assert times[len(samples) :].sum() + fixed == pytest.approx(alone[0], rel=1e-6)
    np.testing.assert_allclose(whole.published_s[len(samples) :], 5e-6)
    summary = row_summary(rows, 2 * whole.published_s[len(samples) :])
    assert summary["Conv"]["median_row_error_pct"] == pytest.approx(100)


@pytest.mark.parametrize("version, release", [("TVM v2.7.0, x", 2.7), ("docs of 2024-09", 2.4), ("", 2.7)])
def test_releases(version, release):
    assert release_of(version) == release


@pytest.mark.parametrize(
    "text, says",
    [
        ("id,family\na,b\n", "published_ms"),
        ("id,published_ms\na,fast\n", "line 2"),
        ("id,published_ms\na,0\n", "expected > 0"),
        ("id,published_ms\n", "no rows"),
    ],
)
def test_a_bad_index_is_one_line(tmp_path, text, says):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_index(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"index.csv"):
        read_index(tmp_path)
    with pytest.raises(DataError, match=r"pairs.csv"):
        read_pairs(tmp_path / "pairs.csv")
    (tmp_path / "index.csv").write_text("id,published_ms\nnet,3\n")
    with pytest.raises(DataError, match=r"net.onnx.gz"):
        read_corpus(tmp_path, read_index(tmp_path), DEVICE)


def test_a_graph_that_cannot_be_read_is_said_and_left_out(tmp_path, capsys):
    (tmp_path / "graphs").mkdir()
    residual(tmp_path / "graphs" / "good.onnx")
    (tmp_path / "graphs" / "bad.onnx").write_text("no network")
    index = tmp_path / "index.csv"
    index.write_text("id,published_ms\ngood,1\nbad,2\n")
    assert cli.main(["validate-device", str(tmp_path), "--json", "--out", str(tmp_path / "o")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["all"]["n"] == 1 and "bad.onnx: not an ONNX" in result["skipped"][0]
    assert cli.main(["fit-device", str(tmp_path)]) == 1
    assert "bad.onnx: not an ONNX" in capsys.readouterr().err
    index.write_text("id,published_ms\nbad,2\n")
    assert cli.main(["validate-device", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "no graph can be read" in capsys.readouterr().err


def test_written_constants_are_read_back(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('# kept\ndrpai3:\n  feature_share: {value: 1.0, unit: B, source: "assumed: x"}\n')
    write_constants(str(path), {"drpai3.feature_share": 12345.678}, "fitted: here")
    constant = load_constants(str(path)).entry("drpai3.feature_share")
    assert constant.value == pytest.approx(12346, rel=1e-4) and constant.kind == "fitted"
    assert path.read_text().startswith("# kept")
    with pytest.raises(DeviceError, match="no line for drpai3.clock"):
        write_constants(str(path), {"drpai3.clock": 1.0}, "fitted: here")


def test_two_rates_of_one_network_are_compared_with_the_dense_one(tmp_path):
    samples = samples_of(tmp_path / "c")
    rates = [Pair("N1", 0.7, 2e-3, 1.6e-3), Pair("N1", 0.9, 2e-3, 1e-3)]
    both = with_pairs(samples, rates, DEVICE)
    predicted = np.array([s.share for s in both])
    rows = metrics.summary(both, predicted, np.ones(len(both), bool))["pairs"]
    dense_s = next(s for s in samples if "N1" in s.published.model).published.latency_s
    assert [r["published_speedup"] for r in rows] == pytest.approx([dense_s / 1.6e-3, dense_s / 1e-3])
    shares = [s.share for s in both if s.share < 1]
    assert [r["predicted_speedup"] for r in rows] == pytest.approx([1 / s for s in shares])
