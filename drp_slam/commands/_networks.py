# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that model a network, and opening that network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from drp_slam.commands._options import add_device
from drp_slam.errors import DrpAi3Error

if TYPE_CHECKING:
    from drp_slam.drpai3.graph import Graph


def add_network_model(p: argparse.ArgumentParser) -> None:
    """The chip, its clock, and the shape of the input."""
    add_device(p)
    text = "set the shape of a dynamic input; may be repeated"
    p.add_argument("--input-shape", action="append", default=[], metavar="[NAME=]1,3,H,W", help=text)
    text = "set a named dynamic dimension of any input, or all that are not named; may be repeated"
    p.add_argument("--dim", action="append", default=[], metavar="[NAME=]N", help=text)
    text = "set the AI-MAC clock by the runtime's index, 1 to 127 (default: 2, full speed)"
    p.add_argument("--freq-index", type=int, default=2, metavar="N", help=text)
    text = "let the DRP read the results in place, as in the pipeline (default: copy them to the CPU)"
    p.add_argument("--results-stay", action="store_true", help=text)


def add_shuffles(p: argparse.ArgumentParser) -> None:
    """Whether channel shuffles become convolutions."""
    text = "run channel shuffles as 1 x 1 convolutions of equal result, where a float network has them"
    p.add_argument("--convolve-shuffles", action="store_true", help=text)


def add_corpus(p: argparse.ArgumentParser) -> None:
    """A folder of networks with published latencies."""
    p.add_argument("dir", type=Path, help="folder with index.csv and graphs/")
    add_device(p)
    p.add_argument("--pairs", type=Path, metavar="FILE", help="add this table of dense and pruned latencies")
    text = "take the latencies from the column DEVICE_ms of this table instead"
    p.add_argument("--latencies", type=Path, metavar="FILE", help=text)


def input_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """`--input-shape` texts, `NAME=1,3,H,W` or `1,3,H,W` for the only input. Raises DrpAi3Error."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        try:
            shapes[name] = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            raise DrpAi3Error(f"--input-shape {text!r}, expected NAME=1,3,224,224 or 1,3,224,224") from None
    return shapes


def dimensions(texts: Iterable[str]) -> dict[str, int]:
    """`--dim` texts, `NAME=N`, or `N` for every other dynamic dimension. Raises DrpAi3Error."""
    sizes = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if not size.isdigit():
            raise DrpAi3Error(f"--dim {text!r}, expected NAME=64 or 64")
        sizes[name] = int(size)
    return sizes


def read_network(
    name: str,
    shapes: Iterable[str] = (),
    dims: Iterable[str] = (),
    in_place: bool = False,
    convolve_shuffles: bool = False,
) -> Graph:
    """A network file, or a shipped network by name, as a graph (`graph.load`). Raises DrpAi3Error, ResourceError."""
    from drp_slam import resources
    from drp_slam.drpai3.graph import load

    path = Path(name).expanduser()
    if not path.is_file() and path.suffix not in (".gz", ".onnx"):
        path = resources.network(name)
    return load(path, input_shapes(shapes), dimensions(dims), in_place=in_place, convolve_shuffles=convolve_shuffles)


def add_preprocessing(p: argparse.ArgumentParser) -> None:
    """Options for preprocessing the network's input."""
    text = "subtract this from scaled pixels: one value, or one per channel (default: 0)"
    p.add_argument("--mean", type=_numbers, default=(0.0,), metavar="R,G,B", help=text)
    text = "divide by this after --mean: one value, or one per channel (default: 1)"
    p.add_argument("--std", type=_numbers, default=(1.0,), metavar="R,G,B", help=text)
    p.add_argument("--bgr", action="store_true", help="feed blue first (--mean and --std are in that order)")


def _numbers(text: str) -> tuple[float, ...]:
    """Parses `0.5,0.5,0.5`; argparse reports anything else."""
    return tuple(float(part) for part in text.split(","))
