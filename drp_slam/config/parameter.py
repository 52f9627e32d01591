# SPDX-License-Identifier: Apache-2.0
"""A parameter as a dataclass field: description, unit and range, and the check of its value."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

from drp_slam.errors import ConfigError


def param(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A dataclass field with description, unit and range. `live`: can be changed while the node runs."""
    meta = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices, "live": live}
    return field(default=default, metadata=meta)


def check(section: str, config: Any) -> None:
    """Raises ConfigError with the parameter, its value and its limits if that is out of range."""
    for f in dataclasses.fields(config):
        value, meta, name = getattr(config, f.name), f.metadata, f"{section}.{f.name}"
        kind = type(f.default)
        if kind is float and type(value) is int:
            object.__setattr__(config, f.name, value := float(value))
        if type(value) is not kind:
            raise ConfigError(f"{name} is {value!r}, expected {kind.__name__}")
        if meta["choices"] and value not in meta["choices"]:
            raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(meta['choices'])}")
        low, high = meta["low"], meta["high"]
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ConfigError(f"{name} is {value!r} {meta['unit']}".rstrip() + f", expected {low} to {high}")
