# SPDX-License-Identifier: Apache-2.0
"""Progress bar and table of the running graph, on standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding
from drp_slam.frontend.front_end import Stage, network_of
from drp_slam.nodes.announce import Announcer
from drp_slam.nodes.table import UNITS_OF
from drp_slam.pipeline import TRACK, stages

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence as Recording

log = logging.getLogger(__name__)

LEVEL_STYLES = {Level.NOTE: "", Level.WARN: "yellow", Level.ERROR: "red"}
SILENT = "no_message"
"""The check that finds a topic silent."""
PERIOD_S = 0.5
"""Refresh period: long, since the nodes need the cores."""


def runner(stage: Stage) -> str:
    """The node that runs a stage."""
    if stage == TRACK:
        return "pose_node"
    return next(node for node, units in UNITS_OF.items() if stage.unit in units)


def short(message: str) -> str:
    """A node's health for a narrow column: what it waits for, without the reasons, which are shown below the table."""
    return message.partition(": ")[0] if message.startswith("waiting for /") else message


class View:
    """A context manager; `update` shows the health reported by the nodes."""

    def __init__(self, config: Config, sequence: Recording | None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        loop = config.player.loop or sequence is None
        self._title = (
            f"{network_of(config) or config.graph.features} on {config.drpai3.backend}:{Path(config.graph.device).stem}"
        )
        self._stages = stages(config.graph.features, config.graph.pair)
        text, rate = TextColumn("{task.description}"), TextColumn("{task.fields[fps]} Hz", markup=False)
        self._bar = Progress(text, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._total = None if loop else len(sequence or ())
        self._task = self._bar.add_task("starting", total=self._total, fps="–")
        self._live = Live(self._bar, console=Console(stderr=True, markup=False, emoji=False), auto_refresh=False)
        self._drawn_s = 0.0
        self._health: Mapping[str, Mapping[str, str]] = {}
        self._findings: Sequence[Finding] = ()
        self._announcer = Announcer(log)

    def __enter__(self) -> View:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._draw()
        self._live.__exit__(*error)
        if not self._live.console.is_terminal:
            self._live.console.line()

    def update(self, health: Mapping[str, Mapping[str, str]], findings: Sequence[Finding] = ()) -> None:
        """Shows the last health of each node, and findings, the worst first, at most twice a second.

        Without a terminal, findings are logged when they change.
        """
        self._health = health
        # once all frames are played, a silent player is no fault
        self._findings = [f for f in findings if not (self._ended and f.check.name == SILENT)]
        if not self._live.console.is_terminal:
            self._announcer.changes(self._findings)
        if time.monotonic() - self._drawn_s >= PERIOD_S:
            self._drawn_s = time.monotonic()
            self._draw()

    @property
    def done(self) -> int:
        """Frames played, including dropped ones; live: frames tracked."""
        frames = (self._health.get(node, {}).get("frames", 0) for node in ("player_node", "profiler_node"))
        return max(int(f) if str(f).isdecimal() else 0 for f in frames)

    @property
    def _ended(self) -> bool:
        """Whether every frame of the recording was played."""
        return self._total is not None and self.done >= self._total

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        profiler = self._health.get("profiler_node", {})
        playing = self._health.get("player_node", {}).get("playing", "1") == "1" and "fps" in profiler
        waiting = [f for f in self._findings if f.level] and not self.done
        running = "finishing" if self._ended else "tracking" if playing else "starting"
        text = "waiting for the camera" if waiting else running
        self._bar.update(self._task, completed=self.done, fps=profiler.get("fps", "–"), description=text)
        table = self._table(self._health, profiler)
        lines = [Text(f.line, LEVEL_STYLES[f.level]) for f in self._findings]
        self._live.update(Group(self._bar, table, *lines), refresh=self._live.console.is_terminal)

    def _table(self, health: Mapping[str, Mapping[str, str]], profiler: Mapping[str, str]) -> Any:
        from rich.table import Table

        table = Table(title=self._title, title_justify="left")
        for name in ("stage", "unit", "node"):
            table.add_column(name)
        table.add_column("measured p50 ms", justify="right")
        table.add_column("health")
        for stage in self._stages:
            node = runner(stage)
            table.add_row(
                stage.name,
                stage.unit,
                node,
                profiler.get(f"{stage.name}.wall_ms", "–"),
                short(health.get(node, {}).get("message", "starting")),
            )
        table.add_row("frame", "", "", profiler.get("latency.wall_ms", "–"), f"{profiler.get('lost', '0')} lost")
        return table
