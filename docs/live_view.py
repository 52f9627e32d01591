# SPDX-License-Identifier: Apache-2.0
"""Renders `docs/live.svg`: what `up` shows in a terminal of 80 columns while the graph runs.

python docs/live_view.py [SEQUENCE] [OUT.svg]
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 30
REDRAWN = re.compile(r"(?:\r?\x1b\[2K|\x1b\[1A)+")
"""The cursor goes back over the lines of the view before."""
FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""Rich's fonts come from the network; a viewer's own monospace font will do."""


def shown(command: list[str]) -> str:
    """What a command writes to its terminal until it ends."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower, close_fds=True)
    os.close(follower)
    out = b""
    while True:
        try:
            got = os.read(leader, 65536)
        except OSError:  # the terminal closes with its last writer
            break
        if not got:
            break
        out += got
    process.wait()
    return out.decode(errors="replace")


def main(name: str = "synthetic:frames=150", out: str = "docs/live.svg") -> None:
    """Plays the sequence through the graph in real time, and draws the last view before its end."""
    with tempfile.TemporaryDirectory() as folder:
        up = ["up", "--sequence", name, "--out", folder]
        text = shown([sys.executable, "-m", "drp_slam", *up])
    views = [view for view in REDRAWN.split(text) if view.lstrip("\r\n").startswith("tracking")]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(views[-1].replace("\r", "").strip("\n")))
    svg = FONT.sub("", console.export_svg(title=f"python -m drp_slam up --sequence {name.partition(':')[0]}"))
    Path(out).write_text(svg)


if __name__ == "__main__":
    main(*sys.argv[1:])
