# SPDX-License-Identifier: Apache-2.0
"""Overrides parameters by name, and reads them from a YAML file in ROS's form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.config import NODE_SECTIONS, Config, GraphConfig
from drp_slam.errors import ConfigError
from drp_slam.resources import read_yaml


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy with values such as `{"slam.min_inliers": ...}` replaced; keys without a section belong to `graph`.

    Raises ConfigError for an unknown key.
    """
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if not dot and section in GraphConfig.__dataclass_fields__:
            section, name = "graph", section
        known = {f.name for f in dataclasses.fields(config)}
        if section not in known:
            raise ConfigError(f"unknown section {section!r} in {key!r}; known: {sorted(known)}")
        names = {f.name for f in dataclasses.fields(getattr(config, section))}
        if name in GraphConfig.__dataclass_fields__ and name not in names:
            raise ConfigError(f"{key!r} is a parameter of all nodes: write {name!r} without a section")
        if name not in names:
            raise ConfigError(f"unknown parameter {key!r}; {section} has: {', '.join(sorted(names))}")
        by_section.setdefault(section, {})[name] = value
    return dataclasses.replace(
        config, **{s: dataclasses.replace(getattr(config, s), **v) for s, v in by_section.items()}
    )


def load(path: str | Path | None = None) -> Config:
    """The defaults, overridden by a YAML file in ROS's form (`drp_node: ros__parameters: ...`).

    Raises ConfigError for an unreadable file, an unknown node or parameter, a value out of range.
    """
    if path is None:
        return Config()
    tree = read_yaml(Path(path), ConfigError) or {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected nodes with their ros__parameters, as in config/drp_slam.yaml")
    values: dict[str, Any] = {}
    for node, body in tree.items():
        section = NODE_SECTIONS.get(str(node).rsplit("/", 1)[-1])
        if section is None:
            raise ConfigError(f"{path}: unknown node {node!r}; known: {', '.join(NODE_SECTIONS)}")
        given = body.get("ros__parameters") if isinstance(body, dict) else None
        if not isinstance(given, dict):
            raise ConfigError(
                f"{path}: {node} has no parameters; write them below 'ros__parameters:', as in config/drp_slam.yaml"
            )
        for name, value in given.items():
            key = f"{'graph' if name in GraphConfig.__dataclass_fields__ else section}.{name}"
            if values.setdefault(key, value) != value:
                raise ConfigError(f"{path}: {name} is {values[key]!r} and {value!r}; it is one parameter of all nodes")
    return override(Config(), values)
