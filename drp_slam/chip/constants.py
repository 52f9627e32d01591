# SPDX-License-Identifier: Apache-2.0
"""The numbers of a device model, each with unit and source, and the units of silicon with the work that each runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.chip import same_as
from drp_slam.chip.constant import Constant
from drp_slam.errors import DeviceError


@dataclass(frozen=True)
class Unit:
    """One unit of silicon: a row of the schedule.

    `runs` are the units of `Work` that it serves, with a place where only some kernels run there
    (`drp.custom`). Units of the same `queue` run one step at a time altogether.
    """

    name: str
    runs: tuple[str, ...]
    queue: str
    source: str


class Constants(Mapping[str, float]):
    """One file of `config/devices`: its numbers by dotted key, and `units`, in the file's order."""

    def __init__(self, name: str, entries: dict[str, Constant], units: tuple[Unit, ...] = ()) -> None:
        self.name, self.units, self._entries = name, units, entries

    def __getitem__(self, key: str) -> float:
        try:
            return self._entries[key].value
        except KeyError:
            raise DeviceError(
                f"device {self.name!r} has no constant {key!r}; add it to its file with value, unit and source"
            ) from None

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: str) -> Constant:
        """The constant with its unit and source."""
        self[key]
        return self._entries[key]

    def entries(self) -> tuple[Constant, ...]:
        """All constants, in the file's order."""
        return tuple(self._entries.values())

    def replace(self, values: Mapping[str, float]) -> Constants:
        """A copy with other values (for fits, clocks and what-if questions)."""
        entries = dict(self._entries)
        for key, value in values.items():
            old = self.entry(key)
            entries[key] = replace(old, value=float(value))
        return Constants(self.name, entries, self.units)


@lru_cache(maxsize=8)
def load_constants(name: str = "rzv2h") -> Constants:
    """Reads `config/devices/<name>.yaml` (or a file), and the file that it is based on (`same_as`).

    Raises ResourceError if there is none, DeviceError if a leaf lacks `value`, `unit` or
    `source`.
    """
    return _load(name, ())


def _load(name: str, before: tuple[Path, ...]) -> Constants:
    """`before` are the files that refer to this one by `same_as`."""
    path = resources.device_file(name)
    if path in before:
        raise DeviceError(f"{path}: same_as leads back to this file; one of the two has to state its constants")
    tree = resources.read_yaml(path, DeviceError)
    if not isinstance(tree, dict):
        raise DeviceError(f"{path}: expected a mapping of constants; see config/devices/rzv2h.yaml")
    units = tree.pop("units", None) or {}
    if not isinstance(units, dict):
        raise DeviceError(f"{path}: units is {str(units)[:80]!r}, expected a mapping; see config/devices/rzv2h.yaml")
    units = tuple(_unit(path, name, body) for name, body in units.items())
    tree.pop("title", None)
    factors = _factors(path, tree.pop("ranges", None) or {})
    other, left_out = same_as.reference(path, tree)
    base = {c.key: c for c in _load(other, (*before, path)).entries()} if other else {}
    found = {c.key: _spread(path, c, factors) for c in _leaves(path, tree, "", base)}
    for key, constant in same_as.taken(base, other, found, left_out, path).items():
        found[key] = _spread(path, constant, factors)
    order = {key: n for n, key in enumerate([*base, *found])}
    return Constants(path.stem, dict(sorted(found.items(), key=lambda item: order[item[0]])), units)


def _factors(path: Path, body: Any) -> dict[str, float]:
    """`ranges` of a file: the uncertainty of constants of a kind, as a factor with its reason."""
    if not isinstance(body, dict) or not all(
        isinstance(b, dict) and isinstance(b.get("factor"), (int, float)) and b["factor"] >= 1 and b.get("reason")
        for b in body.values()
    ):
        raise DeviceError(f"{path}: ranges must give each kind (fitted, assumed) a factor of at least 1 and a reason")
    return {str(kind): float(b["factor"]) for kind, b in body.items()}


def _spread(path: Path, c: Constant, factors: Mapping[str, float]) -> Constant:
    """The constant with its interval: its own `range`, else that of its kind; a point if none is stated."""
    if c.low == c.low:
        if not c.low <= c.value <= c.high:
            raise DeviceError(f"{path}: {c.key} is {c.value:g}, outside its range {c.low:g} to {c.high:g}")
        return c
    factor = factors.get(c.kind, 1.0)
    return replace(c, low=c.value / factor, high=c.value * factor)


def _leaves(path: Path, node: Any, key: str, base: Mapping[str, Constant]) -> Iterator[Constant]:
    if not isinstance(node, dict):
        raise DeviceError(f"{path}: {key} is a bare {repr(node)[:80]}; write value, unit and source")
    if "times" in node:
        node = same_as.multiplied(path, key, node, base)
    if "value" not in node:
        for child, value in node.items():
            yield from _leaves(path, value, f"{key}.{child}" if key else str(child), base)
        return
    missing = {"value", "unit", "source"} - set(node)
    if missing or not str(node["source"]).strip():
        raise DeviceError(
            f"{path}: {key} lacks {sorted(missing) or ['source']}; every constant has value, unit and source"
        )
    try:
        value = float(node["value"])
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    least = -math.inf if key.endswith("_offset") else 0.0
    rate = "/s" in str(node["unit"]) or "Hz" in str(node["unit"])
    if not (least <= value < math.inf and math.isfinite(value)) or (rate and value == 0.0):
        kind = "a number above 0" if rate else "a finite number" if least else "a finite number of at least 0"
        raise DeviceError(f"{path}: {key} is {str(node['value'])[:80]!r}, expected {kind}")
    try:
        low, high = map(float, node.get("range", ("nan", "nan")))
        if "factor" in node:
            low, high = value / float(node["factor"]), value * float(node["factor"])
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise DeviceError(
            f"{path}: {key} has range {node.get('range')!r} and factor {node.get('factor')!r}, expected low and high, "
            "or a factor"
        ) from error
    yield Constant(key, value, str(node["unit"]), str(node["source"]), low, high, "range" in node or "factor" in node)


def _unit(path: Path, name: str, body: Any) -> Unit:
    whole = isinstance(body, dict) and all(body.get(k) for k in ("runs", "queue", "source"))
    if not whole or not isinstance(body["runs"], list):
        raise DeviceError(f"{path}: unit {name} lacks runs, queue or source; see config/devices/rzv2h.yaml")
    return Unit(str(name), tuple(map(str, body["runs"])), str(body["queue"]), str(body["source"]))
