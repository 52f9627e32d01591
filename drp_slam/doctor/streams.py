# SPDX-License-Identifier: Apache-2.0
"""Faults of the stamps of a topic, and of two topics against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding, found

LEAST = 5
"""Minimum number of stamps of a stream."""
AHEAD_S = 1.0
"""A stamp this much later than its arrival is wrong: clocks synchronised by chrony or PTP differ by milliseconds."""
BEHIND_S = 10.0
"""tf2 keeps transforms for ten seconds."""
LEAP_S = 5.0
"""A stamp this far from its neighbours, which agree with each other, is an error."""
SLOW_HZ = 5.0
"""Tracking needs images that overlap: see the check's reason."""
GAP, MOST_MISSING, LEAST_MISSING = 1.6, 0.05, 3
"""An interval of this many usual ones is a gap; share of missing frames that is reported."""
LONG_GAP_S = 1.0
PAIR_S = 0.020
"""Colour and depth further apart than this are not paired (the pairing of pose_node and of the readers)."""
OFFSET_S = 0.0175
"""A median offset above this is reported: at 1 rad/s and f = 500 px the image moves 9 px in it. Free-running cameras
of 30 Hz are off by up to 16.7 ms, half an interval."""
MOST_UNPAIRED = 0.05


@dataclass(frozen=True)
class Stream:
    """One topic in the order of arrival: `stamps_ns` (N,) int64 and, where known, the host's clock `arrived_ns` (N,).

    `role` is `image`, `depth`, `right` or `camera_info`.
    """

    where: str
    role: str
    stamps_ns: np.ndarray
    arrived_ns: np.ndarray | None = None


def check_stream(stream: Stream) -> list[Finding]:
    """Findings on stamps that are zero, far ahead, behind, backwards, repeated, too slow or with gaps."""
    stamps, where = stream.stamps_ns, stream.where
    if len(stamps) < 2:
        return []
    if (share := float((stamps == 0).mean())) > 0.5:
        return [found("stamps_zero", where, f"{share:.0%} of {len(stamps)} stamps are 0")]
    if np.ptp(stamps) == 0:
        return [found("stamps_zero", where, f"all {len(stamps)} stamps are {stamps[0]} ns")]
    out = _against_arrival(stream)
    steps = np.diff(stamps)
    ahead = _leaps(stamps)
    if ahead.any():
        first = int(np.flatnonzero(ahead)[0])
        seen = f"{ahead.sum()} of {len(stamps)} stamps jump from their neighbours, number {first} to {stamps[first]} ns"
        out.append(found("stamps_ahead", where, seen))
        stamps = stamps[~ahead]
        steps = np.diff(stamps)
    back, same = int((steps < 0).sum()), int((steps == 0).sum())
    if back or same:
        most = f", by up to {-steps.min() * 1e-9:.3f} s" if back else ""
        out.append(
            found(
                "stamps_backwards", where, f"of {len(stamps)} stamps {back} go back{most}, {same} repeat the last one"
            )
        )
    forward = np.diff(np.unique(stamps)) * 1e-9
    if len(forward) < LEAST or stream.role == "camera_info":
        return out
    return out + _rate(forward, where)


def _against_arrival(stream: Stream) -> list[Finding]:
    """Findings on stamps against the host's clock at arrival."""
    if stream.arrived_ns is None:
        return []
    late_s = float(np.median(stream.arrived_ns - stream.stamps_ns)) * 1e-9
    if late_s < -AHEAD_S:
        level = Level.ERROR if late_s < -LEAP_S else Level.WARN
        return [found("stamps_ahead", stream.where, f"stamps are {-late_s:.3f} s later than the host's clock", level)]
    if late_s > BEHIND_S:
        return [found("stamps_behind", stream.where, f"stamps are {duration(late_s)} behind the host's clock")]
    return []


def duration(seconds: float) -> str:
    """A duration in seconds, hours or days."""
    if seconds < 7200:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def _leaps(stamps_ns: np.ndarray) -> np.ndarray:
    """(N,) bool: stamps far from both neighbours, which are near each other; or the last one if it is far ahead."""
    out = np.zeros(len(stamps_ns), bool)
    if len(stamps_ns) < LEAST:
        return out
    step_s = np.abs(np.diff(stamps_ns.astype(np.float64))) * 1e-9
    across_s = np.abs(stamps_ns[2:].astype(np.float64) - stamps_ns[:-2]) * 1e-9
    far_s = max(LEAP_S, 20 * float(np.median(step_s)))
    out[1:-1] = (step_s[:-1] > far_s) & (step_s[1:] > far_s) & (across_s < far_s)
    out[-1] = step_s[-1] > far_s and not out[-2]
    return out


def _rate(intervals_s: np.ndarray, where: str) -> list[Finding]:
    """Findings on a low rate and on gaps."""
    usual_s = float(np.median(intervals_s))
    out = []
    if usual_s > 1.0 / SLOW_HZ:
        out.append(found("low_rate", where, f"{1 / usual_s:.1f} Hz (limit {SLOW_HZ:g} Hz)"))
    gaps = intervals_s > GAP * usual_s
    missing = int(np.round(intervals_s[gaps] / usual_s - 1).sum())
    share = missing / (missing + len(intervals_s))
    longest_s = float(intervals_s.max())
    if (share > MOST_MISSING and missing >= LEAST_MISSING) or (longest_s > LONG_GAP_S and longest_s > GAP * usual_s):
        seen = f"about {missing} of {missing + len(intervals_s)} frames ({share:.0%}) are missing"
        out.append(found("frames_dropped", where, f"{seen}; the longest gap is {longest_s:.2f} s"))
    return out


def check_pairs(colour: Stream, other: Stream) -> list[Finding]:
    """Findings on colour images without simultaneous depth (or right image), and on a constant offset."""
    a, b = np.sort(colour.stamps_ns), np.sort(other.stamps_ns)
    if len(a) < LEAST or len(b) < LEAST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return []
    inside = a[(a >= b[0] - 1_000_000_000) & (a <= b[-1] + 1_000_000_000)]
    if not len(inside):
        apart_s = float(b[0] - a[0]) * 1e-9
        seen = f"stamps begin {apart_s:+.3f} s from those of {colour.where} and never overlap them"
        return [found("unsynchronised", other.where, seen, Level.ERROR)]
    after = np.clip(np.searchsorted(b, inside), 1, len(b) - 1)
    near = np.where(np.abs(b[after] - inside) < np.abs(b[after - 1] - inside), b[after], b[after - 1])
    offset_s = (near - inside) * 1e-9
    middle_s, unpaired = float(np.median(offset_s)), float((np.abs(offset_s) > PAIR_S).mean())
    if abs(middle_s) <= OFFSET_S and unpaired <= MOST_UNPAIRED:
        return []
    spread_s = float(np.percentile(np.abs(offset_s - middle_s), 90))
    seen = (
        f"stamps are {1e3 * middle_s:+.1f} ms from those of {colour.where} (90 % within {1e3 * spread_s:.1f} ms of "
        f"that); {unpaired:.0%} of the frames have none within {1e3 * PAIR_S:.0f} ms"
    )
    return [found("unsynchronised", other.where, seen, Level.ERROR if unpaired > 0.5 else Level.WARN)]
