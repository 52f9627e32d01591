# SPDX-License-Identifier: Apache-2.0
"""A chip prices work by its formulas, wherever the work ran, and says what it cannot price."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp_slam import resources
from drp_slam.chip.constants import load_constants
from drp_slam.chip.cost import Cost
from drp_slam.chip.pricing import clock_hz, cpu_cost, drp_cost
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import COUNTERS, CpuDevice, EmulatedDevice, NullDevice, Work, open_device, stage_run
from drp_slam.drp.kernels import KINDS, PLACES, Grey, Normalise, Statistics
from drp_slam.drp.opencva import OpenCva
from drp_slam.errors import DeviceError

CONSTANTS = load_constants()
SOC = Soc(CONSTANTS)
IMAGE = np.zeros((480, 640, 3), np.uint8)
GREY = IMAGE[..., 0].copy()


def kernel(counters: dict[str, float], place: str = "custom", kind: str = "point", name: str = "k") -> Work:
    return Work("drp", name, counters, place, kind, name)


@pytest.mark.parametrize(("mindiv", "mhz"), [(2, 420), (3, 315), (5, 210), (8, 140), (127, 9.84)])
def test_clock_of_the_drivers_divider(mindiv, mhz):
    assert clock_hz(CONSTANTS, "drp.clock", mindiv) / 1e6 == pytest.approx(mhz, abs=0.01)
    assert Soc.open("rzv2h", mindiv).constants["drp.clock"] == clock_hz(CONSTANTS, "drp.clock", mindiv)


@pytest.mark.parametrize("mindiv", [1, 128])
def test_divider_outside_the_drivers_range(mindiv):
    with pytest.raises(DeviceError, match=f"drp.clock is {mindiv}, expected 2 .420 MHz. to 127 .9.844 MHz. on rzv2h"):
        Soc.open("rzv2h", mindiv)


@pytest.mark.parametrize("kind", KINDS)
def test_streaming_time_is_pixels_by_rate_and_clock(kind):
    c = CONSTANTS.replace({"drp.clock": 1e6, f"drp.{kind}_rate": 2, "drp.custom_overhead": 0.5})
    cost = drp_cost(c, kernel({"pixels": 4e6}, kind=kind), resident=True)
    assert cost.modelled_s == pytest.approx(0.5 + 2.0 + 1e-6)
    assert cost.parts["compute"] == pytest.approx(2.0)


def test_the_slowest_of_stream_arithmetic_and_memory_counts():
    c = CONSTANTS.replace({"drp.clock": 1e6, "drp.point_rate": 1, "drp.alu_rate": 10, "drp.memory_bandwidth": 1e6})
    work = {"pixels": 1e6, "ops": 1e6, "bytes": 1e6}
    for more, expected in (({}, 1.0), ({"flops": 29e6}, 3.0), ({"bytes": 5e6}, 5.0)):
        assert drp_cost(c, kernel(work | more), True).parts["compute"] == pytest.approx(expected)


def test_opencva_pays_for_its_copies():
    counters = {"pixels": 1e6, "bytes": 2e6}
    assert drp_cost(CONSTANTS, kernel(counters), True).parts["copies"] == 0
    copies_s = drp_cost(CONSTANTS, kernel(counters, "opencva"), True).parts["copies"]
    assert copies_s == pytest.approx(2e6 / CONSTANTS["drp.copy_bandwidth"])


@given(st.dictionaries(st.sampled_from(COUNTERS), st.floats(0, 1e9)))
def test_parts_add_up_to_the_whole_and_energy_is_power_by_time(counters):
    for cost, power_w in (
        (drp_cost(CONSTANTS, kernel(counters, "opencva"), False), CONSTANTS["drp.power_busy"]),
        (cpu_cost(CONSTANTS, counters), CONSTANTS["cpu.power_busy"]),
    ):
        assert math.fsum(cost.parts.values()) == pytest.approx(cost.modelled_s)
        assert cost.energy_j == pytest.approx(cost.modelled_s * power_w)


def test_half_the_clock_takes_twice_the_cycles_time():
    slow, fast = (Soc.open("rzv2h", m).cost(kernel({"pixels": 1e6})).parts["compute"] for m in (5, 2))
    assert slow == pytest.approx(2 * fast)


def test_first_use_loads_the_configuration_and_later_uses_do_not():
    meter, work = Meter(SOC), Grey().work(IMAGE)
    first, second = meter.cost(work), meter.cost(work)
    assert first.parts["configuration"] == CONSTANTS["drp.configuration_load"]
    assert second == SOC.cost(work) and second.parts["configuration"] == 1 / CONSTANTS["drp.clock"]


def loads(meter: Meter, works: list[Work]) -> list[bool]:
    return [meter.cost(w).parts["configuration"] == CONSTANTS["drp.configuration_load"] for w in works]


def test_the_configuration_unused_for_longest_is_replaced():
    meter = Meter(Soc(CONSTANTS.replace({"drp.resident_configurations": 2})))
    works = [kernel({}, name=name) for name in ("erode", "dilate", "erode", "statistics", "erode", "dilate")]
    assert loads(meter, works) == [True, True, False, True, False, True]


def test_each_unit_of_silicon_holds_its_own_configurations():
    """Two DRPs on RZ/V2H; on RZ/V2N one, which OpenCVA shares with DRP-AI."""
    works = [Normalise("float32", None).work(GREY, np.array([0.0, 1.0])), Statistics().work(GREY)] * 2
    for device, expected in (("rzv2h", [True, True, False, False]), ("rzv2n", [True] * 4)):
        one = Soc(load_constants(device).replace({"drp.resident_configurations": 1}))
        assert loads(Meter(one), works) == expected


def test_units_and_queues_come_from_the_device_file():
    assert [(u.name, u.queue) for u in SOC.units] == [
        ("DRP1", "DRP1"),
        ("DRP0", "DRP-AI3"),
        ("DRP-AI3", "DRP-AI3"),
        ("CPU", "CPU"),
    ]
    assert {SOC.unit_of("drp", place).name for place in ("opencva", "custom")} == {"DRP1"}
    assert SOC.unit_of("drp", "preruntime").name == "DRP0"
    small = Soc.open("rzv2n")
    assert small.unit_of("drp", "opencva").queue == small.unit_of("drpai3").queue


def test_what_a_device_did_decides_who_is_charged():
    reference = SOC.cost(Grey().work(IMAGE))
    emulated, cpu, null = (d.run(Grey(), IMAGE) for d in (EmulatedDevice("drp"), CpuDevice("drp"), NullDevice("drp")))
    assert SOC.cost(emulated.work) == reference and reference.unit == "DRP1"
    assert SOC.cost(cpu.work) == SOC.cpu_cost([emulated.work]) and SOC.cost(cpu.work).unit == "CPU"
    assert SOC.cost(null.work).modelled_s == 0 and null.outputs[0].shape == GREY.shape
    board = dataclasses.replace(emulated.work, unit="board")
    assert math.isnan(SOC.cost(board).modelled_s) and SOC.cpu_cost([board]) == SOC.cpu_cost([emulated.work])
    np.testing.assert_array_equal(emulated.outputs[0], cpu.outputs[0])


def test_a_stage_is_its_programs_in_order():
    runs = [EmulatedDevice("drp").run(p, GREY) for p in (Statistics(), OpenCva("erode"))]
    stage = stage_run("preprocess", "drp", runs)
    assert [w.name for w in stage.works] == ["statistics", "erode"] and stage.device == "emulated"
    assert stage.wall_s == pytest.approx(sum(r.wall_s for r in runs))


def test_cpu_alone_is_one_call_for_all_works():
    works = [Grey().work(IMAGE), Statistics().work(GREY)]
    apart_s = sum(SOC.cpu_cost([w]).modelled_s for w in works)
    assert SOC.cpu_cost(works).modelled_s == pytest.approx(apart_s - CONSTANTS["cpu.call_overhead"])


def test_a_model_from_outside_prices_its_unit_once_for_each_shape():
    calls = []

    def model(constants, work):
        calls.append(work.shape)
        return Cost(1.0, 2.0, "")

    soc = Soc(CONSTANTS, {"drpai3": model})
    works = [Work("drpai3", "n", configuration="n.onnx", shape=(1, 1, side, side)) for side in (32, 64, 32)]
    assert [soc.cost(w) for w in works] == [Cost(1.0, 2.0, "DRP-AI3")] * 3
    assert calls == [(1, 1, 32, 32), (1, 1, 64, 64)]


def test_what_a_file_cannot_model_is_said_in_one_line_and_costs_nan():
    small = Soc.open("rzv2l", models={"drpai3": lambda c, w: Cost(1.0, 1.0, "")})
    small.require(("cpu", "drpai3"))
    with pytest.raises(DeviceError, match="'rzv2l' cannot model work of drp: .*--device") as error:
        small.require(("cpu", "drp", "drpai3"))
    assert "\n" not in str(error.value)
    assert math.isnan(small.cost(kernel({"pixels": 1})).modelled_s)
    with pytest.raises(DeviceError, match="cannot model work of cpu"):
        Soc.open("eie").require(("cpu",))


def test_a_missing_constant_is_named_before_it_is_needed(tmp_path):
    text = resources.device_file("rzv2h").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text("".join(line for line in text.splitlines(True) if "gather_rate" not in line))
    with pytest.raises(DeviceError, match="'mine' has no constant 'drp.gather_rate'"):
        Soc.open(str(path)).require(("drp",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drp: {clock: 4}", "drp.clock is a bare 4"),
        ("drp: {clock: {value: 4, unit: Hz}}", "drp.clock lacks .'source'."),
        ("drp: {clock: {value: fast, unit: Hz, source: x}}", "drp.clock is 'fast', expected a number"),
        ("units: {DRP: {runs: [drp], queue: DRP}}", "unit DRP lacks runs, queue or source"),
        ("[1, 2]", "expected a mapping"),
        ("drp: {", "cannot read"),
    ],
)
def test_a_damaged_file_names_the_place(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(DeviceError, match=message):
        load_constants(str(tmp_path / "bad.yaml"))


def test_an_unknown_backend_is_an_error():
    with pytest.raises(DeviceError, match="backend 'fpga' cannot run drp"):
        open_device("fpga", "drp")


def test_every_constant_of_the_drp_is_used_and_says_where_it_comes_from():
    rule = {f"clock{part}" for part in ("", "_source", "_offset", "_divider_low", "_divider_high")}
    limits = {"alu_rate", "memory_bandwidth", "copy_bandwidth", "power_busy"}
    calls = {"configuration_load", "resident_configurations", *(f"{p}_overhead" for p in PLACES if p != "cpu")}
    known = rule | limits | calls | {"read_latency", "bus_period", "outstanding_reads"} | {f"{k}_rate" for k in KINDS}
    for device in ("rzv2h", "rzv2n"):
        entries = {e.key for e in load_constants(device).entries() if e.key.startswith("drp.")}
        assert entries == {f"drp.{k}" for k in known}
    assert CONSTANTS.entry("drp.clock").kind == "cited"
    assert CONSTANTS.entry("drp.point_rate").kind == "assumed"


def test_a_hamming_distance_costs_byte_operations_compiled_and_a_matrix_product_in_python() -> None:
    bits = 256 * 1e6
    compiled, python = (cpu_cost(CONSTANTS, {"bits": bits}, python) for python in (False, True))
    assert compiled.parts["hamming"] == pytest.approx(96e6 / CONSTANTS["cpu.pixel_op_rate"])
    assert python.parts["hamming"] == pytest.approx(512e6 / CONSTANTS["cpu.float_rate"])
    calls = {"calls": 1000.0}
    dispatch_s = cpu_cost(CONSTANTS, calls, python=True).modelled_s - cpu_cost(CONSTANTS, calls).modelled_s
    assert dispatch_s == pytest.approx(1000 * 15.8e-6)


def test_random_reads_wait_for_the_memory_and_streams_do_not() -> None:
    beats = {"pixels": 4000.0}
    stream = drp_cost(CONSTANTS, kernel(beats, kind="gather"), True).parts["compute"]
    read = drp_cost(CONSTANTS, kernel(beats | {"reads": 1000.0}, kind="gather"), True).parts["compute"]
    assert stream == pytest.approx(4000 / (CONSTANTS["drp.gather_rate"] * CONSTANTS["drp.clock"]))
    assert read == pytest.approx((1000 * 62 / 4 + 4000) * 2.5e-9)
    one_at_a_time = CONSTANTS.replace({"drp.outstanding_reads": 1})
    slow = drp_cost(one_at_a_time, kernel(beats | {"reads": 1000.0}, kind="gather"), True).parts["compute"]
    assert slow == pytest.approx((1000 * 62 + 4000) * 2.5e-9)
