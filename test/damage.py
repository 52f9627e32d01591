# SPDX-License-Identifier: Apache-2.0
"""Ways in which files break, or are made to break something, and what a reader must do with them."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from typing import Any

from drp_slam.errors import DrpSlamError

CASES = int(os.environ.get("DAMAGED_CASES", "30"))
"""Damaged inputs for each reader; docs/reliability.md says what more of them gave."""
LONGEST_S, MOST_KB = 5.0, 1_000_000
ODD = b"nan,-1,1e999,1e999990,inf,-0.0,$\\frac{$,[/bold],<script>,null,{},[],true,0x10,../../x,|".split(b",")
ODD += [b"", b",", b"\n", b'"', b"\x00", b"\xff\xfe"]
ODD += [b"9" * 30, b"9" * 5000, b"[" * 3000, b"A" * 200_000]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy that is cut off, cut out, overwritten or added to, by bytes, fields or lines."""
    at, odd = rng.randrange(len(data) + 1), rng.choice(ODD)
    between = rng.choice([b",", b" ", b": "])
    fields, lines = data.split(between), data.split(b"\n")
    fields[rng.randrange(len(fields))] = odd
    line = rng.randrange(len(lines))
    flipped = bytearray(data)
    for _ in range(rng.randrange(1, 9)):
        if flipped:
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return rng.choice(
        [
            data[:at],
            data[:at] + odd + data[at + len(odd) :],
            data[:at] + odd + data[at:],
            data[:at] + data[at + rng.randrange(1, 400) :],
            between.join(fields),
            b"\n".join(lines[:line] + [lines[line]] * 3 + lines[line + 1 :]),
            b"\n".join(lines[:line] + lines[line + 1 :]),
            bytes(flipped),
        ]
    )


def survives(read: Callable[[], Any]) -> bool:
    """Whether the reader refused, in one line; it has to do so, or answer, in bounded time and memory."""
    before_kb, start_s, refused = peak_kb(), time.process_time(), False
    try:
        read()
    except DrpSlamError as error:
        refused = True
        assert len(str(error)) <= 1500 and "\n" not in str(error).strip(), str(error)[:3000]
    assert time.process_time() - start_s < LONGEST_S
    assert peak_kb() - before_kb < MOST_KB
    return refused


def peak_kb() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
