# SPDX-License-Identifier: Apache-2.0
"""`board-kit`: everything needed to compile a network for the board and to check its outputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_preprocessing, add_shuffles, read_network
from drp_slam.commands._options import add_out, out_folder
from drp_slam.profiler.terminal import print_lines

HELP = "write the files needed to compile a network for the board and to check its outputs"
EXAMPLE = "board-kit yolox_s.onnx --images pictures/ --out kit"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="ONNX file, or a shipped network; of INT8 networks, the float form is written")
    text = "calibrate on these images; the first ten are compared"
    p.add_argument("--images", type=Path, required=True, metavar="DIR", help=text)
    add_preprocessing(p)
    text = "set the shape of a dynamic input"
    p.add_argument("--input-shape", action="append", default=[], metavar="[NAME=]1,3,H,W", help=text)
    text = "let the DRP read the results in place, so that XFeat's upsampling runs on blocks of pixels"
    p.add_argument("--results-stay", action="store_true", help=text)
    add_shuffles(p)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the folder; returns its contents."""
    from drp_slam.drpai3.board_kit import board_kit
    from drp_slam.drpai3.samples import Preprocessing

    graph = read_network(
        args.model, args.input_shape, in_place=args.results_stay, convolve_shuffles=args.convolve_shuffles
    )
    how = Preprocessing(mean=args.mean, std=args.std, bgr=args.bgr)
    return board_kit(graph, args.images, out_folder(args), how)


def show(result: dict[str, Any]) -> None:
    """Prints the files."""
    text = f"{result['folder']}: network.onnx, compile.py, compare.py, processing.json, "
    text += f"{result['calibration']} calibration tensors, outputs of {result['expected']} images"
    print_lines(
        [text, f"compile with {result['folder']}/compile.py, then compare on the board with compare.py"], indent=2
    )
