# SPDX-License-Identifier: Apache-2.0
"""`doctor`: finds faults of a recording or a live camera."""

from __future__ import annotations

import argparse
from typing import Any

from drp_slam.commands._options import SEQUENCE, add_camera, add_frames, add_place, placed
from drp_slam.profiler.terminal import print_lines

HELP = "check a recording or a live camera: report faults, their effects and remedies"
EXAMPLE = "doctor synthetic:frames=60"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("sequence", nargs="?", help=f"check this recording: {SEQUENCE}")
    add_camera(p)
    add_frames(p)
    p.add_argument("--live", action="store_true", help="check the topics of a running camera")
    text = "check a live camera for this many seconds (default: 20)"
    p.add_argument("--seconds", type=float, default=20.0, metavar="S", help=text)
    text = "with --live, mono: expect no depth (default: auto)"
    p.add_argument("--sensor", choices=("auto", "mono"), default="auto", help=text)
    add_place(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The diagnosis. `exit_code` is 1 if it has an error.

    Raises DataError for a missing recording, GraphError for names that ROS does not accept.
    """
    from drp_slam.doctor.checks import Level
    from drp_slam.errors import DataError

    if args.live == (args.sequence is not None):
        raise DataError("name a recording to check, or --live for a running camera")
    if args.live:
        return live(args)
    from drp_slam.doctor.recordings import diagnose

    diagnosis = diagnose(args.sequence, args.camera, args.start, args.frames)
    return {
        "sequence": diagnosis.name,
        "frames": diagnosis.frames,
        "frames_examined": diagnosis.examined,
        "topics": dict(diagnosis.topics),
        "findings": [finding.values() for finding in diagnosis.findings],
        "exit_code": int(any(finding.level is Level.ERROR for finding in diagnosis.findings)),
    }


def live(args: argparse.Namespace) -> dict[str, Any]:
    """The diagnosis of a running camera; prints findings on standard error as they occur."""
    import logging
    import os

    from drp_slam.doctor.checks import Level
    from drp_slam.nodes.announce import Announcer
    from drp_slam.nodes.table import environment, transport

    for name, value in (environment(local=False) | transport(sends_images=False, local=False)).items():
        os.environ.setdefault(name, value)
    from drp_slam.nodes.doctor_node import examine

    announcer = Announcer(logging.getLogger(__name__))
    findings, received = examine(placed(args), args.seconds, announcer.changes, args.sensor)
    return {
        "sequence": "live",
        "seconds": args.seconds,
        "topics": received,
        "findings": [finding.values() for finding in findings],
        # silence is a warning in a graph, which may wait for its camera; here it is the answer
        "exit_code": int(any(finding.level is Level.ERROR for finding in findings) or not any(received.values())),
    }


def show(result: dict[str, Any]) -> None:
    """Prints each finding with its reason and remedy."""
    if "seconds" in result:
        examined = f"messages in {result['seconds']:g} s"
    else:
        examined = f"{result['sequence']}: {result['frames_examined']} of {result['frames']} frames examined"
    print_lines([examined, *(f"  {name}: {value}" for name, value in result["topics"].items())], indent=4)
    styles = {"ERROR": "red", "WARN": "yellow", "NOTE": "cyan"}
    for finding in result["findings"]:
        print_lines(["", f"{finding['level']} {finding['check']}"], style=styles[finding["level"]])
        print_lines((f"  {key:<7}{finding[key]}" for key in ("where", "seen", "why", "remedy")), indent=9)
    if not result["findings"]:
        print_lines(["nothing wrong was found"])
