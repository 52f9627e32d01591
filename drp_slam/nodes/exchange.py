# SPDX-License-Identifier: Apache-2.0
"""Topics inside a process: messages are passed by reference, in queues with the depth of QoS. No ROS is imported."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Slot:
    """One subscription: a queue of the newest `depth` messages for its callback."""

    inbox: Inbox
    callback: Callable[[Any], None]
    waiting: deque[Any] = field(default_factory=deque)


class Inbox:
    """The queued callbacks of one node, in order of arrival; `run` calls them in a thread of the node's own."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._turn = threading.Condition(threading.Lock())
        self._due: deque[Slot | Callable[[], None]] = deque()
        self._ended = False

    def put(self, callback: Callable[[], None]) -> None:
        """Queues a callback."""
        with self._turn:
            self._due.append(callback)
            self._turn.notify()

    def add(self, slot: Slot, message: Any) -> None:
        """Queues a message for a subscription; drops the oldest one if its queue is full."""
        with self._turn:
            full = len(slot.waiting) == slot.waiting.maxlen
            slot.waiting.append(message)
            if not full:
                self._due.append(slot)
                self._turn.notify()

    def clear(self) -> None:
        """Clears the queue."""
        with self._turn:
            for slot in self._due:
                if isinstance(slot, Slot):
                    slot.waiting.clear()
            self._due.clear()

    def end(self) -> None:
        """Makes `run` return once the queue is empty."""
        with self._turn:
            self._ended = True
            self._turn.notify()

    def run(self) -> None:
        """Calls the callbacks until `end`. Raises their exceptions."""
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
            del call, message, due  # release the image while waiting for the next one


class LocalTopic:
    """One topic of this process."""

    def __init__(self) -> None:
        self.slots: tuple[Slot, ...] = ()
        self._lock = threading.Lock()

    def put(self, message: Any) -> bool:
        """Passes a message to every subscription; returns whether there is one."""
        slots = self.slots
        for slot in slots:
            slot.inbox.add(slot, message)
        return bool(slots)

    def join(self, inbox: Inbox, callback: Callable[[Any], None], depth: int) -> None:
        """Adds a subscription."""
        with self._lock:
            self.slots = (*self.slots, Slot(inbox, callback, deque(maxlen=depth)))

    def leave(self, inbox: Inbox) -> None:
        """Removes the subscriptions of one node."""
        with self._lock:
            self.slots = tuple(slot for slot in self.slots if slot.inbox is not inbox)


class Exchange:
    """The topics that nodes of this process publish, by full name."""

    def __init__(self) -> None:
        self._topics: dict[str, LocalTopic] = {}

    def advertise(self, topic: str) -> LocalTopic:
        """Registers a topic that is published here; later subscriptions in this process are served here."""
        return self._topics.setdefault(topic, LocalTopic())

    def find(self, topic: str) -> LocalTopic | None:
        """The topic, or None if no node of this process publishes it."""
        return self._topics.get(topic)

    def leave(self, inbox: Inbox) -> None:
        """Removes all subscriptions of a node."""
        for topic in self._topics.values():
            topic.leave(inbox)
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
        """Raises the exception that ended the thread early."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Returns once the queue is empty."""
        self._inbox.end()
        self._thread.join()
