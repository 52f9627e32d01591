# SPDX-License-Identifier: Apache-2.0
"""The command line: parses, runs one function of `commands.COMMANDS`, prints, turns errors into 1.

Nothing heavy is imported before a command is chosen, so that `--help` answers at once. A handler
takes the parsed arguments and returns a JSON-able dict; its `show` prints it for people on
standard output. Progress and logs go to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from drp_slam import __version__
from drp_slam.commands import COMMANDS
from drp_slam.errors import DrpSlamError


class Parser(argparse.ArgumentParser):
    """Wrong arguments are one line and exit code 1, as every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog.removeprefix('python -m ')}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    main = Parser(
        prog="python -m drp_slam",
        description="Visual SLAM on an emulated Renesas RZ/V2H.",
        epilog="Every command: --help shows an example.",
    )
    main.add_argument("--version", action="version", version=__version__)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        p = commands.add_parser(
            command.name, help=command.help, description=command.help, epilog=f"example: {command.example}"
        )
        command.arguments(p)
        p.add_argument("--out", type=Path, metavar="DIR", help="default: results/NAME-TIME")
        p.add_argument("--json", action="store_true", help="one JSON object on standard output")
        p.add_argument("--verbose", action="store_true", help="more of the log")
    return main


def out_folder(args: argparse.Namespace) -> Path:
    """The folder of the results, made. `args.out`, else `results/<command>-<time>`."""
    out = args.out or Path("results") / f"{args.command}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrpSlamError(f"--out {out}: cannot make the folder: {error.strerror}") from error
    return out


def resolve(name: str) -> Callable:
    """The function that `module:function` names, imported now."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


@contextlib.contextmanager
def result_alone() -> Iterator[None]:
    """Keeps standard output for the result: what C++ libraries print there goes where logs go."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one line on standard error."""
    args = parser().parse_args(argv)
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    command = next(c for c in COMMANDS if c.name == args.command)
    try:
        with result_alone():
            result = resolve(command.handler)(args)
        if args.json:
            json.dump(result, sys.stdout)
            print()
        else:
            resolve(command.show)(result)
        return int(result.get("exit_code", 0))
    except DrpSlamError as error:
        print(f"drp_slam {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if (error.name or "drp_slam").startswith("drp_slam"):
            raise
        print(
            f"drp_slam {args.command}: needs the Python package {error.name!r}, which is not "
            "installed; see setup.py's extras (`make test` installs all)",
            file=sys.stderr,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"drp_slam {args.command}: interrupted", file=sys.stderr)
    return 1
