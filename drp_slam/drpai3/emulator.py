# SPDX-License-Identifier: Apache-2.0
"""DRP-AI3 emulated: a network as a program whose exact INT8 results onnxruntime computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.card import INPUT_MULTIPLE
from drp_slam.device import Work
from drp_slam.drpai3.network_cost import RESULTS_STAY, network_work
from drp_slam.drpai3.space_to_depth import rewritten, space_to_depth
from drp_slam.drpai3.upsample_blocks import from_blocks
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    import onnxruntime


def session(model: Path | bytes, threads: int = 1, exact: bool = True) -> onnxruntime.InferenceSession:
    """A deterministic onnxruntime session on the CPU that does not spin while idle.

    With `exact`, INT8 products never saturate: on x86 without VNNI onnxruntime's fast U8S8 path
    adds two products in 16 bits, which the chip does not. Raises DrpAi3Error for a model that
    onnxruntime refuses.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact and not wide_products():
        options.add_session_config_entry("session.x64quantprecision", "1")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen undocumented types
        name = "model" if isinstance(model, bytes) else model
        reason = str(error).strip().splitlines()[0]
        raise DrpAi3Error(f"{name}: onnxruntime cannot run it: {reason}; export it again") from error


@lru_cache(maxsize=1)
def wide_products() -> bool:
    """Whether this CPU multiplies INT8 without saturating (VNNI), so the fast path is exact.

    On such a CPU the exact path gives the same bits and takes 30 ms more per VGA frame.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


class Network:
    """A SLAM network as a program: tensor (H, W) in, heads (H/8, W/8, C) out, in its own dtype.

    The ONNX takes (1, 1, H, W) and gives (1, C, H/8, W/8); `parts` are the channels of its heads. One
    session serves all shapes. Raises DrpAi3Error for a tensor of another dtype or with sides that are no
    multiple of 32.
    """

    def __init__(self, path: Path, dtype: str, channels: int, threads: int = 1, parts: Sequence[int] = ()) -> None:
        self.name, self.path = path.stem, path
        self._dtype, self._channels, self._threads = np.dtype(dtype), channels, threads
        self._parts = parts or (channels,)
        self._session: Any = None
        self._input, self._blocks = "", False
        self._work: dict[tuple[int, ...], Work] = {}

    def compute(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The heads, bit for bit."""
        (tensor,) = inputs
        self.check(tensor)
        if self._session is None:
            self._open()
        stored = space_to_depth(tensor) if self._blocks else tensor[None, None]
        (planes,) = self._session.run(None, {self._input: stored})
        return (self.heads(planes),)

    def _open(self) -> None:
        """The session, of the faster equivalent network if there is one."""
        model = rewritten(self.path) if self._dtype == np.int8 else None
        self._blocks = model is not None
        self._session = session(model or self.path, self._threads)
        self._input = self._session.get_inputs()[0].name

    def heads(self, planes: np.ndarray) -> np.ndarray:
        """(1, C, h, w), or in 2x2 blocks (`upsample_blocks`), to C-contiguous (h, w, C)."""
        import cv2

        if planes.shape[1] == 4 * self._channels:
            planes = from_blocks(planes, self._parts)
        _, channels, height, width = planes.shape
        if channels != self._channels:
            raise DrpAi3Error(
                f"{self.path}: {channels} output channels, its card says {self._channels}; rebuild the card"
            )
        # a 2-D transposition is blocked and five times as fast as numpy's copy of a strided view
        return cv2.transpose(planes.reshape(channels, -1)).reshape(height, width, channels)

    def empty(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Zeros of the heads' shape."""
        (tensor,) = inputs
        self.check(tensor)
        height, width = (side // 8 for side in tensor.shape)
        return (np.zeros((height, width, self._channels), self._dtype),)

    def work(self, *inputs: np.ndarray) -> Work:
        """`macs`, dense; counted from the graph once a shape."""
        shape = inputs[0].shape
        if shape not in self._work:
            self._work[shape] = network_work(self.path, (1, 1, *shape), RESULTS_STAY)
        return self._work[shape]

    def check(self, tensor: np.ndarray) -> None:
        """Raises DrpAi3Error unless the tensor fits the network."""
        if tensor.dtype != self._dtype:
            raise DrpAi3Error(
                f"network {self.name} takes {self._dtype}, got {tensor.dtype}; preprocess with the same network's card"
            )
        if tensor.ndim != 2 or not tensor.size or any(s % INPUT_MULTIPLE for s in tensor.shape):
            raise DrpAi3Error(
                f"network {self.name}: tensor of shape {tensor.shape}, expected "
                f"(H, W), each a multiple of {INPUT_MULTIPLE}; resize it"
            )


@lru_cache(maxsize=1)
def saturates() -> bool:
    """Whether onnxruntime's default U8S8 arithmetic saturates on this CPU, tested by a multiplication.

    255 x 127 + 255 x 127 does not fit 16 bits; without VNNI (or ARM's dot product) it is clipped.
    """
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    k = 64
    weight = numpy_helper.from_array(np.full((k, 16), 127, np.int8), "w")
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, k))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (1, 16))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    run = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run
    (product,) = run(None, {"x": np.full((1, k), 255, np.uint8)})
    return bool((product != math.prod((255, 127, k))).any())
