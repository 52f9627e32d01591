# SPDX-License-Identifier: Apache-2.0
"""Saves the map of a running node, so that the node continues in it after being killed and restarted."""

from __future__ import annotations

import time
from pathlib import Path

from drp_slam.datatypes import DescriptorSpec
from drp_slam.errors import SlamError
from drp_slam.reporting import folder as files
from drp_slam.slam.map import Map
from drp_slam.slam.mapfile import open_map, save

EVERY_KEYFRAMES, PERIOD_S = 5, 5.0
"""The map is saved after this many new keyframes, but not more often than this."""


class SavedMap:
    """`out` is the folder of results, or empty: then nothing is saved."""

    def __init__(self, out: str) -> None:
        self._path = Path(out) / files.SAVED_MAP if out else None
        self._keyframes, self._saved_s = 0, 0.0

    def start(self, asked: str, spec: DescriptorSpec) -> tuple[Map, str]:
        """The map to begin with, and a problem with the saved one in words.

        It is the map saved by a killed node of this run, else that of the file `asked`, else a new one.
        Raises SlamError for a file `asked` that cannot be read.
        """
        if self._path is not None and self._path.is_file():
            try:
                slam_map = open_map(str(self._path), spec)
            except SlamError as error:
                return open_map(asked, spec), f"the map that was saved is lost: {error}"
            self._keyframes = len(slam_map)
            return slam_map, ""
        return open_map(asked, spec), ""

    def keep(self, slam_map: Map) -> str:
        """Saves the map if it has grown; returns a write error in words."""
        now_s = time.monotonic()
        grown = abs(len(slam_map) - self._keyframes) >= EVERY_KEYFRAMES or (self._keyframes == 0 and len(slam_map) > 0)
        if self._path is None or not grown or now_s - self._saved_s < PERIOD_S:
            return ""
        self._keyframes, self._saved_s = len(slam_map), now_s
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save(slam_map, self._path)
        except (SlamError, OSError) as error:
            return f"the map cannot be saved: {error}"
        return ""

    def remove(self) -> None:
        """Removes the file after a regular end: the results include the map."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
