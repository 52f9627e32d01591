# SPDX-License-Identifier: Apache-2.0
"""The page docs/cli.md: `python -m drp_slam.commands._reference > docs/cli.md`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from drp_slam.commands import commands
from drp_slam.commands._options import add_common

HEAD = """# Command line

Made from the code by `python -m drp_slam.commands._reference > docs/cli.md`; a test compares them.

`python -m drp_slam COMMAND ...` works with and without a ROS install; `--help` shows the same. The
result goes to standard output, progress and logs to standard error. Exit codes: 0 done, 1 a failure
(one line says which, and what to do), 2 wrong arguments."""


def page() -> str:
    """The whole page as Markdown."""
    common = argparse.ArgumentParser(add_help=False)
    add_common(common)
    parts = [HEAD, "Every command takes " + "; ".join(f"{spelled(a)}: {a.help}" for a in common._actions) + "."]
    return "\n\n".join([*parts, *(section for name in commands() for section in sections(name))]) + "\n"


def sections(name: str) -> Iterator[str]:
    """Heading, example and options of one command."""
    command = commands()[name]
    p = argparse.ArgumentParser(add_help=False)
    command.add_arguments(p)
    yield f"## {name}\n\n{command.HELP[0].upper()}{command.HELP[1:]}."
    yield f"```bash\npython -m drp_slam {command.EXAMPLE}\n```"
    rows = [f"| {spelled(a)} | {described(a)} |" for a in p._actions]
    yield "\n".join(["| argument | |", "|---|---|", *rows])


def spelled(action: argparse.Action) -> str:
    """The argument as one types it."""
    choices = None if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}"
    value = action.metavar or choices or action.dest.upper()
    if not action.option_strings:
        text = str(action.metavar or choices or action.dest)
        return f"`{text}`" + {"+": " …", "?": " (optional)"}.get(str(action.nargs), "")
    text = action.option_strings[0] + ("" if action.nargs == 0 else f" {value}")
    return "`" + text.replace("|", "\\|") + "`"


def described(action: argparse.Action) -> str:
    """Its help, and that it is required where it is."""
    text = (action.help or "").replace("|", "\\|")
    return f"{text} (required)" if action.required and action.option_strings else text


if __name__ == "__main__":
    print(page(), end="")
