# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page: style, tiles, tables. Measured and modelled look different."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

MEASURED, MODELLED = "measured", "modelled"
"""Kinds of figures, and the CSS classes of their columns."""

STYLE = """
:root{--ink:#1c2430;--soft:#5d6878;--line:#e1e6ed;--paper:#fff;--ground:#f4f6f9;
--measured:#1f6feb;--measured-bg:#eaf2fe;--modelled:#b4540a;--modelled-bg:#fdf1e6;--good:#177245}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
header{background:#14202e;color:#fff;padding:28px 0 26px}
header h1{margin:0 0 4px;font-size:26px;font-weight:650;letter-spacing:-.01em}
header p{margin:0;color:#b9c6d6;font-size:14px}
header b{color:#fff;font-weight:600}
.wide{max-width:1180px;margin:0 auto;padding:0 24px}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin:22px 0}
@media(max-width:760px){.tiles{grid-template-columns:repeat(2,1fr)}}
.tile{background:var(--paper);border:1px solid var(--line);border-top:3px solid var(--soft);
border-radius:8px;padding:13px 16px 11px}
.tile.measured{border-top-color:var(--measured)}.tile.modelled{border-top-color:var(--modelled)}
.tile .name{font-size:12.5px;color:var(--soft)}
.tile .value{font-size:27px;font-weight:650;letter-spacing:-.02em;line-height:1.25;
white-space:nowrap}
.tile .value small{font-size:15px;font-weight:500;color:var(--soft);margin-left:3px}
.tile .note{font-size:12px;color:var(--soft)}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;
padding:18px 22px 20px;margin:0 0 18px}
h2{font-size:18px;margin:0 0 4px;font-weight:650}
section>p{margin:0 0 12px;color:var(--soft);font-size:14px;max-width:96ch}
h3{font-size:14.5px;margin:20px 0 6px}
img,svg{max-width:100%;height:auto;display:block;margin-bottom:10px}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:18px}
.two section{margin:0}
.two{margin-bottom:18px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
th,td{padding:6px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-size:12.5px;color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;
line-height:1.3}
th.group{text-align:center;border-bottom:0;padding-bottom:0}
td.text,th.text{text-align:left}
td.long{white-space:normal;min-width:170px;color:var(--soft);font-size:13px}
tr.total td{font-weight:650;border-top:2px solid var(--line)}
tr.best td{background:#edf7f1}
th.measured,td.measured{background:var(--measured-bg)}th.measured{color:var(--measured)}
th.modelled,td.modelled{background:var(--modelled-bg)}th.modelled{color:var(--modelled)}
.tag{font-size:11.5px;font-weight:600;border-radius:4px;padding:1px 7px;vertical-align:2px}
.tag.measured{color:var(--measured);background:var(--measured-bg)}
.tag.modelled{color:var(--modelled);background:var(--modelled-bg)}
.tag.assumed{color:#8a1c3b;background:#fdecf1}.tag.fitted{color:#5b3a9b;background:#f1ecfb}
.tag.cited{color:var(--good);background:#e8f5ee}
.nothing{color:var(--soft);font-style:italic;margin:6px 0 0}
footer{color:var(--soft);font-size:12.5px;padding:4px 0 36px}
details summary{cursor:pointer;color:var(--soft);font-size:14px;margin:10px 0 6px}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""


def number(value: float | int | None, digits: int = 3) -> str:
    """Three significant digits, thin-spaced thousands, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - len(str(int(abs(value))))) if abs(value) >= 1 else digits
    return f"{value:,.{decimals}f}".replace(",", "\u202f")


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
) -> str:
    """`columns` are (heading, class): `text`, `long`, `measured`, `modelled` or nothing.

    A str cell is HTML, a number is formatted by `number`. With `total` the last row is set as a sum;
    rows numbered in `best` are highlighted. `groups` are (heading, number of columns) above the columns.
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
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def section(title: str, text: str, *parts: str | None) -> str:
    """A card with a heading, one sentence that says how to read it, and its content."""
    content = "".join(p for p in parts if p) or '<p class="nothing">No data for this part.</p>'
    return f"<section><h2>{escape(title)}</h2><p>{text}</p>{content}</section>"


def page(title: str, subtitle: str, body: str, footer: str) -> str:
    """The whole document, one file, nothing loaded from elsewhere. `subtitle` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<header><div class="wide"><h1>{escape(title)}</h1><p>{subtitle}</p></div></header>'
        f'<main class="wide">{body}</main>'
        f'<footer class="wide">{escape(footer)}</footer></body></html>\n'
    )
