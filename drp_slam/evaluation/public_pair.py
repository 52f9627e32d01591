# SPDX-License-Identifier: Apache-2.0
"""The only public pair of accelerator against CPU alone on RZ/V2H, compared with the model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from drp_slam.chip.constants import Constants
from drp_slam.chip.soc import Soc
from drp_slam.device import Work
from drp_slam.drpai3.fitting.yolox import yolox
from drp_slam.drpai3.network_cost import RESULTS_TAKEN, NetworkCost, network_work

ACCELERATOR_MS, CPU_MS = 15.26, 145.6
SOURCE = (
    "YOLOX-nano, 416 x 416, on RZ/V2H RDK: DRP-AI3 against onnxruntime FP32 on four A55 (rzv2h-hardware-map @12cd8bb)"
)


def _priced(constants: Constants) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yolox_nano.onnx"
        path.write_bytes(yolox(416, 80, 0.25, depthwise=True).SerializeToString())
        work = network_work(path, (1, 3, 416, 416), RESULTS_TAKEN)
        chip_s = NetworkCost()(constants, work).modelled_s
    macs = work.counters["macs"]
    soc = Soc(constants)
    as_float = soc.cpu_cost([Work("cpu", "float32", {"flops": 2 * macs})]).modelled_s
    as_int8 = soc.cpu_cost([Work("cpu", "int8", {"macs": macs})]).modelled_s
    return {"gmac": macs * 1e-9, "accelerator_ms": chip_s * 1e3, "cpu_ms": as_float * 1e3, "cpu_int8_ms": as_int8 * 1e3}


def yolox_nano(soc: Soc) -> dict[str, Any]:
    """Published and modelled milliseconds, and the ratio of each; nothing is fitted to it."""
    found = _priced(soc.constants)
    return {
        "published": {
            "accelerator_ms": ACCELERATOR_MS,
            "cpu_ms": CPU_MS,
            "ratio": CPU_MS / ACCELERATOR_MS,
            "source": SOURCE,
        },
        "modelled": found | {"ratio": found["cpu_ms"] / found["accelerator_ms"]},
    }
