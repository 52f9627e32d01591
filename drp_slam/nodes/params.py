# SPDX-License-Identifier: Apache-2.0
"""Dataclasses of `config.py` as ROS parameters.

rclpy silently ignores unknown parameters, so a node reads all overrides it was given and refuses
unknown ones by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from drp_slam.errors import ConfigError

T = TypeVar("T")

OWN = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy itself declares."""

PREFIXES = ("qos_overrides.",)


def read(node: Node, *kinds: type[Any], inert: Collection[str] = ()) -> list[Any]:
    """Declares the fields of dataclasses as parameters, read-only unless `live`; returns the instances.

    `inert` lists parameters without an effect on this node, which are read-only.
    The node must have been created with `automatically_declare_parameters_from_overrides=True`.
    Raises ConfigError that names an unknown or out-of-range parameter.
    """
    given: dict[str, Any] = {
        name: parameter
        for name, parameter in node.get_parameters_by_prefix("").items()
        if name not in OWN and not name.startswith(PREFIXES)
    }
    refuse_unknown(node.get_name(), given, kinds)
    made = []
    for kind in kinds:
        names = [f.name for f in dataclasses.fields(kind)]
        config = kind(**{name: given[name].value for name in names if name in given})
        for f in dataclasses.fields(kind):
            if f.name in given:
                node.undeclare_parameter(f.name)
            node.declare_parameter(
                f.name, getattr(config, f.name), descriptor(f, f.name in inert), ignore_override=True
            )
        made.append(config)
    return made


def refuse_unknown(name: str, given: dict[str, Any], kinds: tuple[type[Any], ...]) -> None:
    """Raises ConfigError for a parameter that no dataclass has."""
    known = sorted({f.name for kind in kinds for f in dataclasses.fields(kind)})
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"unknown parameter {unknown[0]!r} of {name}; it has: {', '.join(known)}")


def descriptor(f: dataclasses.Field, inert: bool = False) -> ParameterDescriptor:
    """Description, unit and range of a field; read-only unless `live`."""
    meta = f.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    out = ParameterDescriptor(name=f.name, description=f"{meta['help']}{unit}", read_only=inert or not meta["live"])
    if meta["choices"]:
        out.additional_constraints = f"one of {', '.join(meta['choices'])}"
    if meta["low"] is not None and meta["high"] is not None:
        if isinstance(f.default, float):
            out.floating_point_range = [FloatingPointRange(from_value=float(meta["low"]), to_value=float(meta["high"]))]
        elif type(f.default) is int:
            out.integer_range = [IntegerRange(from_value=meta["low"], to_value=meta["high"])]
    return out
