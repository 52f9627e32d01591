# SPDX-License-Identifier: Apache-2.0
"""The cost of a piece of work on a chip. Modelled, never measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Cost:
    """Modelled time and energy of one piece of work.

    `unit` is the name of the unit of silicon that does it (`chip.constants.Unit`). `parts` are
    seconds by cause and add up to `modelled_s`. `bytes` are moved to and from the shared memory, if
    the model knows them. Time and energy are NaN if nothing is modelled.
    """

    modelled_s: float
    energy_j: float
    unit: str
    parts: Mapping[str, float] = field(default_factory=dict)
    bytes: float = 0.0


FREE = Cost(0.0, 0.0, "")
"""No work: takes no time and no energy."""
UNKNOWN = Cost(NAN, NAN, "")
"""Not modelled: real hardware ran it, or the chip has no unit for it."""
