# SPDX-License-Identifier: Apache-2.0
"""The arguments of commands about networks on the accelerator. Nothing heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path


def _device_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--device",
        default="rzv2h",
        metavar="NAME|FILE",
        help="device file of config/devices: rzv2h, rzv2n, rzv2l (default: rzv2h)",
    )


def _network_options(p: argparse.ArgumentParser) -> None:
    _device_options(p)
    p.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="[NAME=]1,3,H,W",
        help="shape of a dynamic input; may be repeated",
    )
    p.add_argument(
        "--freq-index",
        type=int,
        default=2,
        metavar="N",
        help="AI-MAC clock index of the runtime, 1 to 127 (default: 2, full speed)",
    )
    p.add_argument(
        "--results-stay",
        action="store_true",
        help="the DRP reads the results in place, as in the pipeline; default: the CPU takes them",
    )


def estimate(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="ONNX file (.onnx, .onnx.gz) or shipped network")
    _network_options(p)
    sparsity = p.add_mutually_exclusive_group()
    sparsity.add_argument(
        "--sparsity", type=float, metavar="S", help="suppose this share of zeros instead of the file's own"
    )
    sparsity.add_argument("--dense", action="store_true", help="ignore the file's zeros")
    p.add_argument(
        "--pattern",
        choices=("file", "balanced", "random"),
        help="pattern of the zeros (default: the file's; balanced with --sparsity)",
    )
    p.add_argument(
        "--release",
        type=float,
        default=2.7,
        metavar="X.Y",
        help="release of the vendor's compiler whose placement is supposed",
    )
    p.add_argument("--verify", action="store_true", help="prove that packed weights give the dense INT8 accumulators")
    p.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="run it in INT8 over a folder of images, which calibrate an FP32 network",
    )
    p.add_argument("--method", choices=("minmax", "percentile"), default="minmax")
    p.add_argument("--percentile", type=float, default=99.99)
    p.add_argument("--csv", action="store_true", help="write layers.csv")
    p.add_argument(
        "--html", action="store_true", help="write estimate.html, roofline.png and timeline.json (Chrome trace)"
    )


def compare_networks(p: argparse.ArgumentParser) -> None:
    p.add_argument("models", nargs="+", help="ONNX files or shipped networks; the first is the reference")
    _network_options(p)


def overhead(p: argparse.ArgumentParser) -> None:
    p.add_argument("network", nargs="?", default="xfeat", help="shipped network with a card")
    p.add_argument("--height", type=int, default=480)
    p.add_argument("--width", type=int, default=640)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeats", type=int, default=50)


def validate_device(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, help="folder with index.csv and graphs/")
    _device_options(p)
    p.add_argument("--pairs", type=Path, metavar="FILE", help="table of dense and pruned latencies")
    p.add_argument(
        "--cross-validate", action="store_true", help="also fit without each fold's families and predict them (minutes)"
    )
    p.add_argument(
        "--layers", type=Path, metavar="FILE", help="compare with the translator's table of one network (CSV)"
    )
    p.add_argument("--network", type=Path, metavar="ONNX", help="network of that table (default: YOLOX-S, 640 pixels)")


def fit_device(p: argparse.ArgumentParser) -> None:
    p.add_argument("dir", type=Path, help="folder with index.csv and graphs/")
    _device_options(p)
    p.add_argument("--pairs", type=Path, metavar="FILE", help="table of dense and pruned latencies")
    p.add_argument("--write", action="store_true", help="keep the constants in the device file")
