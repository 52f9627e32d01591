# SPDX-License-Identifier: Apache-2.0
"""Image kernels, and those that convert a camera image to the network's tensor.

Every kernel declares its place on the chip:

opencva     an OpenCV Accelerator function on DRP1, only under its conditions, else the CPU
preruntime  DRP0 inside DRP-AI3: crop, resize, normalise, softmax; queues with inference
custom      a DRP1 configuration that would have to be written; its timing is assumed
cpu         the Cortex-A55 cores
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import cv2
import numpy as np

from drp_slam.card import Quantisation
from drp_slam.device import Work

PLACES = ("opencva", "preruntime", "custom", "cpu")
KINDS = ("point", "stencil", "gather")
EPSILON = 1e-5
"""Added to the variance by instance normalisation (PyTorch's InstanceNorm2d, as in XFeat)."""

Arrays = tuple[np.ndarray, ...]


class Kernel(ABC):
    """A `device.Program` with a place on the chip.

    `kind` names the rate at which the DRP streams its `pixels`: `point` (one in, one out),
    `stencil` (a neighbourhood from line buffers) or `gather` (random reads). `configuration` is
    the name of the configuration that must be resident in the DRP.
    """

    name: str = ""
    place: str = "custom"
    kind: str = "point"

    @property
    def configuration(self) -> str:
        return self.name

    def reasons(self, *inputs: np.ndarray) -> list[str]:
        """Why the CPU runs this call instead of the DRP; empty if the DRP runs it."""
        return []

    @abstractmethod
    def compute(self, *inputs: np.ndarray) -> Arrays:
        """The outputs."""

    @abstractmethod
    def empty(self, *inputs: np.ndarray) -> Arrays:
        """Outputs of the right shape and dtype, not computed."""

    @abstractmethod
    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        """`pixels` that the DRP streams, and `ops`, `flops`, `macs`, `bytes` for the CPU's model."""

    def work(self, *inputs: np.ndarray) -> Work:
        """The call as work of the DRP, or of the CPU if it is placed there or refused by the DRP."""
        reasons = tuple(self.reasons(*inputs))
        place = "cpu" if reasons else self.place
        unit = "cpu" if place == "cpu" else "drp"
        counters = {counter: float(value) for counter, value in self.counters(*inputs).items()}
        return Work(unit, self.name, counters, place, self.kind, self.configuration, reasons=reasons)


class Grey(Kernel):
    """(H, W, 3) uint8 -> (H, W) uint8: mean of the three channels, rounded to nearest.

    XFeat's grey (`x.mean(dim=1)`), rounded. Custom: OpenCVA converts YUV only.
    """

    name, place, kind = "grey", "custom", "point"

    def __init__(self) -> None:
        self._thirds = np.full((1, 3), 1.0 / 3.0, np.float32)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        return (cv2.transform(inputs[0], self._thirds),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(inputs[0].shape[:2], np.uint8),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        pixels = inputs[0].shape[0] * inputs[0].shape[1]
        return {"pixels": pixels, "ops": 4 * pixels, "bytes": 4 * pixels}


class Statistics(Kernel):
    """(H, W) uint8 -> (2,) float64: mean and population standard deviation. Custom."""

    name, place, kind = "statistics", "custom", "point"

    def compute(self, *inputs: np.ndarray) -> Arrays:
        mean, deviation = cv2.meanStdDev(inputs[0])
        return (np.array([mean[0, 0], deviation[0, 0]]),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.array([0.0, 1.0]),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        return {"pixels": inputs[0].size, "ops": 3 * inputs[0].size, "bytes": inputs[0].size}


class Normalise(Kernel):
    """(H, W) uint8, (2,) mean and deviation -> (H, W) int8 or float32: the network's input.

    `(x - mean) / sqrt(variance + 1e-5)`, then for int8 `round(value / scale) + zero point`,
    half to even, saturated (ONNX QuantizeLinear). An image has 256 grey values, so it is a table.
    PreRuntime's Normalize does `(in + add) * mul` on DRP0.
    """

    name, place, kind = "normalise", "preruntime", "point"

    def __init__(self, dtype: str, quantisation: Quantisation) -> None:
        self._dtype, self._quantisation = np.dtype(dtype), quantisation
        self._greys = np.arange(256, dtype=np.float64)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        grey, (mean, deviation) = inputs
        table = (self._greys - mean) / np.sqrt(deviation * deviation + EPSILON)
        if self._dtype == np.int8:
            q = np.rint(table / self._quantisation.scale) + self._quantisation.zero_point
            table = np.clip(q, -128, 127)
        return (cv2.LUT(grey, table.astype(self._dtype)),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(inputs[0].shape, self._dtype),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        pixels = inputs[0].size
        return {"pixels": pixels, "ops": pixels, "bytes": pixels * (1 + self._dtype.itemsize)}
