# SPDX-License-Identifier: Apache-2.0
"""Measures what emulation costs on this host over bare onnxruntime, alternating between them.

The emulator runs an equivalent, faster network if there is one (`space_to_depth.py`), so there are
two baselines: onnxruntime with the network as shipped (`bare`), and with the faster one on an input
prepared beforehand (`rewritten`).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from drp_slam.card import INPUT_MULTIPLE, load_card
from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.perceive import Perceive, open_accelerator
from drp_slam.drpai3.space_to_depth import rewritten, space_to_depth
from drp_slam.errors import DrpAi3Error


def measure(network: str, shape: tuple[int, int], threads: int, repeats: int) -> dict[str, Any]:
    """Medians of each for an input of `shape` (H, W), alternating so that other load affects all alike.

    Processor time is reported with wall time, because it excludes waiting on a busy host.
    Raises DrpAi3Error.
    """
    if repeats < 1:
        raise DrpAi3Error(f"--repeats {repeats}, expected at least 1")
    if any(side < 1 or side % INPUT_MULTIPLE for side in shape):
        raise DrpAi3Error(f"--height {shape[0]} --width {shape[1]}, each a multiple of {INPUT_MULTIPLE}")
    card = load_card(network)
    config = PerceptionConfig(threads=threads)
    perceive = Perceive(open_accelerator(config), card, config)
    bare = session(card.onnx, threads)
    name = bare.get_inputs()[0].name
    model = rewritten(card.onnx) if np.dtype(card.dtype) == np.int8 else None
    same = session(model, threads) if model else bare
    same_name = same.get_inputs()[0].name
    random = np.random.default_rng(0)
    tensor = random.integers(-90, 90, shape).astype(card.dtype)
    stored = space_to_depth(tensor) if model else tensor[None, None]
    calls = {
        "bare": lambda: bare.run(None, {name: tensor[None, None]}),
        "rewritten": lambda: same.run(None, {same_name: stored}),
        "emulated": lambda: perceive(tensor),
    }
    for call in calls.values():
        call()
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    taken: dict[str, list[float]] = {f"{who}_{k}": [] for who in calls for k in clocks}
    order = list(calls.items())
    for turn in range(repeats):
        for who, call in order if turn % 2 else reversed(order):
            start = {k: clock() for k, clock in clocks.items()}
            call()
            for k, clock in clocks.items():
                taken[f"{who}_{k}"].append(clock() - start[k])
    result: dict[str, Any] = {
        "network": card.name,
        "device": perceive.device.name,
        "repeats": repeats,
        "shape": list(shape),
    }
    for k in clocks:
        medians = {who: float(np.median(taken[f"{who}_{k}"])) for who in calls}
        result |= {f"{who}_{k}_ms": 1e3 * value for who, value in medians.items()}
        for who, key in (("bare", ""), ("rewritten", "over_rewritten_")):
            ratio = medians["emulated"] / medians[who]
            result[f"overhead_{key}{k}_pct"] = 100 * (ratio - 1)
    return result
