# SPDX-License-Identifier: Apache-2.0
"""The reference pages that are made from the code: `python docs/reference.py` writes them."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import runpy
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import drp_slam
from drp_slam.commands import commands
from drp_slam.commands._options import add_common
from drp_slam.config import Config
from drp_slam.doctor.checks import CHECKS

MADE = "Made from the code by `python docs/reference.py`; a test compares them."
CLI = f"""# Command line

{MADE}

`python -m drp_slam COMMAND ...` works with and without a ROS install; `--help` shows the same. The
result goes to standard output, progress and logs to standard error. Exit codes: 0 done, 1 a failure
(one line says which, and what to do), 2 wrong arguments."""
PARAMETERS = f"""# Parameters

{MADE}

Each is a ROS parameter of its node, a key of a YAML file like `config/drp_slam.yaml` (`--config FILE`)
and of `--set SECTION.KEY=VALUE`. An unknown name or a value out of range is an error that says so."""
TROUBLESHOOTING = f"""# Troubleshooting

{MADE}

`python -m drp_slam doctor RECORDING` examines a recording, `python -m drp_slam doctor --live` a camera. A running
graph makes the same checks: every node publishes what it finds on `/diagnostics` (name `NODE: doctor: CHECK TOPIC`,
with what was seen, why it matters and what to do as values) and logs it once; `up` shows it, and `run.json` keeps it
as `findings`. ERROR: nothing, or nothing right, can come of it; WARN: results suffer; NOTE: good to know. The limits
and their reasons are in `drp_slam/doctor/`; on the recordings `tum_fr1_xyz`, `icl_office3`, `kitti_clip` and
`synthetic` no check fires."""
OTHERS = """## Messages of the nodes

| message | cause | what to do |
|---|---|---|
| `waiting for the other nodes` | a stage of the graph is not running | see `log/NODE.log` in the results folder |
| `waiting for the first frame` | no frame has passed this node | look at the nodes before it |
| `camera_info: none received` | no CameraInfo under that name | `--camera-info-topic`, launch `camera_info:=` |
| `depth: none within 20 ms of image` | depth comes unsynchronised or late | see `unsynchronised` above |
| `frame_id is '', which names no camera` | the driver leaves `header.frame_id` empty | set it to the optical frame |
| `another graph runs on this ROS domain` | two graphs in one namespace | end one, or give `--namespace` |
| `another SLAM graph publishes map -> odom` | the same, under `ros2 launch` | end one, or `namespace:=robot2` |
| `needs the Python package ...` | an extra is not installed | `pip install` as the message says |"""
API = f"""# Python API

{MADE}

`from drp_slam import NAME` imports a name when it is first used, so `import drp_slam` is light.
Everything else is reachable by its module, but may move between versions."""


def pages() -> dict[str, str]:
    """Text of every page by file name."""
    out = {"cli.md": cli(), "parameters.md": parameters(), "api.md": api(), "troubleshooting.md": troubleshooting()}
    if all(find_spec(name) for name in ("rclpy", "tf2_msgs", "vision_msgs")):
        out["interfaces.md"] = runpy.run_path(str(Path(__file__).with_name("interfaces.py")))["text"]()
    return out


def troubleshooting() -> str:
    """One table of the doctor's checks by symptom, then other messages."""
    rows = [f"| {c.symptom} | `{c.name}` ({c.level.name}) | {c.why} | {c.remedy} |" for c in CHECKS.values()]
    head = "| you notice | check | why it matters | what to do |\n|---|---|---|---|"
    return "\n\n".join([TROUBLESHOOTING, "\n".join([head, *rows]), OTHERS]) + "\n"


def api() -> str:
    """Signature and docstring of every public name."""
    parts = [API]
    for name in drp_slam.__all__:
        found = getattr(drp_slam, name)
        if not callable(found):
            continue
        error = inspect.isclass(found) and issubclass(found, Exception)
        call = name if error else called(name, found)
        home = f"`{found.__module__}.{found.__qualname__}`"
        parts.append(f"## {name}\n\n{home}\n\n```python\n{call}\n```\n\n{inspect.getdoc(found)}")
    return "\n\n".join(parts) + "\n"


def called(name: str, found: Callable) -> str:
    """The call, one line where it fits."""
    parts, signature = [], inspect.signature(found)
    for p in signature.parameters.values():
        plain = p.default is None or isinstance(p.default, (bool, int, float, str))
        default = "" if p.default is p.empty else f" = {p.default!r}" if plain else " = ..."
        if p.kind is p.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(p.name + (f": {p.annotation}" if isinstance(p.annotation, str) else "") + default)
    ends = f" -> {signature.return_annotation}" if inspect.isfunction(found) else ""
    line = f"{name}({', '.join(parts)}){ends}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){ends}"


def parameters() -> str:
    """One table a section of the configuration."""
    parts = [PARAMETERS]
    for section in dataclasses.fields(Config):
        kind = type(getattr(Config(), section.name))
        fields = dataclasses.fields(kind)
        rows = [f"| `{f.name}` | {shown(f.default)} | {limits(f)} | {f.metadata['help']} |" for f in fields]
        summary = (inspect.getdoc(kind) or "").splitlines()[0]
        head = f"## {section.name}\n\n{summary}\n\n| parameter | default | range | |\n|---|---|---|---|"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def shown(value: object) -> str:
    """A default as YAML has it."""
    text = f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "(empty)"


def limits(field: dataclasses.Field) -> str:
    """Range with its unit, or the choices."""
    meta = field.metadata
    if meta["choices"]:
        return ", ".join(f"`{choice}`" for choice in meta["choices"])
    if meta["low"] is None and meta["high"] is None:
        return ""
    return f"{meta['low']:g} to {meta['high']:g} {meta['unit']}".rstrip()


def cli() -> str:
    """Every command with its arguments."""
    common = argparse.ArgumentParser(add_help=False)
    add_common(common)
    parts = [CLI, "Every command takes " + "; ".join(f"{spelled(a)}: {a.help}" for a in common._actions) + "."]
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
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def described(action: argparse.Action) -> str:
    """Its help, and that it is required where it is."""
    text = (action.help or "").replace("|", "&#124;")
    return f"{text} (required)" if action.required and action.option_strings else text


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(__file__).parent / name).write_text(text)
