# SPDX-License-Identifier: Apache-2.0
"""`rebuild`: a shipped network from its published weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_out, out_folder

HELP = "rebuild a shipped network, from published weights to ONNX and card"
EXAMPLE = "rebuild xfeat --out models"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", help="shipped network, such as xfeat-p70")
    text = "train on this folder of images or recordings too, in addition to photographs of installed packages"
    p.add_argument("--data", type=Path, metavar="DIR", help=text)
    text = "train on this torch device: cpu (reproduces the shipped bytes) or cuda (faster, an equivalent network)"
    p.add_argument("--torch-device", default="cpu", metavar="NAME", help=text)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes NAME.onnx and NAME.yaml to `--out`, and those of the intermediate levels."""
    from drp_slam.evaluation.rebuild import rebuild, recipe

    recipe(args.name)  # refused before a folder is created
    return rebuild(args.name, args.data, out_folder(args), args.torch_device)


def show(result: Mapping[str, Any]) -> None:
    """Prints what was written."""
    print(f"{result['onnx']}: {result['bytes']} bytes, {result['sparsity']:.1%} of the weights zero")
    print(f"sha256 {result['sha256']}")
