# SPDX-License-Identifier: Apache-2.0
"""One frame taken apart: every image kernel with its place, and what its modelled time rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from drp_slam.card import load_card
from drp_slam.chip.sensitivity import elasticities, summary
from drp_slam.config import Config, override
from drp_slam.data.dataset import open_sequence
from drp_slam.device import Constants, CpuDevice, Run, a55_seconds, load_constants
from drp_slam.drp.emulator import EmulatedDrp
from drp_slam.drp.kernels import Kernel
from drp_slam.drp.postprocess import Postprocess
from drp_slam.drp.preprocess import Preprocess
from drp_slam.drpai3.emulator import EmulatedDrpAi3, Network
from drp_slam.drpai3.perceive import Perceive, open_device
from drp_slam.profiler.span import Span
from drp_slam.profiler.summary import by_stage


@dataclass(frozen=True)
class Call:
    """A kernel's call as it was: a program that gives its recorded outputs and work at no cost,
    so that it can be timed again with other constants.
    """

    name: str
    place: str
    kind: str
    configuration: str
    outputs: tuple[np.ndarray, ...]
    counters: Mapping[str, float]
    why: tuple[str, ...]

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.outputs

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.outputs

    def work(self, *inputs: np.ndarray) -> Mapping[str, float]:
        return self.counters

    def reasons(self, *inputs: np.ndarray) -> list[str]:
        return list(self.why)


class Recorder:
    """A device that notes every call."""

    name, unit = "recorder", "drp"

    def __init__(self, constants: Constants) -> None:
        self._device, self.calls = CpuDevice(constants, "drp"), list[Call]()

    def run(self, program: Kernel, *inputs: np.ndarray) -> Run:
        run = self._device.run(program, *inputs)
        reasons = tuple(program.reasons(*inputs))
        self.calls.append(
            Call(program.name, program.place, program.kind, program.configuration, run.outputs, run.counters, reasons)
        )
        return run


def record(image: np.ndarray, config: Config) -> dict[str, list[Call]]:
    """The calls of the DRP's kernels for one image, by stage."""
    card, constants = load_card(config.drpai3.network), load_constants(config.drp.device)
    recorders = {"preprocess": Recorder(constants), "postprocess": Recorder(constants)}
    tensor, _ = Preprocess(recorders["preprocess"], card, config.drp)(image)
    heads, _ = Perceive(open_device(config.drpai3), card, config.drpai3)(tensor)
    Postprocess(recorders["postprocess"], card, config.drp)(heads, image.shape[:2])
    return {stage: recorder.calls for stage, recorder in recorders.items()}


def timed(calls: Mapping[str, Sequence[Call]], constants: Constants) -> list[tuple[str, Call, Run]]:
    """(stage, call, run) of each kernel on the emulated DRP, configurations being loaded before."""
    device = EmulatedDrp(constants)
    listed = [(stage, call) for stage, some in calls.items() for call in some]
    for _, call in listed:
        device.run(call)  # type: ignore[arg-type]
    return [(stage, call, device.run(call)) for stage, call in listed]  # type: ignore[arg-type]


def kernels(calls: Mapping[str, Sequence[Call]], constants: Constants) -> list[dict[str, Any]]:
    """One entry a kernel: `stage`, `kernel`, `place`, `reasons` (why the CPU runs what the DRP
    would not), `modelled_s`, `energy_j`, and on the A55 `cpu_modelled_s`, `cpu_energy_j`.
    """
    power_w = constants["cpu.power_busy"]
    rows = []
    for stage, call, run in timed(calls, constants):
        cpu_s = a55_seconds(constants, call.counters)
        rows.append(
            {
                "stage": stage,
                "kernel": call.name,
                "place": "cpu" if call.why else call.place,
                "reasons": list(call.why),
                "modelled_s": run.modelled_s,
                "energy_j": run.energy_j,
                "cpu_modelled_s": cpu_s,
                "cpu_energy_j": cpu_s * power_w,
            }
        )
    return rows


def drp_seconds(calls: Mapping[str, Sequence[Call]], stage: str, constants: Constants) -> float:
    """Modelled time of one DRP stage of the recorded frame, in seconds."""
    return sum(run.modelled_s or 0.0 for name, _, run in timed(calls, constants) if name == stage)


def of_run(run: Mapping[str, Any], spans: Sequence[Span]) -> dict[str, Any]:
    """`kernels` and `assumptions` of a run, by its `run.json`, on one frame of its sequence.

    Raises DrpSlamError where the sequence or the network is not there any more.
    """
    sections = dict(run.get("config") or {})
    config = override(
        Config(), {f"{section}.{key}": value for section, body in sections.items() for key, value in body.items()}
    )
    name = str(run.get("source") or run["sequence"])
    sequence = open_sequence(name, run.get("camera"), int(run.get("start") or 0), 1)
    image = next(iter(sequence)).image
    assert image is not None
    calls = record(image, config)
    constants = load_constants(config.drp.device)
    return {"kernels": kernels(calls, constants), "assumptions": rests_on(calls, config, spans)}


def rests_on(calls: Mapping[str, Sequence[Call]], config: Config, spans: Sequence[Span]) -> dict[str, Any]:
    """How much of the modelled time of each stage rests on which constants (`assumptions`)."""
    constants = load_constants(config.drp.device)
    mean_s = {stage: sum(s.modelled_s for s in group) / len(group) for stage, group in by_stage(spans).items()}
    tensor = next(c for c in calls["preprocess"][::-1]).outputs[0]
    card = load_card(config.drpai3.network)
    network = Network(card.onnx, card.dtype, card.channels)
    graph = network.graph(tensor.shape)  # read once
    program = SimpleNamespace(path=card.onnx, graph=lambda shape: graph, results_stay=network.results_stay)

    def network_s(c: Constants) -> float:
        emulated = EmulatedDrpAi3(c, config.drpai3.freq_index)
        return emulated.estimate(program, tensor.shape).total_s

    overhead_s, rate = constants["cpu.call_overhead"], constants["cpu.float_rate"]
    flops = max(0.0, mean_s.get("track", 0.0) - overhead_s) * rate  # the tracker counts flops only
    models: dict[str, tuple[tuple[str, ...], Callable[[Constants], float]]] = {
        "preprocess": (("drp.", "cpu."), lambda c: drp_seconds(calls, "preprocess", c)),
        "network": (("drpai3.", "fallback.", "cpu."), network_s),
        "postprocess": (("drp.", "cpu."), lambda c: drp_seconds(calls, "postprocess", c)),
        "track": (("cpu.",), lambda c: a55_seconds(c, {"flops": flops})),
    }
    found = {}
    for stage, (prefixes, model) in models.items():
        if stage in mean_s:
            keys = [key for key in constants if key.startswith(prefixes)]
            found[stage] = mean_s[stage], elasticities(model, constants, keys)
    return summary(found, constants)
