# SPDX-License-Identifier: Apache-2.0
"""Writes `config/drp_slam.yaml` from the dataclasses: every parameter, its unit, range and default.

python -m drp_slam.nodes.yaml_file > config/drp_slam.yaml
"""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from drp_slam.config import NODE_SECTIONS, Config, GraphConfig

HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Every parameter of every node, at its default; a line that is left out keeps it. Unknown names and
# values out of range are refused by name. Made by: python -m drp_slam.nodes.yaml_file
"""


def text() -> str:
    """The whole file."""
    config = Config()
    blocks = [HEADER]
    for node, section in NODE_SECTIONS.items():
        blocks.append(f"{node}:\n  ros__parameters:\n{_fields(getattr(config, section))}")
        blocks.append(f"    # -- common to all nodes --\n{_fields(config.graph)}" if node == "pose_node" else "")
    others = ", ".join(f.name for f in dataclasses.fields(GraphConfig))
    blocks.insert(1, f"# {others}: may be given for any node.\n")
    return "".join(blocks)


def _fields(section: Any) -> str:
    lines = []
    for f in dataclasses.fields(section):
        lines += [f"    # {line}" for line in textwrap.wrap(_about(f), 92)]
        lines.append(f"    {f.name}: {_value(getattr(section, f.name))}")
    return "\n".join(lines) + "\n"


def _about(f: dataclasses.Field) -> str:
    """Description, unit and limits of a parameter."""
    meta = f.metadata
    limits = ""
    if meta["choices"]:
        limits = f" ({' | '.join(meta['choices'])})"
    elif meta["low"] is not None:
        limits = f" ({meta['low']:g} to {meta['high']:g}{' ' + meta['unit'] if meta['unit'] else ''})"
    elif meta["unit"]:
        limits = f" ({meta['unit']})"
    return f"{meta['help']}{limits}"


def _value(value: Any) -> str:
    """A value in ROS's YAML: floats with a point, booleans in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, exponent, power = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa or not exponent else '.0'}{exponent}{power}"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    print(text(), end="")
