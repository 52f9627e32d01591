# SPDX-License-Identifier: Apache-2.0
"""Several nodes in one process: images and tensors are passed between stages by reference.

container NODE ... --ros-args ...; the nodes shut down in this order. Each has a thread of its own, so that stages of
successive frames overlap: onnxruntime, OpenCV and most of numpy release the interpreter's lock.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from rclpy.utilities import remove_ros_args

from drp_slam.config import NODE_SECTIONS
from drp_slam.errors import GraphError
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.exchange import Exchange
from drp_slam.nodes.running import run_all

SWITCH_INTERVAL_S = 0.0005
"""The interpreter switches threads at this interval; CPython's default of 5 ms is a third of a frame."""


def open_nodes(names: Sequence[str]) -> list[StageNode]:
    """The nodes, not yet configured. Raises GraphError for an unknown name, ConfigError for wrong parameters."""
    exchange = Exchange()
    nodes: list[StageNode] = []
    for name in names:
        nodes.append(node_class(name)(exchange=exchange))
    return nodes


def node_class(name: str) -> Callable[..., StageNode]:
    """The class of a node. Raises GraphError for an unknown name."""
    if name not in NODE_SECTIONS:
        raise GraphError(f"no node {name!r}; expected some of {', '.join(NODE_SECTIONS)}")
    module = importlib.import_module(f"drp_slam.nodes.{name}")
    return getattr(module, "".join(word.capitalize() for word in name.split("_")))  # type: ignore[no-any-return]


def main(args: Sequence[str] | None = None) -> int:
    """Runs the nodes."""
    given = list(sys.argv if args is None else args)
    names = remove_ros_args(given)[1:]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return run_all("container", lambda: open_nodes(names), given)


if __name__ == "__main__":
    sys.exit(main())
