# SPDX-License-Identifier: Apache-2.0
"""Decodes the frames of a sequence ahead in a thread and, in real time, holds them until they are due."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Frame

AHEAD = 4
"""Number of frames decoded ahead."""


class Playback:
    """Provides frames through `take`; `on_ready` is called, in the thread, when another one is ready.

    `rate` 0 is as fast as frames are taken. `prepare` is applied in the thread. When `loop`, each
    pass has later stamps than the one before. `error` is what ended the sequence early, or None.
    In real time a frame that is not `wanted` when it is due is dropped before it is prepared, so that
    no work is spent on frames that are not used; `dropped` counts them.
    """

    def __init__(
        self,
        sequence: Sequence,
        rate: float,
        loop: bool,
        prepare: Callable[[Frame], object],
        on_ready: Callable[[], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._sequence, self._rate, self._loop = sequence, rate, loop
        self._prepare, self._on_ready, self._wanted = prepare, on_ready, wanted
        self.dropped = 0
        self._queue: queue.Queue[object] = queue.Queue(AHEAD)
        self._playing, self._stopping = threading.Event(), threading.Event()
        self.ended = False
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="playback", daemon=True)

    def start(self) -> None:
        """Starts decoding; frames are provided after `play`."""
        self._thread.start()

    @property
    def playing(self) -> bool:
        return self._playing.is_set()

    def play(self) -> None:
        """Starts or resumes playback."""
        self._playing.set()
        self._on_ready()

    def pause(self) -> None:
        """Holds the next frame; the time of the sequence stops."""
        self._playing.clear()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._playing.set()
        while self._thread.is_alive():
            self.take()
            self._thread.join(0.01)

    def take(self) -> object | None:
        """The next prepared frame; None if it is not ready yet."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    @property
    def exhausted(self) -> bool:
        """Whether the last frame was taken."""
        return self.ended and self._queue.empty()

    def _run(self) -> None:
        try:
            first_ns, offset_ns = int(self._sequence.stamps_ns[0]), 0
            due = _Clock(self._rate, self._playing)
            while not self._stopping.is_set():
                last_ns = first_ns
                for frame in self._sequence:
                    last_ns = frame.stamp_ns
                    shifted = replace(frame, stamp_ns=frame.stamp_ns + offset_ns)
                    # prepared in advance, so that it is sent on time, unless it may have to be dropped
                    prepared = self._prepare(shifted) if self._rate == 0.0 or self._wanted() else None
                    due.wait(shifted.stamp_ns, self._stopping)
                    if self._stopping.is_set():
                        return
                    if prepared is None and not self._wanted():
                        self.dropped += 1
                        continue
                    self._queue.put(prepared or self._prepare(shifted))
                    self._on_ready()
                if not self._loop:
                    return
                offset_ns += last_ns - first_ns + int(1e9 / self._sequence.fps)
        except Exception as error:  # any error: an unexpected one must not look like the end of the sequence
            self.error = error
        finally:
            self.ended = True
            self._on_ready()


class _Clock:
    """Maps stamps to this host's time; the time while paused does not count."""

    def __init__(self, rate: float, playing: threading.Event) -> None:
        self._rate, self._playing = rate, playing
        self._zero_s: float | None = None

    def wait(self, stamp_ns: int, stopping: threading.Event) -> None:
        """Returns when the frame is due."""
        if not self._playing.is_set():
            since = time.monotonic()
            self._playing.wait()
            if self._zero_s is not None:
                self._zero_s += time.monotonic() - since
        if self._rate == 0.0:
            return
        at_s = stamp_ns * 1e-9 / self._rate
        if self._zero_s is None:
            self._zero_s = time.monotonic() - at_s
        stopping.wait(max(0.0, self._zero_s + at_s - time.monotonic()))
