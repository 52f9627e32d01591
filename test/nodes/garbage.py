# SPDX-License-Identifier: Apache-2.0
"""Messages of any type with values that nobody expects, made from the type's own description."""

from __future__ import annotations

import importlib
import random
import re
from typing import Any

WORDS = ["", "x", "[/bold]", "pose_node: health", "drp_node: track", "a\nb\x1b[2J", "é" * 300, "../../x", "16UC1"]
WORDS += ["bgr8", "mono8", "32FC1", "8SC1", "png", "jpeg", "u", "v", "score", "map", "odom", "base_link", "9" * 30]
FLOATS = [0.0, -1.0, 1.0, 1e-300, 1e300, 3.4e38, float("nan"), float("inf"), float("-inf")]
LENGTHS = [0, 1, 2, 3, 7, 64, 1000]
SIZES = {"boolean": (0, 1), "octet": (0, 255), "byte": (0, 255), "char": (0, 255)}
SIZES |= {f"uint{n}": (0, 2**n - 1) for n in (8, 16, 32, 64)}
SIZES |= {f"int{n}": (-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)}


def message(kind: type[Any], rng: random.Random) -> Any:
    """A message of the class, whose every field is random."""
    out = kind()
    for name, spelled in kind.get_fields_and_field_types().items():
        setattr(out, name, value(spelled, rng))
    return out


def value(spelled: str, rng: random.Random) -> Any:
    """A random value of a type as rosidl spells it."""
    if found := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", spelled):
        length = min(rng.choice(LENGTHS), int(found[2] or 1000), 1000 if found[1] in SIZES else 3)
        return [value(found[1], rng) for _ in range(length)]
    if found := re.fullmatch(r"(.+)\[(\d+)\]", spelled):
        return [value(found[1], rng) for _ in range(int(found[2]))]
    if spelled.startswith("string"):
        return rng.choice(WORDS)
    if spelled in ("float", "double"):
        return rng.choice([x for x in FLOATS if spelled == "double" or abs(x) != 1e300])
    if spelled == "boolean":
        return rng.random() < 0.5
    if spelled in ("octet", "byte"):
        return bytes([rng.randrange(256)])
    if spelled in SIZES:
        low, high = SIZES[spelled]
        return rng.choice([low, high, 0, 1, min(high, 240), min(high, 320), rng.randint(low, high)])
    return message(found_class(spelled), rng)


def found_class(spelled: str) -> type[Any]:
    """The class of `std_msgs/Header` or `std_msgs/msg/Header`."""
    package, *_, name = spelled.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)
