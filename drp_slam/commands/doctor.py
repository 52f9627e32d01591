# SPDX-License-Identifier: Apache-2.0
"""`doctor`: what is wrong with a recording."""

from __future__ import annotations

import argparse
from typing import Any

from drp_slam.commands._options import add_camera, add_frames, add_sequence
from drp_slam.commands._tables import console

HELP = "examine a recording: say what is wrong, why it matters and what to do"
EXAMPLE = "doctor synthetic:frames=60"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p)
    add_camera(p)
    add_frames(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The diagnosis. `exit_code` is 1 where it has an error. Raises DataError where there is no such recording."""
    from drp_slam.doctor.checks import Level
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


def show(result: dict[str, Any]) -> None:
    """Prints each finding with its reason and remedy."""
    out = console()
    topics = ", ".join(f"{role} {topic}" for role, topic in result["topics"].items())
    out.print(f"{result['sequence']}: {result['frames_examined']} of {result['frames']} frames examined; {topics}")
    styles = {"ERROR": "red", "WARN": "yellow", "NOTE": "cyan"}
    for finding in result["findings"]:
        out.print(f"\n{finding['level']} {finding['check']}", style=styles[finding["level"]])
        for key in ("where", "seen", "why", "remedy"):
            out.print(f"  {key:<7}{finding[key]}", soft_wrap=True)
    if not result["findings"]:
        out.print("nothing wrong was found")
