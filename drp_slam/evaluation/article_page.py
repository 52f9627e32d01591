# SPDX-License-Identifier: Apache-2.0
"""`figures.html` and its PNGs: the article's claims and the modelled figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from drp_slam.atomic import replacing, write_text
from drp_slam.chip.cpu_alone import ARTICLE
from drp_slam.errors import ProfilerError
from drp_slam.evaluation import article_figures as draw
from drp_slam.evaluation.compare_page import between
from drp_slam.profiler.figures import svg
from drp_slam.profiler.page import MODELLED, page, section, table, tag, verdict_box

COLUMNS = [("figure", "text"), ("subject", "long"), ("claimed", "long"), ("ours", MODELLED), ("range", MODELLED)]


def write(out: Path, found: Mapping[str, Any]) -> list[str]:
    """Writes the page and a PNG a picture; their paths, the page last. Raises ProfilerError."""
    heat = found["heat"]
    chain = ", ".join(f"{name} {ms} ms" for name, ms in found["published_stages_ms"].items())
    pictures = {
        "3-peak": (
            "Figure 3: peak",
            "Products of the array by its own cycles, without loads, stores and other operators. "
            f"{escape(found['previous'])} does not skip zeros.",
            draw.peak(found["peak"]),
        ),
        "4-offload": (
            "Figure 4: pre- and post-processing on the DRP",
            f"{escape(found['sequence'])}, a mean frame. Measured on a board, another chain: {escape(chain)}.",
            draw.offload(found["offload"]),
        ),
        "5-efficiency": (
            "Figure 5: efficiency",
            "Dense-equivalent operations per joule of the accelerator, whole networks; DDR is outside, as in published "
            "figures.",
            draw.efficiency(found["efficiency"], found["previous"]),
        ),
        "6-heat": (
            "Figure 6: heat without a fan",
            "The idle board is warmer than the room; the busy units add to that. The article compares with a GPU board "
            "that it does not name. At a tenth of the efficiency (its ratio of generations) the same work would need a "
            f"fan that brings {heat['resistance_k_per_w']:.2f} K/W down to {heat['fan_resistance_k_per_w']:.2f} K/W.",
            draw.heat(heat),
        ),
        "slam": (
            "SLAM: 17 times faster at 1/12 of the power",
            f"{escape(found['sequence'])} on {escape(found['device'])}; the conditions for the claim are on "
            "the page of <code>compare</code>.",
            draw.slam(found["slam"], ARTICLE),
        ),
    }
    body = verdict_box(verdict(found["claims"])) + section(
        "Claims and modelled figures",
        f"{tag(MODELLED)} Ranges: nine in ten draws of all fitted and assumed constants ({found['draws']} draws).",
        table([*COLUMNS, ("python -m drp_slam ...", "long")], [_row(claim) for claim in found["claims"]]),
    )
    paths = []
    for name, (title, text, figure) in pictures.items():
        body += section(title, text, svg(figure, title))
        path = out / f"figure-{name}.png"
        with replacing(path, ProfilerError) as temporary:
            figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
        paths.append(str(path))
    html = out / "figures.html"
    source = found["claims"][0]["source"]
    footer = "Modelled figures are computed from the device file; nothing here was measured on the chip."
    write_text(
        html, page("drp_slam: the article's figures", f"claims: <b>{escape(source)}</b>", body, footer), ProfilerError
    )
    return [*paths, str(html)]


def verdict(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the article's figures the model reaches, and which it does not."""
    stated = [c for c in claims if c["claimed_value"] is not None]
    inside = [c for c in stated if c["range"][0] <= c["claimed_value"] <= c["range"][1]]
    told = [f"{len(inside)} of the {len(stated)} figures that the article states lie in the range of the model."]
    for claim in sorted(stated, key=lambda c: c["figure"].isdigit()):
        low, high = claim["range"]
        if low <= claim["claimed_value"] <= high:
            continue
        numbered = claim["figure"].isdigit()
        where = f"{'Figure ' if numbered else ''}{claim['figure']}, {claim['subject']}"
        side = "above" if claim["claimed_value"] > high else "below"
        told.append(
            f"{where}: {claim['claimed']} is {side} the model's "
            f"{claim['ours']:.3g} {claim['unit']} ({between(claim['range'])})."
        )
    return [*told, "Nothing was measured on the chip, and no constant is tuned to a claim."]


def _row(claim: Mapping[str, Any]) -> list[Any]:
    ours = [f"{claim['ours']:.3g} {escape(claim['unit'])}", between(claim["range"])]
    told = [escape(claim[key]) for key in ("figure", "subject", "claimed")]
    return [*told, *ours, f"<code>{escape(claim['command'])}</code>"]
