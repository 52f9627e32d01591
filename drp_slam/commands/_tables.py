# SPDX-License-Identifier: Apache-2.0
"""Tables on the terminal: with as many columns as fit its width, the most important first."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from drp_slam.profiler.terminal import print_lines

PIPE_WIDTH = 170
"""Width in characters where standard output is not a terminal: every table fits."""
GAP = 2
"""Spaces between columns."""


def console() -> Any:
    """Standard output for rich."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(width=PIPE_WIDTH, highlight=False)


def print_table(
    columns: str,
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    left: Sequence[str] = (),
    spare: str = "",
    styles: Sequence[str | None] | None = None,
    out: Any = None,
) -> None:
    """Prints `rows` below `columns`, whose names are separated by `|`.

    Columns named in `left` are aligned left. On a terminal that is too narrow, those in `spare` are omitted in
    that order, and a line says so. `styles` has one entry per row. `out` is a rich
    console (default: standard output).
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    out, names = out or console(), columns.split("|")
    widths = [max(map(cell_len, cells)) for cells in zip(names, *rows)]
    kept, hidden = list(range(len(names))), list[str]()
    for name in filter(None, spare.split("|")):
        if sum(widths[i] + GAP for i in kept) - GAP <= out.width:
            break
        hidden.append(name)
        kept = [i for i in kept if names[i] != name]
    if title:  # not the table's: that would be as narrow as a narrow table
        out.print(Text(title, style="italic"), soft_wrap=not out.is_terminal)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.pad_edge = table.show_edge = False
    for i in kept:
        table.add_column(names[i], justify="left" if names[i] in left else "right", no_wrap=names[i] not in left)
    for n, row in enumerate(rows):
        table.add_row(*(Text(row[i]) for i in kept), style=styles[n] if styles else None)
    out.print(table)
    if hidden:
        text = f"omitted at this width: {', '.join(hidden)}; --json has them"
        out.print(text, soft_wrap=not out.is_terminal)


def print_written(result: Mapping[str, Any]) -> None:
    """Prints the files that a command wrote, the one to open last."""
    named = [result[key] for key in ("json", "onnx", "int8", "plot", "picture", "written") if result.get(key)]
    for path in (*named, *result.get("files", ()), *result.get("cards", ())):
        print_lines([f"wrote {path}"])
