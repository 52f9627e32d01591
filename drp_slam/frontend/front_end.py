# SPDX-License-Identifier: Apache-2.0
"""A front end turns an image into features, stage by stage, each stage on one unit of the chip."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from drp_slam.config import Config
from drp_slam.datatypes import DescriptorSpec, Features, Frame
from drp_slam.device import Device, StageRun
from drp_slam.errors import ConfigError, DataError


@dataclass(frozen=True)
class Stage:
    """A named step of every frame; `unit` is the unit of the chip that should run it."""

    name: str
    unit: str


class FrontEnd(ABC):
    """`front(frame) -> (features, runs)`: runs all stages in order and returns the run of each.

    The first stage takes the image, (H, W, 3) BGR or (H, W) grey uint8; each later one takes the
    array that the previous one returned; the last one returns `Features` in pixels of the image.
    """

    stages: ClassVar[tuple[Stage, ...]]
    descriptor: ClassVar[DescriptorSpec]
    accelerator: Device | None = None
    """The device that runs its networks, if it has any open; a detector may share it."""

    @abstractmethod
    def __init__(self, config: Config, units: Collection[str]) -> None:
        """Opens the stages of `units` only: a ROS node owns one piece of silicon."""

    @abstractmethod
    def step(self, stage: str, data: Any, shape_hw: tuple[int, int]) -> tuple[Any, StageRun]:
        """One stage, by name. `shape_hw` is the (height, width) of the camera's image."""

    def part(
        self, data: Any, shape_hw: tuple[int, int], first: int, units: Collection[str]
    ) -> tuple[Any, tuple[StageRun, ...], int]:
        """Runs the stages from number `first` on while they belong to `units`.

        Returns the output of the last one, their runs, and the number of the next stage.
        """
        runs = []
        while first < len(self.stages) and self.stages[first].unit in units:
            data, run = self.step(self.stages[first].name, data, shape_hw)
            runs.append(run)
            first += 1
        return data, tuple(runs), first

    def __call__(self, frame: Frame) -> tuple[Features, tuple[StageRun, ...]]:
        """Features of a frame, and the run of every stage. Raises DataError for a frame without image."""
        if frame.image is None:
            raise DataError(f"frame {frame.index}: no image; give (H, W) grey or (H, W, 3) BGR, uint8")
        height, width = frame.image.shape[:2]
        features, runs, _ = self.part(frame.image, (height, width), 0, UNITS)
        return features, runs


UNITS = ("drp", "drpai3", "cpu")
"""Units of stages: sections of a device file."""

FRONT_ENDS = {"xfeat": "drp_slam.frontend.xfeat:XFeat", "orb": "drp_slam.frontend.orb:Orb"}
"""Value of `--features` -> module and class, imported on use."""


def front_end_class(name: str) -> type[FrontEnd]:
    """The class of a front end, for its stages and descriptor.

    `name` is one of `FRONT_ENDS`, or `module:Class` from outside. Raises ConfigError.
    """
    module, colon, cls = FRONT_ENDS.get(name, name).partition(":")
    if not colon:
        raise ConfigError(f"features {name!r} are unknown; choose from {', '.join(FRONT_ENDS)}, or name module:Class")
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"features {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, FrontEnd)):
        raise ConfigError(f"features {name!r} are not a drp_slam.frontend.front_end.FrontEnd")
    return found


def without_network(name: str) -> bool:
    """Whether `name` is one of `FRONT_ENDS` that runs no network."""
    return name in FRONT_ENDS and all(stage.unit != "drpai3" for stage in front_end_class(name).stages)


def network_of(config: Config) -> str | None:
    """Name of the network that the front end runs; None for one without."""
    stages = front_end_class(config.graph.features).stages
    return config.graph.network if any(stage.unit == "drpai3" for stage in stages) else None


def open_front_end(config: Config, units: Collection[str] = UNITS) -> FrontEnd:
    """The front end that `config.graph.features` names, with the stages of `units`."""
    return front_end_class(config.graph.features)(config, units)
