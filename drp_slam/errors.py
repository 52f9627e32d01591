# SPDX-License-Identifier: Apache-2.0
"""The errors that this package raises deliberately.

DrpSlamError
  ConfigError    a parameter or a YAML file
  ResourceError  a shipped file (network, device, configuration) that is missing
  DeviceError    a device cannot be opened or cannot run a program
  DataError      a sequence, a bag, a calibration, a trajectory file
  DrpError       the image-processing unit
  DrpAi3Error    a network: loading, placing, packing, timing
  SlamError      tracking and mapping
  ProfilerError  spans and reports
  PruningError   compression
  GraphError     the ROS graph: a node died, a topic or a message is wrong

A message names the value, the limit and the remedy. The command line prints it as one line and
ends with exit code 1; anything that is not a DrpSlamError is a bug and shows its traceback.
"""

import sys

LONGEST = 1000
"""Characters of a message: they may quote a damaged file."""


def pip_install(what: str) -> str:
    """The line that installs `what` for the running Python, which may be in a virtual environment."""
    return f"{sys.executable} -m pip install '{what}'"


class DrpSlamError(Exception):
    """Root of all deliberate errors."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} [...] {text[-180:]}"


class ConfigError(DrpSlamError):
    """A parameter or a YAML file is wrong."""


class ResourceError(DrpSlamError):
    """A shipped file is missing."""


class DeviceError(DrpSlamError):
    """A device cannot be opened or cannot run a program."""


class DataError(DrpSlamError):
    """A sequence, bag, calibration or trajectory cannot be read or written."""


class DrpError(DrpSlamError):
    """An image kernel was called outside its conditions."""


class DrpAi3Error(DrpSlamError):
    """A network cannot be loaded, placed, packed, timed or run."""


class SlamError(DrpSlamError):
    """Tracking or mapping got unusable input."""


class ProfilerError(DrpSlamError):
    """Spans or reports cannot be read or written."""


class PruningError(DrpSlamError):
    """A network cannot be compressed as requested."""


class GraphError(DrpSlamError):
    """The ROS graph is incomplete, a node died, or a message is wrong."""
