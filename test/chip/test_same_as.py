# SPDX-License-Identifier: Apache-2.0
"""Device files that take constants over from another chip."""

from __future__ import annotations

import pytest

from drp_slam.chip.constants import load_constants
from drp_slam.errors import DeviceError

UNITS = "units: {CPU: {runs: [cpu], queue: CPU, source: x}}\n"


def written(tmp_path, text, name="mine"):
    path = tmp_path / f"{name}.yaml"
    path.write_text(UNITS + text)
    return str(path)


def test_only_what_differs_is_stated(tmp_path):
    text = "same_as: {device: rzv2h, except: [thermal, drp.alu_rate]}\n"
    text += 'drpai3: {weight_bandwidth: {times: 0.5, source: "assumed: half"}}\n'
    text += 'cpu: {clock: {value: 1.2e9, unit: Hz, source: "a data sheet"}}\n'
    mine, base = load_constants(written(tmp_path, text)), load_constants("rzv2h")
    left_out = {key for key in base if key.startswith("thermal.")} | {"drp.alu_rate"}
    assert set(base) - set(mine) == left_out and not set(mine) - set(base)
    assert mine["drpai3.weight_bandwidth"] == base["drpai3.weight_bandwidth"] / 2
    assert mine["cpu.clock"] == 1.2e9 and mine.entry("cpu.clock").kind == "cited"
    for key in set(mine) - {"cpu.clock", "drpai3.weight_bandwidth"}:
        assert mine[key] == base[key] and mine.entry(key).unit == base.entry(key).unit
        assert mine.entry(key).source.startswith("assumed: as rzv2h")


def test_intervals_that_the_other_chip_states_hold_here_too(tmp_path):
    text = 'same_as: {device: rzv2h}\nranges: {assumed: {factor: 3, reason: "another chip"}}\n'
    mine, base = load_constants(written(tmp_path, text)), load_constants("rzv2h")
    assert (mine.entry("cpu.cores").low, mine.entry("cpu.cores").high) == (4, 4)
    assert base.entry("cpu.clock").low == base["cpu.clock"]  # certain there
    assert mine.entry("cpu.clock").high == 3 * mine["cpu.clock"]


def test_what_a_chip_takes_over_may_itself_be_taken_over(tmp_path):
    middle = written(tmp_path, "same_as: {device: rzv2h}\ncpu: {clock: {value: 5, unit: Hz, source: x}}\n", "middle")
    assert load_constants(written(tmp_path, f"same_as: {{device: {middle}}}\n"))["cpu.clock"] == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("same_as: rzv2h", r"same_as is 'rzv2h', expected \{device: NAME"),
        ("same_as: {device: rzv2h, without: [drp]}", r"same_as is .*expected \{device: NAME"),
        ("same_as: {device: rzv2h, except: [camera]}", "same_as excludes camera, which rzv2h does not have"),
        ("same_as: {device: mine.yaml}", "same_as leads back to this file"),
        ("cpu: {clock: {times: 2, source: x}}", "cpu.clock is a multiple .*same_as names no chip with cpu.clock"),
        ("same_as: {device: rzv2h}\ncpu: {clock: {times: fast, source: x}}", "cpu.clock has times 'fast'"),
    ],
)
def test_a_wrong_reference_is_one_line(tmp_path, text, says):
    path = written(tmp_path, text.replace("mine.yaml", str(tmp_path / "mine.yaml")))
    with pytest.raises(DeviceError, match=says) as error:
        load_constants(path)
    assert "\n" not in str(error.value)
