# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PERIOD_S = 3600.0
"""Time over which the speed is averaged: items that take minutes have a time left, too."""


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yields the items and shows progress where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=PERIOD_S
    ) as bar:
        yield from bar.track(items, total=total, description=label)
