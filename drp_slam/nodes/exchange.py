# SPDX-License-Identifier: Apache-2.0
"""Topics between nodes of one process: messages go by reference, through queues as deep as QoS says. No ROS here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Slot:
    """One subscription: the newest `depth` messages wait for its callback."""

    inbox: Inbox
    callback: Callable[[Any], None]
    waiting: deque[Any] = field(default_factory=deque)


class Inbox:
    """What waits for one node, in order of arrival; `run` handles it in a thread of the node's own."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._turn = threading.Condition(threading.Lock())
        self._due: deque[Slot | Callable[[], None]] = deque()
        self._ended = False

    def put(self, callback: Callable[[], None]) -> None:
        """Has a callback called."""
        with self._turn:
            self._due.append(callback)
            self._turn.notify()

    def add(self, slot: Slot, message: Any) -> None:
        """A message for a subscription; where its queue is full, the oldest one is dropped."""
        with self._turn:
            full = len(slot.waiting) == slot.waiting.maxlen
            slot.waiting.append(message)
            if not full:
                self._due.append(slot)
                self._turn.notify()

    def clear(self) -> None:
        """Drops what waits."""
        with self._turn:
            for slot in self._due:
                if isinstance(slot, Slot):
                    slot.waiting.clear()
            self._due.clear()

    def end(self) -> None:
        """Lets `run` return once nothing waits."""
        with self._turn:
            self._ended = True
            self._turn.notify()

    def run(self) -> None:
        """Handles what comes, until `end`. Raises what a callback raises."""
        while True:
            with self._turn:
                while not self._due:
                    if self._ended:
                        return
                    self._turn.wait()
                due = self._due.popleft()
                call, message = (due.callback, (due.waiting.popleft(),)) if isinstance(due, Slot) else (due, ())
            with self._lock:
                call(*message)
            del call, message, due  # an image is not held while the next one is awaited


class Line:
    """One topic of this process."""

    def __init__(self) -> None:
        self.slots: tuple[Slot, ...] = ()
        self._lock = threading.Lock()

    def put(self, message: Any) -> bool:
        """Hands a message to every subscription; whether there is one."""
        slots = self.slots
        for slot in slots:
            slot.inbox.add(slot, message)
        return bool(slots)

    def join(self, inbox: Inbox, callback: Callable[[Any], None], depth: int) -> None:
        """One subscription more."""
        with self._lock:
            self.slots = (*self.slots, Slot(inbox, callback, deque(maxlen=depth)))

    def leave(self, inbox: Inbox) -> None:
        """The subscriptions of one node end."""
        with self._lock:
            self.slots = tuple(slot for slot in self.slots if slot.inbox is not inbox)


class Exchange:
    """The topics that nodes of this process publish, by full name."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def offered(self, topic: str) -> Line:
        """A topic that is published here: who subscribes to it later in this process is served here."""
        return self._lines.setdefault(topic, Line())

    def found(self, topic: str) -> Line | None:
        """The topic, or None where nobody of this process publishes it."""
        return self._lines.get(topic)

    def leave(self, inbox: Inbox) -> None:
        """A node takes nothing any more."""
        for line in self._lines.values():
            line.leave(inbox)
        inbox.clear()


class Worker:
    """The thread of one node."""

    def __init__(self, inbox: Inbox, name: str) -> None:
        self._inbox = inbox
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._inbox.run()
        except BaseException as error:
            self._failure = error

    def check(self) -> None:
        """Raises what ended the thread early."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Returns once everything that waits is handled."""
        self._inbox.end()
        self._thread.join()
