# SPDX-License-Identifier: Apache-2.0
"""The real board: the same `Device` over Renesas' Python runtime (rzv_drp-ai_tvm, apps/python).

The network must have been compiled by Renesas' tool chain; the folder given here holds its output
(`mera.plan`, `sub_*`). Times are the board's own wall times: nothing is modelled.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.device import Run
from drp_slam.errors import DeviceError

START_ADDRESS = 0x2_4000_0000
"""First byte of the DRP-AI memory area of RZ/V2H (AI SDK)."""
FLOATS = (np.float16, np.float32)


def runtime(name: str = "mera") -> Any:
    """Renesas' runtime module. Raises DeviceError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DeviceError(
            f"backend mera needs Renesas' Python runtime, module {name!r}, which runs on the board "
            "only: install its wheel from rzv_drp-ai_tvm, or use backend emulated"
        ) from error


class MeraDevice:
    """DRP-AI3 of a board. `mera` is the runtime module; by default the installed one.

    Raises DeviceError for a missing runtime, a folder without a compiled network, or a runtime
    that refuses it.
    """

    unit = "drpai3"

    def __init__(
        self, folder: str | Path, freq_index: int = 1, start_address: int = START_ADDRESS, mera: Any = None
    ) -> None:
        mera = runtime() if mera is None else mera
        named, folder = str(folder), Path(folder).expanduser()
        if not named or not folder.is_dir() or not any(folder.iterdir()):
            raise DeviceError(
                f"backend mera: {named!r} is not a folder of a compiled network; compile it with "
                "rzv_drp-ai_tvm and set drpai3.compiled"
            )
        self.name = f"mera:{folder.name}"
        try:
            deployment = mera.load_mera_deployment(str(folder), target=mera.Target.IP)
            self._runner = deployment.get_runner(
                device_target=mera.mera_deployment.DeviceTarget.DRPAI_BUILTIN_MEM,
                start_address=start_address,
                frequency_index=freq_index,
            )
        except Exception as error:  # the runtime documents no exceptions
            raise DeviceError(f"backend mera: {folder}: the runtime refuses it: {error}") from error

    def run(self, program: Any, *inputs: np.ndarray) -> Run:
        """Runs one inference on the board; `wall_s` is the board's wall time.

        Raises DeviceError if the runtime fails or returns another type than in the card.
        """
        (tensor,) = inputs
        program.check(tensor)
        start = time.perf_counter()
        try:
            self._runner.set_input([np.ascontiguousarray(tensor[None, None])])
            self._runner.run()
            planes = np.asarray(self._runner.get_outputs()[0])
        except Exception as error:  # the runtime documents no exceptions
            raise DeviceError(f"{self.name}: inference failed: {error}") from error
        if planes.dtype != tensor.dtype:
            if planes.dtype not in FLOATS or tensor.dtype not in FLOATS:
                raise DeviceError(
                    f"{self.name}: the board returned {planes.dtype}, the card says "
                    f"{tensor.dtype}; use the card of the network that was compiled"
                )
            planes = planes.astype(tensor.dtype)
        heads = program.heads(planes)
        wall_s = time.perf_counter() - start
        return Run((heads,), wall_s, dataclasses.replace(program.work(tensor), unit="board"), self.name)
