# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page: style, tiles, tables. Measured and modelled look different."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

MEASURED, MODELLED = "measured", "modelled"
"""Kinds of figures, and the CSS classes of their columns."""

OPTION = re.compile(r"--[a-z][a-z-]*(?: [a-z_.]+=\w+)?")
"""An option of the command line in a sentence, with its parameter where it is `--set`."""
HERE = Path(__file__).parent
"""Folder of the style sheet and the scripts of a page."""


def number(value: float | int | None, digits: int = 3) -> str:
    """Three significant digits (below one: at least three decimals), thin-spaced thousands, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - len(str(int(abs(value))))) if abs(value) >= 1 else digits
    if 0 < abs(value) < 0.1:
        decimals += -math.floor(math.log10(abs(value))) - 1
    return f"{value:,.{decimals}f}".replace(",", "\u202f")


def breakable(text: str) -> str:
    """A name of the code as HTML that may break after its dots, slashes and underscores."""
    return re.sub(r"([._/])(?=.)", r"\1<wbr>", escape(text))


def tag(kind: str) -> str:
    """A small label: measured, modelled, assumed, fitted, cited."""
    return f'<span class="tag {escape(kind)}">{escape(kind)}</span>'


def tile(name: str, value: str, unit: str = "", note: str = "", kind: str = "") -> str:
    """One big figure. `kind` colours it as measured or modelled."""
    label = f" {tag(kind)}" if kind else ""
    return (
        f'<div class="tile {kind}"><div class="name">{escape(name)}{label}</div>'
        f'<div class="value">{escape(value)}<small>{escape(unit)}</small></div>'
        f'<div class="note">{escape(note)}</div></div>'
    )


def tiles(items: Iterable[str]) -> str:
    return f'<div class="tiles">{"".join(items)}</div>'


def table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Any]],
    total: bool = False,
    best: Sequence[int] = (),
    groups: Sequence[tuple[str, int]] = (),
    sortable: bool = False,
) -> str:
    """`columns` are (heading, class): `text`, `long`, `measured`, `modelled` or empty.

    A str cell is HTML, a number is formatted by `number`. With `total` the last row is set as a sum;
    rows numbered in `best` are highlighted. `groups` are (heading, number of columns) above the columns.
    A `sortable` table sorts by the column whose heading is clicked.
    """
    head = "".join(f'<th class="{kind.replace("long", "text")}">{escape(name)}</th>' for name, kind in columns)
    above, first = "", 0
    for name, width in groups:
        kind = columns[first][1]
        above += f'<th colspan="{width}" class="{kind} group">{escape(name)}</th>'
        first += width
    if above:
        head = f"{above}</tr><tr>{head}"
    body, listed = [], list(rows)
    for i, row in enumerate(listed):
        mark = "total" if total and i == len(listed) - 1 else "best" if i in best else ""
        cells = "".join(
            f'<td class="{kind} {"text" if kind == "long" else ""}">'
            f"{cell if isinstance(cell, str) else number(cell)}</td>"
            for cell, (_, kind) in zip(row, columns, strict=True)
        )
        body.append(f'<tr class="{mark}">{cells}</tr>')
    mark = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{mark}><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def section(title: str, text: str, *parts: str | None) -> str:
    """A card with a heading, one sentence on how to read it, and its content."""
    content = "".join(p for p in parts if p) or '<p class="nothing">No data for this part.</p>'
    return f"<section><h2>{escape(title)}</h2><p>{text}</p>{content}</section>"


def verdict_box(lines: Iterable[str]) -> str:
    """The summary in words at the top of a page; `lines` are plain text. Empty without lines."""
    told = (OPTION.sub(r"<code>\g<0></code>", escape(text)) for text in lines)
    items = "".join(f"<li>{text}</li>" for text in told)
    return f'<section class="verdict"><ul>{items}</ul></section>' if items else ""


def unit_of(name: str) -> str:
    """A unit for display: empty for a plain number."""
    return "" if name == "1" else name


def script(name: str) -> str:
    """A script of this folder, inline."""
    return f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>"


def page(title: str, subtitle: str, body: str, footer: str) -> str:
    """The whole document, one file, without external resources. `subtitle` is HTML."""
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<header><div class="wide"><h1>{escape(title)}</h1><p>{subtitle}</p></div></header>'
        f'<main class="wide">{body}</main>'
        f'<footer class="wide">{escape(footer)}</footer>{script("page.js")}</body></html>\n'
    )
