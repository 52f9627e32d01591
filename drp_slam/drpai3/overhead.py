# SPDX-License-Identifier: Apache-2.0
"""What emulation costs over bare onnxruntime, on this host, measured in turns."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from drp_slam.card import load_card
from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.perceive import Perceive, open_device
from drp_slam.errors import DrpAi3Error


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """`overhead`: medians of both, run in turns so that other load hits both alike.

    Processor time stands beside wall time, because it does not count waiting for a busy host.
    """
    if args.repeats < 1:
        raise DrpAi3Error(f"--repeats {args.repeats}, expected at least 1")
    card = load_card(args.network)
    config = PerceptionConfig(network=args.network, threads=args.threads)
    perceive = Perceive(open_device(config), card, config)
    bare = session(card.onnx, args.threads)
    name = bare.get_inputs()[0].name
    random = np.random.default_rng(0)
    tensor = random.integers(-90, 90, (args.height, args.width)).astype(card.dtype)
    perceive(tensor)
    bare.run(None, {name: tensor[None, None]})
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    taken: dict[str, list[float]] = {
        f"{who}_{k}": [] for who in ("bare", "emulated") for k in clocks
    }
    calls = {"bare": lambda: bare.run(None, {name: tensor[None, None]}),
             "emulated": lambda: perceive(tensor)}  # fmt: skip
    order = list(calls.items())
    for turn in range(args.repeats):
        for who, call in order if turn % 2 else reversed(order):
            start = {k: clock() for k, clock in clocks.items()}
            call()
            for k, clock in clocks.items():
                taken[f"{who}_{k}"].append(clock() - start[k])
    result: dict[str, Any] = {
        "network": card.name, "device": perceive.device.name, "repeats": args.repeats,
        "shape": [args.height, args.width],
    }  # fmt: skip
    for k in clocks:
        medians = [float(np.median(taken[f"{who}_{k}"])) for who in ("bare", "emulated")]
        result[f"bare_{k}_ms"], result[f"emulated_{k}_ms"] = (1e3 * m for m in medians)
        result[f"overhead_{k}_pct"] = 100 * (medians[1] / medians[0] - 1)
    return result


def show(result: dict[str, Any]) -> None:
    """Prints wall and processor time of both."""
    print(f"{result['network']} {result['shape']} on {result['device']}, {result['repeats']} runs")
    for k in ("wall", "cpu"):
        print(f"  {k} time: emulated {result[f'emulated_{k}_ms']:.2f} ms, bare onnxruntime "
              f"{result[f'bare_{k}_ms']:.2f} ms: {result[f'overhead_{k}_pct']:+.1f} %")  # fmt: skip
