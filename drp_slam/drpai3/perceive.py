# SPDX-License-Identifier: Apache-2.0
"""The network stage: opens the accelerator's device and runs the network on each frame."""

from __future__ import annotations

import logging

import numpy as np

from drp_slam.card import Card
from drp_slam.config import PerceptionConfig
from drp_slam.device import Device, Run, open_device
from drp_slam.drpai3.emulator import Network, saturates

log = logging.getLogger(__name__)


def open_accelerator(config: PerceptionConfig) -> Device:
    """Opens the device that runs networks; never falls back to another one.

    Raises DeviceError if the backend cannot be opened, with the remedy.
    """
    if config.backend == "mera":
        from drp_slam.drpai3.mera import MeraDevice

        return MeraDevice(config.compiled, config.freq_index)
    if config.backend == "emulated" and saturates():
        log.warning("this CPU saturates U8S8 products (no VNNI); the slower exact kernels are used")
    return open_device(config.backend, "drpai3")


class Perceive:
    """Runs the card's network: `perceive(tensor) -> (heads, run)`.

    `tensor` is (H, W) of the card's dtype, sides multiples of 32; `heads` is C-contiguous
    (H/8, W/8, channels) of the same dtype. Raises DrpAi3Error for another tensor.
    """

    def __init__(self, device: Device, card: Card, config: PerceptionConfig) -> None:
        self.device = device
        parts = [head.last - head.first for head in sorted(card.heads.values(), key=lambda head: head.first)]
        self.network = Network(card.onnx, card.dtype, card.channels, config.threads, parts)
        log.info("network %s on %s", card.name, device.name)
        if device.name == "emulated" and card.dtype != "int8":
            log.warning(
                "%s: network %s computes %s on this host, but the accelerator INT8: modelled time "
                "and energy assume a quantised network",
                device.name,
                card.name,
                card.dtype,
            )

    def __call__(self, tensor: np.ndarray) -> tuple[np.ndarray, Run]:
        run = self.device.run(self.network, tensor)
        (heads,) = run.outputs
        return heads, run
