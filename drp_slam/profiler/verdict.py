# SPDX-License-Identifier: Apache-2.0
"""A run in a few sentences: outcome, bottleneck of the chip, and what would improve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADVICE = {
    "cpu": "fewer features per frame (--set drp.top_k=512), a port of the tracker to C++, or fewer keyframes",
    "drpai3": "a network pruned further, a faster AI-MAC clock, or a lower detector rate",
    "drp": "a faster DRP clock, fewer features, or image kernels that run on the CPU while it is idle",
}
"""Ways to unload a unit of each kind."""


def verdict(report: Mapping[str, Any]) -> list[str]:
    """Sentences, the most important first; parts that the report lacks are omitted."""
    return [text for text in (_tracking(report), _bound(report), _beside_cpu(report), _host(report)) if text]


def _tracking(report: Mapping[str, Any]) -> str:
    frames, tracked, ate = report["frames"], report["tracked"], report["ate_rmse_m"]
    if not frames or tracked is None:
        return ""
    lost = frames - tracked
    text = f"All {frames} frames were tracked" if not lost else f"{lost} of {frames} frames were lost"
    losses = [r for r in report.get("reasons") or () if r["state"] == "lost"]
    if lost and losses:
        most = losses[0]
        part = f", {most['frames']} of them" if most["frames"] < lost else ""
        text += f"{part}: {most['reason'].replace('_', ' ')} ({to_do(most['remedy'])})"
    if ate is not None:
        text += f"; the path is {ate * 100:.2g} cm RMSE from ground truth"
    doubt = sum(r["frames"] for r in report.get("reasons") or () if r["state"] == "tracked")
    some = "1 pose is" if doubt == 1 else f"{doubt} poses are"
    return text + (f"; {some} doubtful because of moving objects." if doubt else ".")


def to_do(remedy: str) -> str:
    """What to do, without the description of the cause before it."""
    return remedy.partition(": ")[2] or remedy


def reasons(report: Mapping[str, Any]) -> list[str]:
    """One line for each reason of lost frames or doubtful poses."""
    verb = {"tracked": "in doubt"}
    return [
        f"{r['frames']} {'frame' if r['frames'] == 1 else 'frames'} {verb.get(r['state'], 'lost')}, "
        f"{r['reason'].replace('_', ' ')}: {to_do(r['remedy'])}"
        for r in report.get("reasons") or ()
    ]


def _bound(report: Mapping[str, Any]) -> str:
    plan, stages = (report["schedule"] or {}).get("in_flight") or {}, report["stages"] or {}
    if not plan:
        return ""
    body = plan[max(plan, key=int)]
    busy = sorted(body["utilisation"].items(), key=lambda item: -item[1])
    (unit, share), rest = busy[0], busy[1:]
    kind = _kind(unit)
    own = [(s["modelled_ms"]["p50"], name) for name, s in stages.items() if s["unit"] == kind and s["modelled_ms"]]
    text = (
        f"On the chip the {unit} bounds the rate: {100 * share:.0f} % busy at {body['throughput_hz']:.0f} Hz (modelled)"
    )
    if own:
        longest = max(own)
        text += f", {longest[0]:.3g} ms of it in {longest[1]}"
    text += f". To improve it: {ADVICE[kind]}."
    if rest and rest[0][1] > 0:
        following, used = rest[0]
        text += f" If it took no time, the {following} would bound the rate at {body['throughput_hz'] / used:.0f} Hz."
    return text


def _kind(unit: str) -> str:
    """`cpu`, `drpai3` or `drp` of a unit's name in the device file."""
    name = unit.lower().replace("-", "")
    return "cpu" if "cpu" in name else "drpai3" if "ai" in name else "drp"


def _beside_cpu(report: Mapping[str, Any]) -> str:
    beside, known = report["comparison"]["modelled_a55"], report["assumptions"] or {}
    if not beside or not beside.get("latency_speedup"):
        return ""
    text = f"Its A55 cores alone would take {beside['cpu_ms']:.3g} ms a frame on average"
    text += f" instead of {beside['chip_ms']:.3g} ms: {beside['latency_speedup']:.2g} times as long"
    if beside.get("energy_ratio"):
        text += f", with {1 / beside['energy_ratio']:.2g} times the energy"
    share = (known.get("share") or {}).get("assumed")
    return text + (
        f" (first order; {100 * share:.0f} % of the time depends on assumptions)." if share is not None else "."
    )


def _host(report: Mapping[str, Any]) -> str:
    frames, duration, fps = report["frames"], report["duration"], report["fps"]
    if not frames or not duration or not fps or frames < 2:
        return ""
    camera = (frames - 1) / duration
    word = "keeps up with" if fps >= camera else "is slower than"
    return f"This host, at {fps:.3g} Hz, {word} the camera's {camera:.3g} Hz."
