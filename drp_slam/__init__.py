# SPDX-License-Identifier: Apache-2.0
"""Visual SLAM split as Renesas' RZ/V2H splits it: DRP, DRP-AI3 and CPU, emulated and profiled.

The public names below are imported on first use, so `import drp_slam` is light:

    from drp_slam import Config, open_sequence, run
    run(open_sequence("rgbd_dataset_freiburg1_xyz"), Config(), Path("results/xyz"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drp_slam.chip.constants import load_constants
    from drp_slam.config import Config
    from drp_slam.data.accuracy import ate
    from drp_slam.data.dataset import open_sequence
    from drp_slam.data.trajectory import read_tum
    from drp_slam.datatypes import Camera, Features, Frame, Trajectory
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.graph import load as load_network
    from drp_slam.errors import DrpSlamError
    from drp_slam.offline import run_sequence as run
    from drp_slam.pipeline import Pipeline
    from drp_slam.reporting.results import build as report
    from drp_slam.slam.tracker import Tracker

__all__ = [
    "Camera",
    "Config",
    "DrpSlamError",
    "Features",
    "Frame",
    "Pipeline",
    "Tracker",
    "Trajectory",
    "__version__",
    "ate",
    "estimate",
    "load_constants",
    "load_network",
    "open_sequence",
    "read_tum",
    "report",
    "run",
]
__version__ = "0.1.0"

_HOMES = {
    "Camera": "datatypes:Camera",
    "Config": "config:Config",
    "DrpSlamError": "errors:DrpSlamError",
    "Features": "datatypes:Features",
    "Frame": "datatypes:Frame",
    "Pipeline": "pipeline:Pipeline",
    "Tracker": "slam.tracker:Tracker",
    "Trajectory": "datatypes:Trajectory",
    "ate": "data.accuracy:ate",
    "estimate": "drpai3.estimate:estimate",
    "load_constants": "chip.constants:load_constants",
    "load_network": "drpai3.graph:load",
    "open_sequence": "data.dataset:open_sequence",
    "read_tum": "data.trajectory:read_tum",
    "report": "reporting.results:build",
    "run": "offline:run_sequence",
}


def __getattr__(name: str) -> Any:
    """Imports a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'drp_slam' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"drp_slam.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
