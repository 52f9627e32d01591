# SPDX-License-Identifier: Apache-2.0
"""Device files that state only the differences from another chip.

    same_as: {device: rzv2h, except: [thermal]}

takes every constant of the other chip that the file does not state itself; `except` lists sections or
constants that this chip does not have. A constant may also be a multiple of the other chip's:
`{times: 0.5, source: "..."}`. Inherited constants are assumed for this chip, whatever they are for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drp_slam.chip.constant import Constant
from drp_slam.errors import DeviceError

KEY = "same_as"


def reference(path: Path, tree: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Removes `same_as` from a file's tree; returns the other device, "" without one, and the exceptions."""
    body = tree.pop(KEY, None)
    if body is None:
        return "", ()
    keys = set(body) if isinstance(body, dict) else set()
    left_out = body.get("except") or [] if keys else []
    if "device" not in keys or keys - {"device", "except"} or not isinstance(left_out, list):
        raise DeviceError(
            f"{path}: same_as is {str(body)[:80]!r}, expected {{device: NAME, except: [section or constant, ...]}}"
        )
    return str(body["device"]), tuple(map(str, left_out))


def taken(
    base: Mapping[str, Constant], device: str, own: Iterable[str], left_out: tuple[str, ...], path: Path
) -> dict[str, Constant]:
    """The constants inherited from the other chip. Raises DeviceError for an exception that the other chip
    does not have.

    A stated interval of the other chip's file applies here too; else that of assumed constants.
    """
    unknown = [name for name in left_out if not any(_under(key, name) for key in base)]
    if unknown:
        raise DeviceError(f"{path}: same_as excludes {unknown[0]}, which {device} does not have; remove it")
    kinds = {"cited": "its cited figure", "fitted": "fitted for it", "assumed": "assumed there too"}
    own = set(own)
    return {
        key: replace(
            c,
            source=f"assumed: as {device} ({kinds[c.kind]})",
            low=c.low if c.stated else float("nan"),
            high=c.high if c.stated else float("nan"),
        )
        for key, c in base.items()
        if key not in own and not any(_under(key, name) for name in left_out)
    }


def multiplied(path: Path, key: str, node: Mapping[str, Any], base: Mapping[str, Constant]) -> dict[str, Any]:
    """Evaluates a constant stated as a multiple of the other chip's. Raises DeviceError."""
    if key not in base:
        raise DeviceError(f"{path}: {key} is a multiple (times), but same_as names no chip with {key}; write its value")
    try:
        value = base[key].value * float(node["times"])
    except (TypeError, ValueError) as error:
        raise DeviceError(f"{path}: {key} has times {str(node['times'])[:80]!r}, expected a number") from error
    return {**{k: v for k, v in node.items() if k != "times"}, "value": value, "unit": base[key].unit}


def _under(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")
