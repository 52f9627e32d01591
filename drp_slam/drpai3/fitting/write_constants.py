# SPDX-License-Identifier: Apache-2.0
"""Writes fitted constants into a device file line by line, so that its comments are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from drp_slam import resources
from drp_slam.atomic import write_text
from drp_slam.errors import DeviceError


def write_constants(device: str, values: Mapping[str, float], note: str) -> Path:
    """Replaces value and source of each constant. Raises DeviceError if one has no line."""
    path = resources.device_file(device)
    lines, section, left = path.read_text().splitlines(), "", dict(values)
    for n, line in enumerate(lines):
        if re.match(r"\w+:\s*$", line):
            section = line.split(":")[0]
        found = re.match(r"\s+([\w-]+): \{value: [^,]+, unit: (.+?), source: .*\}\s*$", line)
        key = f"{section}.{found.group(1)}" if found else ""
        if found and key in left:
            number = left.pop(key)
            value = f"{number:.0f}" if section == "placement" else f"{number:.4e}"
            lines[n] = f'  {found.group(1)}: {{value: {value}, unit: {found.group(2)}, source: "{note}"}}'
    if left:
        raise DeviceError(f"{path}: no line for {', '.join(sorted(left))}; add value, unit, source")
    write_text(path, "\n".join(lines) + "\n", DeviceError)
    return path
