# SPDX-License-Identifier: Apache-2.0
"""The timing model follows its formula, and the emulated device keeps the ledger it promises."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam.device import Run, load_constants
from drp_slam.drp.emulator import EmulatedDrp
from drp_slam.drp.kernels import KINDS, PLACES, Grey, Normalise, Statistics, total
from drp_slam.drp.opencva import OpenCva
from drp_slam.drp.pricing import at_mindiv, clock_hz, drp_seconds
from drp_slam.errors import DrpError

CONSTANTS = load_constants()
IMAGE = np.zeros((480, 640, 3), np.uint8)
GREY = IMAGE[..., 0].copy()


@pytest.mark.parametrize(("mindiv", "mhz"), [(2, 420), (3, 315), (5, 210), (8, 140), (127, 9.84)])
def test_clock_of_the_drivers_divider(mindiv, mhz):
    assert clock_hz(mindiv) / 1e6 == pytest.approx(mhz, abs=0.01)
    assert at_mindiv(CONSTANTS, mindiv)["drp.clock"] == clock_hz(mindiv)


@pytest.mark.parametrize("mindiv", [1, 128])
def test_divider_outside_the_drivers_range(mindiv):
    with pytest.raises(DrpError, match=f"mindiv is {mindiv}"):
        clock_hz(mindiv)


def test_default_clock_is_the_drivers_default():
    assert CONSTANTS["drp.clock"] == clock_hz(2)


@pytest.mark.parametrize("kind", KINDS)
def test_streaming_time_is_pixels_by_rate_and_clock(kind):
    c = CONSTANTS.replace({"drp.clock": 1e6, f"drp.{kind}_rate": 2, "drp.custom_overhead": 0.5})
    assert drp_seconds(c, "custom", kind, {"pixels": 4e6}) == pytest.approx(0.5 + 2.0)


def test_the_slowest_of_stream_arithmetic_and_memory_counts():
    c = CONSTANTS.replace(
        {
            "drp.clock": 1e6,
            "drp.point_rate": 1,
            "drp.alu_rate": 10,
            "drp.memory_bandwidth": 1e6,
            "drp.custom_overhead": 0,
        }
    )
    work = {"pixels": 1e6, "ops": 1e6, "bytes": 1e6}
    assert drp_seconds(c, "custom", "point", work) == pytest.approx(1.0)
    assert drp_seconds(c, "custom", "point", work | {"flops": 29e6}) == pytest.approx(3.0)
    assert drp_seconds(c, "custom", "point", work | {"bytes": 5e6}) == pytest.approx(5.0)


def test_opencva_pays_for_its_copies():
    c = CONSTANTS.replace({"drp.opencva_overhead": 0, "drp.custom_overhead": 0})
    work = {"pixels": 1e6, "bytes": 2e6}
    extra = drp_seconds(c, "opencva", "point", work) - drp_seconds(c, "custom", "point", work)
    assert extra == pytest.approx(2e6 / c["drp.copy_bandwidth"])


def test_half_the_clock_takes_twice_the_cycles_time():
    overhead = CONSTANTS["drp.custom_overhead"]
    work = {"pixels": 1e6}
    at = [drp_seconds(at_mindiv(CONSTANTS, m), "custom", "point", work) for m in (2, 5)]
    assert at[1] - overhead == pytest.approx(2 * (at[0] - overhead))


def test_the_device_takes_the_divider():
    slow, fast = EmulatedDrp(CONSTANTS, 127), EmulatedDrp(CONSTANTS)
    times = [[d.run(Statistics(), GREY).modelled_s for _ in range(2)][1] for d in (slow, fast)]
    overhead = CONSTANTS["drp.custom_overhead"]
    assert (times[0] - overhead) / (times[1] - overhead) == pytest.approx(128 / 3)
    with pytest.raises(DrpError, match="mindiv is 1,"):
        EmulatedDrp(CONSTANTS, 1)


def test_first_use_loads_the_configuration_and_later_uses_do_not():
    device = EmulatedDrp(CONSTANTS)
    first, second = (device.run(Grey(), IMAGE) for _ in range(2))
    assert (first.counters["configuration_loads"], second.counters["configuration_loads"]) == (1, 0)
    switch_s = 1 / CONSTANTS["drp.clock"]
    assert first.modelled_s - second.modelled_s == pytest.approx(CONSTANTS["drp.configuration_load"] - switch_s)


def test_the_configuration_unused_for_longest_is_replaced():
    device = EmulatedDrp(CONSTANTS.replace({"drp.resident_configurations": 2}))
    loads = [
        device.run(p, GREY).counters["configuration_loads"]
        for p in (
            OpenCva("erode"),
            OpenCva("dilate"),
            OpenCva("erode"),
            Statistics(),
            OpenCva("erode"),
            OpenCva("dilate"),
        )
    ]
    assert loads == [1, 1, 0, 1, 0, 1]


def test_the_two_drps_hold_their_own_configurations():
    device = EmulatedDrp(CONSTANTS.replace({"drp.resident_configurations": 1}))
    normalise, statistics = Normalise("float32", None), np.array([0.0, 1.0])
    for expected in (1, 0):
        runs = device.run(normalise, GREY, statistics), device.run(Statistics(), GREY)
        assert [r.counters["configuration_loads"] for r in runs] == [expected] * 2


def test_custom_kernels_are_counted_apart():
    device = EmulatedDrp(CONSTANTS)
    run = device.run(Grey(), IMAGE)
    assert run.counters["modelled_custom_s"] == run.modelled_s
    assert run.counters["custom_on_cpu_s"] > 0
    other = device.run(OpenCva("erode"), GREY)
    assert other.counters["custom_on_cpu_s"] == 0 and "modelled_custom_s" not in other.counters


def test_name_unit_and_energy():
    device = EmulatedDrp(CONSTANTS)
    run = device.run(Grey(), IMAGE)
    assert (device.unit, run.device) == ("drp", "emulated:rzv2h")
    assert run.energy_j == pytest.approx(run.modelled_s * CONSTANTS["drp.power_busy"])


def test_total_adds_everything_but_the_outputs():
    a = Run((np.zeros(1),), 1.0, 2.0, 3.0, "d", {"ops": 1.0, "pixels": 2.0})
    b = Run((np.ones(1),), 0.5, 0.25, 0.125, "d", {"ops": 4.0, "flops": 8.0})
    both = total([a, b])
    assert both.outputs is b.outputs
    assert (both.wall_s, both.modelled_s, both.energy_j) == (1.5, 2.25, 3.125)
    assert both.counters == {"ops": 5.0, "pixels": 2.0, "flops": 8.0}
    unknown = Run((), 0.0, None, None, "d")
    assert total([a, unknown]).modelled_s is None and total([unknown, a]).energy_j is None


def test_every_constant_of_the_drp_is_used_and_says_where_it_comes_from():
    known = {
        "clock",
        "alu_rate",
        "memory_bandwidth",
        "copy_bandwidth",
        "configuration_load",
        "resident_configurations",
        "power_busy",
        *(f"{k}_rate" for k in KINDS),
        *(f"{p}_overhead" for p in PLACES if p != "cpu"),
    }
    entries = {e.key for e in CONSTANTS.entries() if e.key.startswith("drp.")}
    assert entries == {f"drp.{k}" for k in known}
    assert CONSTANTS.entry("drp.clock").kind == "cited"
    assert CONSTANTS.entry("drp.point_rate").kind == "assumed"
