# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a long study: an interrupted study resumes with the missing parts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam.atomic import make_folder, write_text
from drp_slam.errors import PruningError


@dataclass(frozen=True)
class Checkpoints:
    """Parts below `folder`; a part made with another `settings` text is repeated."""

    folder: Path
    settings: str

    def __call__(self, part: str, make: Callable[[], Any]) -> tuple[Any, float]:
        """The result of `make()`, from the file or computed now, and its CPU time in seconds.

        Raises PruningError if it cannot be written.
        """
        path = self.folder / f"{part}.json"
        try:
            found = json.loads(path.read_text())
            if found["settings"] == self.settings:
                return found["result"], found["cpu_s"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing or truncated: it is made again
        start = time.process_time()
        result = make()
        content = {"settings": self.settings, "cpu_s": time.process_time() - start, "result": result}
        write(path, content)
        return result, content["cpu_s"]


def write(path: Path, content: Any) -> None:
    """JSON under a temporary name, then renamed. Raises PruningError."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    make_folder(path.parent)
    write_text(path, text, PruningError)
