# SPDX-License-Identifier: Apache-2.0
"""Summaries, ratios, temperatures and influences against sums and formulas written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.chip import cpu_alone, sensitivity, thermal
from drp_slam.chip.constants import Constants, load_constants
from drp_slam.profiler import summary
from drp_slam.profiler.span import Span

TIME = st.floats(1e-6, 1e-1)
NAN = float("nan")


def span(
    frame: int,
    stage: str,
    wall: float,
    modelled: float = 1e-3,
    energy: float = 1e-3,
    cpu: float = 2e-3,
    cpu_energy: float = 4e-3,
) -> Span:
    unit = {"network": "drpai3", "track": "cpu"}.get(stage, "drp")
    return Span(frame * 10**8, frame, stage, unit, "emulated:rzv2h", wall, modelled, energy, cpu, cpu_energy)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TIME, TIME, TIME), min_size=1, max_size=9))
def test_percentiles_and_frame_sums(times: list[tuple[float, float, float]]) -> None:
    spans = [
        span(i, name, t[j], modelled=t[j] * 3)
        for i, t in enumerate(times)
        for j, name in enumerate(("preprocess", "network", "track"))
    ]
    stages = summary.stages(spans[::-1])
    assert set(stages) == {"preprocess", "network", "track"}
    wall_ms = np.array(times)[:, 1] * 1e3
    assert stages["network"]["wall_ms"]["p50"] == pytest.approx(np.median(wall_ms))
    assert stages["network"]["wall_ms"]["p95"] == pytest.approx(np.percentile(wall_ms, 95))
    assert stages["network"]["modelled_ms"]["mean"] == pytest.approx(3 * wall_ms.mean())
    frames = summary.by_frame(spans, lambda s: s.wall_s)
    assert np.allclose(frames, np.array(times).sum(1))
    latency = summary.latency(spans)
    assert latency["wall_ms"]["p50"] == pytest.approx(np.median(frames) * 1e3)
    assert summary.latency(spans, [1.0, NAN])["wall_ms"]["p50"] == 1000.0


def test_what_is_not_modelled_is_none() -> None:
    spans = [span(0, "network", 0.1, modelled=NAN, energy=NAN, cpu=NAN, cpu_energy=NAN)]
    stage = summary.stages(spans)["network"]
    assert stage["wall_ms"]["p50"] == 100.0
    assert stage["modelled_ms"] is stage["energy_mj"] is stage["cpu_modelled_ms"] is None
    assert summary.frame_means(spans) is None
    assert summary.spread_ms([]) is None and summary.mean([]) is None


def test_ratios_of_a_comparison_worked_by_hand() -> None:
    spans = [span(i, s, 0.01) for i in range(4) for s in ("preprocess", "network")]
    means = summary.frame_means(spans)
    m = cpu_alone.compare(means, throughput_hz=800.0)
    assert m["chip_ms"] == pytest.approx(2.0) and m["cpu_ms"] == pytest.approx(4.0)
    assert m["latency_speedup"] == pytest.approx(2.0)
    assert m["throughput_speedup"] == pytest.approx(800 / 250)
    assert m["energy_ratio"] == pytest.approx(2 / 8)
    assert m["power_ratio"] == pytest.approx((2 / 2) / (8 / 4))
    kernels = [
        {
            "kernel": "a",
            "place": "custom",
            "modelled_s": 0.5e-3,
            "energy_j": 1e-4,
            "cpu_modelled_s": 1.5e-3,
            "cpu_energy_j": 1e-3,
        },
        {
            "kernel": "b",
            "place": "opencva",
            "modelled_s": 0.5e-3,
            "energy_j": 1e-4,
            "cpu_modelled_s": 9.0,
            "cpu_energy_j": 9.0,
        },
    ]
    without = cpu_alone.without_custom(kernels, means)
    assert without["kernels"] == ["a"]
    assert without["chip_ms"] == pytest.approx(2.0 + 1.0)
    assert without["chip_mj"] == pytest.approx(2.0 + 0.9)


def test_host_comparison_takes_only_common_frames() -> None:
    ours = [span(i, "track", 0.01) for i in range(5)]
    theirs = [span(i, "track", 0.03) for i in range(3, 9)]
    h = summary.beside_baseline(ours, theirs)
    assert h["frames"] == 2 and h["ratio"] == pytest.approx(3.0)
    assert summary.beside_baseline(ours, []) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(40.0, 400.0))
def test_heat_solves_its_differential_equation(energy_mj: float) -> None:
    """Euler: C dT/dt = P - (T - idle) / R, until the limit is passed or the end is reached."""
    c = load_constants()
    r, capacity, ambient, rise = (c[f"thermal.{k}"] for k in ("resistance", "capacity", "ambient", "idle_rise"))
    found = thermal.estimate(c, energy_mj, rate_hz=200.0)
    assert found["power_w"] == pytest.approx(0.2 * energy_mj)
    step_s, time_s, temperature_c = 0.05, 0.0, ambient + rise
    while temperature_c < c["thermal.limit"] and time_s < 20 * found["time_constant_s"]:
        temperature_c += step_s / capacity * (found["power_w"] - (temperature_c - ambient - rise) / r)
        time_s += step_s
    if found["limit_after_s"] is None:
        assert temperature_c == pytest.approx(found["steady_c"], rel=0.01) and found["steady_c"] <= c["thermal.limit"]
    else:
        assert time_s == pytest.approx(found["limit_after_s"], rel=0.01, abs=2 * step_s)


def test_a_cool_frame_never_passes_the_limit() -> None:
    c = load_constants()
    assert thermal.estimate(c, 1.0, 10.0)["limit_after_s"] is None
    assert thermal.estimate(c, None, 10.0) is None


def test_the_thermal_constants_are_those_of_the_measured_curve() -> None:
    c, seen = load_constants(), thermal.FOUR_CORES
    found = thermal.fit(seen, c["cpu.power_busy"])
    assert {k: c[f"thermal.{k}"] for k in found} == pytest.approx(found, rel=0.01)
    at_room = c.replace({"thermal.ambient": seen.room_c})
    start_c, settled_c, end_c = thermal.temperature_c(at_room, c["cpu.power_busy"], np.array([0.0, 150.0, 300.0]))
    assert start_c == pytest.approx(34.5) and 37 < settled_c < end_c < 39


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_influence_of_a_product_is_its_exponents(a: float, b: float) -> None:
    constants = load_constants()
    keys = ["drp.clock", "cpu.pixel_op_rate", "cpu.cores", "thermal.limit"]

    def model(c: Constants) -> float:
        return c["drp.clock"] ** a / c["cpu.pixel_op_rate"] ** b * c["cpu.cores"] ** 2

    found = sensitivity.elasticities(model, constants, keys)
    assert found == pytest.approx({"drp.clock": a, "cpu.pixel_op_rate": b, "cpu.cores": 2.0})
    shares = sensitivity.shares(found, constants)
    assert shares["assumed"] == pytest.approx(b / (a + b + 2))
    assert math.fsum(shares.values()) == pytest.approx(1.0)
    told = sensitivity.summary({"x": (3.0, found), "y": (1.0, {"drp.clock": 1.0})}, constants)
    assert told["constants"][0]["influence"] >= told["constants"][1]["influence"]
    assert len(told["constants"]) == len(constants)
    assert told["stages"]["y"]["cited"] == 1.0
