# SPDX-License-Identifier: Apache-2.0
"""The board's adapter against a stand-in with the documented calls."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from drp_slam.config import PerceptionConfig
from drp_slam.device import Work
from drp_slam.drpai3.mera import START_ADDRESS, MeraDevice, runtime
from drp_slam.drpai3.perceive import open_accelerator
from drp_slam.errors import DeviceError, DrpAi3Error


class Target(enum.Enum):
    IP = 1


class DeviceTarget(enum.Enum):
    DRPAI_BUILTIN_MEM = 1
    DRPAI_CPU_MEM = 2


class StandIn:
    """The documented surface of Renesas' runtime; `planes` is what the network answers."""

    Target = Target
    mera_deployment = SimpleNamespace(DeviceTarget=DeviceTarget)

    def __init__(self, planes: np.ndarray) -> None:
        self.planes, self.calls, self.fed = planes, [], None

    def load_mera_deployment(self, path, target):
        assert target is Target.IP
        self.calls.append(("load", path))
        return self

    def get_runner(self, device_target, start_address, frequency_index):
        self.calls.append((device_target, start_address, frequency_index))
        return self

    def set_input(self, arrays):
        self.fed = arrays[0]

    def run(self):
        if self.fed.shape[-1] == 96:
            raise RuntimeError("select timed out")

    def get_outputs(self):
        return [self.planes]


class Program:
    """The part of `emulator.Network` that a board needs."""

    def check(self, tensor):
        if tensor.ndim != 2:
            raise DrpAi3Error("tensor of the wrong shape")

    def heads(self, planes):
        return np.ascontiguousarray(planes[0].transpose(1, 2, 0))

    def work(self, tensor):
        return Work("drpai3", "stand-in", {"macs": float(tensor.size)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mera.plan").write_bytes(b"plan")
    return tmp_path


def test_documented_calls_in_order(folder):
    planes = np.random.default_rng(0).normal(size=(1, 5, 4, 8)).astype(np.float16)
    stand_in = StandIn(planes)
    device = MeraDevice(folder, freq_index=3, mera=stand_in)
    tensor = np.ones((32, 64), np.float32)
    run = device.run(Program(), tensor)
    assert stand_in.calls == [("load", str(folder)), (DeviceTarget.DRPAI_BUILTIN_MEM, START_ADDRESS, 3)]
    assert stand_in.fed.shape == (1, 1, 32, 64)
    assert run.work.unit == "board" and run.work.counters == {"macs": tensor.size}
    assert run.device == f"mera:{folder.name}" and run.wall_s > 0
    np.testing.assert_array_equal(run.outputs[0], planes[0].transpose(1, 2, 0).astype(np.float32))


def test_board_type_must_match_the_card(folder):
    device = MeraDevice(folder, mera=StandIn(np.zeros((1, 5, 4, 8), np.float32)))
    with pytest.raises(DeviceError, match="returned float32, the card says int8"):
        device.run(Program(), np.ones((32, 64), np.int8))


def test_failures_of_the_runtime_are_one_line(folder):
    device = MeraDevice(folder, mera=StandIn(np.zeros((1, 5, 4, 8), np.float32)))
    with pytest.raises(DeviceError, match="select timed out"):
        device.run(Program(), np.ones((32, 96), np.float32))


def test_a_folder_without_a_network_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DeviceError, match="compiled network"):
            MeraDevice(path, mera=StandIn(np.zeros(1)))


def test_a_missing_runtime_is_an_error_and_never_an_emulation(tmp_path):
    with pytest.raises(DeviceError, match="install its wheel"):
        runtime("mera_that_is_not_installed")
    with pytest.raises(DeviceError, match="runtime"):
        open_accelerator(PerceptionConfig(backend="mera"))


@pytest.fixture
def importable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def test_installed_module_is_used(importable):
    (importable / "mera_stand_in.py").write_text("MARK = 7\n")
    assert runtime("mera_stand_in").MARK == 7
