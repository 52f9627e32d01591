# SPDX-License-Identifier: Apache-2.0
"""Chooses a network from a sweep by limits, and explains the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam.errors import ConfigError, DrpSlamError

UNITS = {"latency": {"s": 1e3, "ms": 1.0, "us": 1e-3}, "energy": {"J": 1e3, "mJ": 1.0, "uJ": 1e-3}}
"""Units of a limit, in milliseconds and millijoules."""
SAME_ENERGY = 1.02
"""Energies within this factor count as equal: the model is no more accurate."""


@dataclass(frozen=True)
class Limit:
    """`value(point)` must not exceed `most`, in `unit`; a point without a value fails it."""

    name: str
    option: str
    most: float
    unit: str
    scale: float = 1.0

    def value(self, point: Mapping[str, Any]) -> float | None:
        """The point's value; None where it was not measured or is not modelled."""
        if self.name == "ATE increase":
            ate = (point.get("ate_m") or {}).get("ratio")
            return None if ate is None else 100.0 * (ate - 1.0)
        if self.name == "inliers lost":
            ratio = point["all"]["inliers"]["ratio"]
            return None if ratio is None else 100.0 * (1.0 - ratio)
        return point["latency_ms" if self.name == "latency" else "energy_mj"]

    def holds(self, point: Mapping[str, Any]) -> bool:
        value = self.value(point)
        return value is not None and value <= self.most

    def text(self, value: float | None) -> str:
        return f"no {self.name}" if value is None else f"{self.name} {value:.3g} {self.unit}"


def latest(root: Path = Path("results"), name: str = "sweep") -> Path:
    """The newest results of the command `name` below `results/`. Raises DrpSlamError if there are none."""
    found = sorted(root.glob(f"*/{name}.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        option = "--sweep" if name == "sweep" else "--compared"
        raise DrpSlamError(
            f"no {name} below results/; make one with python -m drp_slam {name}, or name its folder with {option}"
        )
    return found[-1].parent


def limits(latency: str | None, energy: str | None, ate_increase: str | None, inliers_lost: str | None) -> list[Limit]:
    """The given limits, such as `2ms`, `1mJ`, `5%`. Raises ConfigError for an unknown unit, or for none."""
    part = {"%": 1.0, "": 100.0}
    known = (
        ("latency", "--max-latency", latency, UNITS["latency"], "ms"),
        ("energy", "--max-energy", energy, UNITS["energy"], "mJ"),
        ("ATE increase", "--max-ate-increase", ate_increase, part, "%"),
        ("inliers lost", "--max-inliers-lost", inliers_lost, part, "%"),
    )
    given = [row for row in known if row[2] is not None]
    if not given:
        raise ConfigError("no limit given; such as --max-latency 2ms --max-ate-increase 5%")
    return [Limit(name, o, quantity(str(text), units, o), unit) for name, o, text, units, unit in given]


def quantity(text: str, units: Mapping[str, float], option: str) -> float:
    """`2ms` -> 2.0 and the like. Raises ConfigError that lists the units."""
    text = text.strip()
    unit = text.lstrip("+-.0123456789").strip()
    try:
        value = float(text.removesuffix(unit)) * units[unit]
    except (KeyError, ValueError):
        known = ", ".join(repr(u) for u in units if u)
        raise ConfigError(f"{option} {text!r}: expected a number with a unit of {known}") from None
    return value


def choose(points: Sequence[Mapping[str, Any]], wanted: Sequence[Limit], folder: Path) -> dict[str, Any]:
    """Of the points that meet all limits and take the least energy (within 2 %), the one
    with most inliers.
    """
    fitting = [p for p in points if all(limit.holds(p) for limit in wanted)]
    if not fitting:
        raise DrpSlamError(f"{folder}: none of {len(points)} points fits; {_remedy(points, wanted)}")
    least = min(_energy(p) for p in fitting)
    best = min((p for p in fitting if _energy(p) <= least * SAME_ENERGY), key=_rank)
    ate = best.get("ate_m") or {}
    others = [{"name": p["name"], "because": _against(p, best, wanted)} for p in points if p is not best]
    return {
        "network": _network(best, folder),
        "name": best["name"],
        "why": [f"{limit.text(limit.value(best))}, at most {limit.most:.3g} {limit.unit} required" for limit in wanted]
        + [f"least energy (within 2 %), then most inliers, of the {len(fitting)} that fit, of {len(points)} measured"],
        "latency_ms": best["latency_ms"],
        "energy_mj": best["energy_mj"],
        "sparsity": best["sparsity"],
        "ate_ratio": ate.get("ratio"),
        "ate_ratio_interval": [ate.get("ratio_low"), ate.get("ratio_high")],
        "inliers_ratio": best["all"]["inliers"]["ratio"],
        "fitting": [p["name"] for p in fitting],
        "others": others,
    }


def _energy(point: Mapping[str, Any]) -> float:
    return float("inf") if point["energy_mj"] is None else point["energy_mj"]


def _rank(point: Mapping[str, Any]) -> tuple[float, float]:
    """Sort key among points of the same energy: most inliers, then least energy."""
    return -(point["all"]["inliers"]["ratio"] or 0.0), _energy(point)


def _network(point: Mapping[str, Any], folder: Path) -> str:
    """The value for `--network`."""
    given = point["point"]["network"]
    return given or str(folder / "networks" / f"{point['name']}.onnx")


def _against(point: Mapping[str, Any], best: Mapping[str, Any], wanted: Sequence[Limit]) -> str:
    broken = [limit.text(limit.value(point)) for limit in wanted if not limit.holds(point)]
    if broken:
        return ", ".join(broken)
    if point["energy_mj"] is None or best["energy_mj"] is None:
        return "fits, but has no modelled energy"
    inliers = 100.0 * (point["all"]["inliers"]["ratio"] or 0.0)
    return (
        f"fits, with {point['energy_mj']:.4g} mJ against {best['energy_mj']:.4g} mJ and "
        f"{inliers:.0f} % of the reference's inliers"
    )


def _remedy(points: Sequence[Mapping[str, Any]], wanted: Sequence[Limit]) -> str:
    """Single limits whose relaxation suffices, with the value; else the best value of each."""
    eased = []
    for limit in wanted:
        rest = [x for x in wanted if x is not limit]
        values = [v for p in points if all(x.holds(p) for x in rest) and (v := limit.value(p)) is not None]
        if values:
            eased.append(f"{limit.option} {min(values):.3g}{limit.unit}")
    if eased:
        return f"one fits with {' or '.join(eased)}; or sweep more rates and patterns"
    least = [
        limit.text(min((v for p in points if (v := limit.value(p)) is not None), default=None)) for limit in wanted
    ]
    return f"the lowest found: {', '.join(least)}; relax the limits or sweep more rates and patterns"
