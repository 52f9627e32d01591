# SPDX-License-Identifier: Apache-2.0
"""`fetch`: downloads published networks into the user's cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._tables import print_written

HELP = "download a published detector, checked by its SHA-256"
EXAMPLE = "fetch fastestdet"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", nargs="?", default="fastestdet", help="fetch this network (default: fastestdet)")
    p.add_argument("--out", type=Path, metavar="DIR", help="write it to DIR/NAME (default: the user's cache)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The files and their licence."""
    from drp_slam.data.download import PACKAGES, fetch

    files = fetch(args.name, folder=args.out)
    return {"name": args.name, "licence": PACKAGES[args.name].licence, "files": [str(path) for path in files]}


def show(result: dict[str, Any]) -> None:
    print_written(result)
    print(f"licence {result['licence']}; use it with --detector {result['name']}")
