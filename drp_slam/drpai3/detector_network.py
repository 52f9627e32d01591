# SPDX-License-Identifier: Apache-2.0
"""A detector's network as a program for a device: float32, or INT8 as written by `quantize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drp_slam.device import Work
from drp_slam.drpai3.detector_forms import Form, form_of
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.network_cost import RESULTS_TAKEN, network_work
from drp_slam.errors import DrpAi3Error

FORM = (
    "(1, 3, H, W) in, (1, 5 + classes, h, w) out, float32 or int8, as FastestDet exports it, or one float32 output as "
    "YOLOX, YOLOv5 or YOLOv8 export it, sides multiples of 32"
)
DTYPES = {"tensor(float)": np.float32, "tensor(int8)": np.int8}


class DetectorNetwork:
    """The network as a program: tensor (3, H, W) in, planes (5 + classes, h, w) out, one dtype.

    `form` is None for this layout; for another one, whose planes have two dimensions, it decodes them.

    `stored` makes the tensor from real numbers, `real` turns planes back into them; for float32
    both are the identity. Raises DrpAi3Error for a file that is not an ONNX network or has another form.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        if not path.is_file():
            raise DrpAi3Error(f"{path}: no such file; give a detector's .onnx file")
        self.name, self.path = path.stem, path
        self._session = session(path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        taken = [(i.type, i.shape) for i in inputs]
        given = [(o.type, o.shape) for o in outputs]
        self.form = _other_form(taken, given)
        if self.form is None and not _has_form(taken, given):
            raise DrpAi3Error(f"{path}: takes {_text(taken)}, gives {_text(given)}; expected {FORM}")
        self._input = inputs[0].name
        self.shape: tuple[int, ...] = tuple(inputs[0].shape[1:])
        self._planes: tuple[int, ...] = tuple(outputs[0].shape[1:])
        self.classes = self.form.classes if self.form else self._planes[0] - 5
        self._work: Work | None = None
        self.dtype = np.dtype(DTYPES[inputs[0].type])
        self._scale, self._zero = 1.0, 0
        sides = (1,) * len(self._planes)
        self._plane_scale, self._plane_zero = np.ones(sides, np.float32), np.zeros(sides, np.float32)
        if self.dtype == np.int8:
            self._read_scales()

    def stored(self, values: np.ndarray) -> np.ndarray:
        """(3, H, W) float32 in [0, 1] as the network's tensor."""
        if self.dtype == np.float32:
            return values
        steps = np.rint(values / np.float32(self._scale)) + self._zero
        return np.clip(steps, -128, 127).astype(np.int8)

    def real(self, planes: np.ndarray) -> np.ndarray:
        """The network's planes as float32."""
        if self.dtype == np.float32:
            return planes
        return (planes.astype(np.float32) - self._plane_zero) * self._plane_scale

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The planes."""
        (tensor,) = inputs
        self.check(tensor)
        (planes,) = self._session.run(None, {self._input: tensor[None]})
        return (planes[0],)

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Zeros of the planes' shape: nothing is detected."""
        self.check(inputs[0])
        return (self._nothing(),)

    def _nothing(self) -> np.ndarray:
        """Planes whose real numbers are all zero."""
        zero = np.broadcast_to(self._plane_zero, self._planes)
        return np.ascontiguousarray(zero, self.dtype)

    def _read_scales(self) -> None:
        """Scale and zero point of input and output, each part of a last Concat with its own."""
        from drp_slam.drpai3.graph import load
        from drp_slam.drpai3.quantize_borders import border_scales
        from drp_slam.drpai3.reading import read_model

        model = read_model(self.path)
        try:
            (self._scale, self._zero), parts = border_scales(model)
        except (KeyError, StopIteration, IndexError) as error:
            raise DrpAi3Error(
                f"{self.path}: its int8 input or output has no scale; quantise it with drp_slam.drpai3.quantize"
            ) from error
        channels = [self._planes[0]]
        if len(parts) > 1:
            shapes, last = load(self.path).shapes, model.graph.output[0].name
            concat = next(node for node in model.graph.node if last in node.output)
            channels = [shapes[name][1] for name in concat.input]
        scales, zeros = (np.array(values, np.float32) for values in zip(*parts))
        self._plane_scale = np.repeat(scales, channels)[:, None, None]
        self._plane_zero = np.repeat(zeros, channels)[:, None, None]

    def work(self, *inputs: np.ndarray) -> Work:
        """`macs`, dense, counted from the graph once."""
        if self._work is None:
            self._work = network_work(self.path, (1, *self.shape), RESULTS_TAKEN)
        return self._work

    def check(self, tensor: np.ndarray) -> None:
        """Raises DrpAi3Error unless the tensor fits the network."""
        if tensor.dtype != self.dtype or tensor.shape != self.shape:
            raise DrpAi3Error(
                f"detector {self.name} takes {self.dtype} {self.shape}, got {tensor.dtype} "
                f"{tensor.shape}; let Detector prepare the image"
            )


def _other_form(taken: list[tuple[str, list]], given: list[tuple[str, list]]) -> Form | None:
    if [kind for kind, _ in (*taken, *given)] != ["tensor(float)"] * 2:
        return None
    inner, outer = taken[0][1], given[0][1]
    fixed = all(isinstance(side, int) and side > 0 for side in (*inner, *outer))
    return form_of(tuple(inner), tuple(outer)) if fixed and len(inner) == 4 and inner[:2] == [1, 3] else None


def _has_form(taken: list[tuple[str, list]], given: list[tuple[str, list]]) -> bool:
    if len(taken) != 1 or len(given) != 1:
        return False
    if taken[0][0] != given[0][0] or taken[0][0] not in DTYPES:
        return False
    inner, outer = taken[0][1], given[0][1]
    fixed = all(isinstance(side, int) and side > 0 for side in (*inner, *outer))
    four = len(inner) == len(outer) == 4
    return fixed and four and inner[:2] == [1, 3] and outer[0] == 1 and outer[1] > 5


def _text(values: list[tuple[str, list]]) -> str:
    return ", ".join(f"{kind.removeprefix('tensor')}{shape}" for kind, shape in values) or "nothing"
