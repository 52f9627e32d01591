# SPDX-License-Identifier: Apache-2.0
"""One study by name, with its checkpoints, its table and its picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from drp_slam.errors import PruningError
from drp_slam.pruning.studies import compression, digits, plots
from drp_slam.pruning.studies import resnet20 as cifar
from drp_slam.pruning.studies.checkpoints import Checkpoints, write


def measure(name: str, data: Path | None, seeds: int, out: Path, say: Callable[[str, float], None]) -> dict[str, Any]:
    """Runs `resnet20`, `compression` or `regulariser`; writes `<name>.json` and `<name>.png`.

    Resumes from the checkpoints of an interrupted run in `out`. Raises PruningError.
    """
    torch.set_num_threads(1)  # the same order of sums on every host
    settings = {
        "resnet20": f"{cifar.STEPS} {cifar.LEARNING_RATE}",
        "compression": f"{compression.SETTINGS}",
        "regulariser": f"{digits.FEW} {digits.GAIN_RATES}",
    }
    kept = Checkpoints(out / f"{name}-parts", settings[name])
    if name == "resnet20":
        if data is None:
            raise PruningError("resnet20 needs a data folder")
        result = cifar.resnet20(data, seeds, say, kept)
    elif name == "compression":
        result = compression.compression(seeds, data, say, kept)
    else:
        result = digits.regulariser(seeds, say, kept)
    path = out / f"{name}.json"
    write(path, result)
    try:
        result["picture"] = str(plots.draw(result, out / f"{name}.png"))
    except OSError as error:
        raise PruningError(f"{out}: cannot write the picture: {error.strerror}") from error
    return result | {"json": str(path)}
