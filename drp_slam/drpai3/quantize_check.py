# SPDX-License-Identifier: Apache-2.0
"""Signal-to-noise ratio of a network's INT8 form, and the choice of ranges that maximises it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.quantize import METHODS, quantize
from drp_slam.drpai3.quantize_borders import input_scales, real_outputs

if TYPE_CHECKING:
    import onnx

BEST = "best"
"""Both ways to choose ranges, and the one with more signal at the worst output."""
COMPARED = 8
"""Number of samples on which the INT8 network is compared with the float one."""
SUSPICIOUS_DB = 15.0
"""Below this, the input was probably not preprocessed as in training, or the ranges do not suit the network."""


def quantize_by(
    model: onnx.ModelProto,
    calibration: Iterable[Mapping[str, np.ndarray]],
    method: str = BEST,
    percentile: float = 99.99,
) -> tuple[onnx.ModelProto, str, dict[str, float]]:
    """The INT8 network, the method that chose its ranges, and `sqnr_by_output` on the first samples.

    `method` is one of `quantize.METHODS` or `BEST`. Raises DrpAi3Error as `quantize` does.
    """
    samples = calibration if isinstance(calibration, Sized) else list(calibration)
    found = []
    for name in METHODS if method == BEST else (method,):
        int8 = quantize(model, samples, None, name, percentile)
        found.append((int8, name, sqnr_by_output(model, int8, islice(iter(samples), COMPARED))))
    return max(found, key=lambda made: min(made[2].values(), default=np.inf))


def sqnr_by_output(
    model: onnx.ModelProto, int8: onnx.ModelProto, samples: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Signal-to-quantisation-noise ratio in dB of each float output over samples (arrays by input name).

    Products never saturate (`emulator.session`). Outputs that are integers, zero or exact are omitted. Raises
    DrpAi3Error if onnxruntime cannot load one of the two.
    """
    samples = list(samples)
    reference, real = (session(m.SerializeToString()) for m in (model, real_outputs(int8)))
    scales = input_scales(int8)
    wanted = [reference.run(None, dict(sample)) for sample in samples]
    got = [real.run(None, stored(sample, scales)) for sample in samples]
    names = [o.name for o in reference.get_outputs()]
    ratios = {name: sqnr_db([w[n] for w in wanted], [g[n] for g in got]) for n, name in enumerate(names)}
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def sqnr_db(wanted: list[np.ndarray], got: list[np.ndarray]) -> float | None:
    """Signal-to-quantisation-noise ratio over all samples; None for integers, zeros, or no noise at all."""
    if wanted[0].dtype.kind != "f":
        return None
    pairs = [(w.astype(np.float64), g.astype(np.float64)) for w, g in zip(wanted, got)]
    signal = sum(float((w**2).sum()) for w, _ in pairs)
    noise = sum(float(((g - w) ** 2).sum()) for w, g in pairs)
    return 10 * float(np.log10(signal / noise)) if signal > 0 and noise > 0 else None


def stored(sample: Mapping[str, np.ndarray], scales: Mapping[str, tuple[float, int]]) -> dict[str, np.ndarray]:
    """A sample as input of the INT8 network."""
    found = dict(sample)
    for name, (scale, zero) in scales.items():
        found[name] = np.clip(np.rint(found[name] / scale) + zero, -128, 127).astype(np.int8)
    return found
