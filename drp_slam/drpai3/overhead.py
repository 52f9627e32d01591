# SPDX-License-Identifier: Apache-2.0
"""What emulation costs over bare onnxruntime, on this host, measured in turns.

The emulator runs a rewritten network of the same integers where there is one (`host.py`), so there
are two things to compare with: the network as shipped (`bare`), and onnxruntime alone over the
rewritten one, its input made beforehand (`rewritten`).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from drp_slam.card import load_card
from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.perceive import Perceive, open_device
from drp_slam.drpai3.space_to_depth import rewritten, space_to_depth
from drp_slam.errors import DrpAi3Error


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """`overhead`: medians of each, run in turns so that other load hits all alike.

    Processor time stands beside wall time, because it does not count waiting for a busy host.
    """
    if args.repeats < 1:
        raise DrpAi3Error(f"--repeats {args.repeats}, expected at least 1")
    card = load_card(args.network)
    config = PerceptionConfig(network=args.network, threads=args.threads)
    perceive = Perceive(open_device(config), card, config)
    bare = session(card.onnx, args.threads)
    name = bare.get_inputs()[0].name
    model = rewritten(card.onnx) if np.dtype(card.dtype) == np.int8 else None
    same = session(model, args.threads) if model else bare
    same_name = same.get_inputs()[0].name
    random = np.random.default_rng(0)
    tensor = random.integers(-90, 90, (args.height, args.width)).astype(card.dtype)
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
    for turn in range(args.repeats):
        for who, call in order if turn % 2 else reversed(order):
            start = {k: clock() for k, clock in clocks.items()}
            call()
            for k, clock in clocks.items():
                taken[f"{who}_{k}"].append(clock() - start[k])
    result: dict[str, Any] = {
        "network": card.name,
        "device": perceive.device.name,
        "repeats": args.repeats,
        "shape": [args.height, args.width],
    }
    for k in clocks:
        medians = {who: float(np.median(taken[f"{who}_{k}"])) for who in calls}
        result |= {f"{who}_{k}_ms": 1e3 * value for who, value in medians.items()}
        for who, key in (("bare", ""), ("rewritten", "over_rewritten_")):
            ratio = medians["emulated"] / medians[who]
            result[f"overhead_{key}{k}_pct"] = 100 * (ratio - 1)
    return result


def show(result: dict[str, Any]) -> None:
    """Prints wall and processor time of all three."""
    print(f"{result['network']} {result['shape']} on {result['device']}, {result['repeats']} runs")
    for k in ("wall", "cpu"):
        print(
            f"  {k} time: emulated {result[f'emulated_{k}_ms']:.2f} ms; bare onnxruntime "
            f"{result[f'bare_{k}_ms']:.2f} ms ({result[f'overhead_{k}_pct']:+.1f} %), over the "
            f"rewritten network {result[f'rewritten_{k}_ms']:.2f} ms "
            f"({result[f'overhead_over_rewritten_{k}_pct']:+.1f} %)"
        )
