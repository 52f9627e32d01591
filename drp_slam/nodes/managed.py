# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node: its topics, services and timers exist and work only in the states that ROS 2 has for it.

unconfigured -- configure --> inactive -- activate --> active, and back by deactivate and cleanup. An inactive node
publishes nothing, has no subscriptions and hence holds no queue.
"""

from __future__ import annotations

import functools
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.timer import Timer

from drp_slam.errors import DrpSlamError
from drp_slam.nodes import qos
from drp_slam.nodes.exchange import Exchange, Inbox
from drp_slam.nodes.managed_topics import ManagedPublisher, ManagedSubscription

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


class ManagedNode(LifecycleNode):
    """Callbacks run one at a time, whichever thread calls them.

    Subclasses create everything in `configure`, drop waiting frames in `forget`, and write results in `finish`. With an
    `exchange`, topics of nodes of the same process do not go through DDS.
    """

    def __init__(self, name: str, exchange: Exchange | None = None, **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self.lock = threading.RLock()
        self.active = self.configured = self.attempting = False
        self.heard: Counter[str] = Counter()
        self.refused: Exception | None = None
        self.inbox = Inbox(self.lock) if exchange is not None else None
        self._exchange = exchange
        self.managed_subscriptions: list[ManagedSubscription] = []
        self._later: list[ManagedSubscription] = []
        self._before: tuple[set[Any], ...] = ()

    def configure(self) -> None:
        """Creates the node's resources. Raises DrpSlamError: it stays unconfigured."""

    def forget(self) -> None:
        """Drops waiting frames: the node is no longer active."""

    def finish(self) -> None:
        """Writes results, after the last message."""

    def start(self) -> None:
        """Configures and activates. Raises the error that prevented it."""
        self.attempt(self.trigger_configure)
        self.attempt(self.trigger_activate)

    def attempt(self, transition: Callable[[], Any]) -> None:
        """Runs one transition. Raises its error, which a caller of the service finds in the log."""
        with self.lock:
            self.attempting = True
            try:
                transition()
            finally:
                self.attempting = False
            if self.refused is not None:
                raise self.refused

    def close(self) -> None:
        """Writes results, at the end of the process or before."""
        with self.lock:
            self.active = False
            if self.configured:
                self.configured = False
                self.finish()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._cleanup)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """An unexpected error: returns to unconfigured; `_transition` has logged it and kept it for `attempt`."""
        self._cleanup()
        return TransitionCallbackReturn.SUCCESS

    def _transition(self, act: Callable[[], None]) -> TransitionCallbackReturn:
        """rclpy discards errors of a transition; they are logged here, and kept for `attempt`."""
        self.refused = None
        with self.lock:
            try:
                act()
            except DrpSlamError as error:
                self.refused = error
                if not self.attempting:  # a caller of the service only learns that it failed
                    self.get_logger().error(" ".join(str(error).split()))
                return TransitionCallbackReturn.FAILURE
            except Exception as error:
                self.refused = error
                self.get_logger().error(traceback.format_exc())
                return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._before = self._entities()
        try:
            self.configure()
        except BaseException:
            self._release()
            raise
        for timer in self._own_timers():
            timer.cancel()
        self.configured = True

    def _activate(self) -> None:
        self.active = True
        for subscription in self.managed_subscriptions:
            if subscription not in self._later:
                self._open(subscription)
        for timer in self._own_timers():
            timer.reset()

    def _deactivate(self) -> None:
        self.active = False
        for timer in self._own_timers():
            timer.cancel()
        for subscription in self.made()[-1]:
            self.destroy_subscription(subscription)
        if self._exchange is not None and self.inbox is not None:
            self._exchange.leave(self.inbox)
        self.forget()

    def _cleanup(self) -> None:
        if self.active:
            self._deactivate()
        try:
            self.close()
        finally:
            self._release()

    def _entities(self) -> tuple[set[Any], ...]:
        """The entities of each kind; subscriptions, which depend on activation, come last."""
        return tuple(
            set(found) for found in (self.publishers, self.services, self.timers, self.guards, self.subscriptions)
        )

    def made(self) -> tuple[set[Any], ...]:
        """The entities that `configure` has created: publishers, services, timers, guard conditions, subscriptions."""
        return tuple(now - before for now, before in zip(self._entities(), self._before))

    def _own_timers(self) -> set[Timer]:
        return self.made()[2]

    def _release(self) -> None:
        """Destroys the entities that `configure` has created."""
        kinds = ("publisher", "service", "timer", "guard_condition")
        for entities, destroy in zip(self.made(), (getattr(self, f"destroy_{kind}") for kind in kinds)):
            for entity in entities:
                destroy(entity)
        self.managed_subscriptions.clear()
        self._later.clear()

    def advertise(self, kind: type[Any], topic: str, profile: QoSProfile, local: bool = True) -> ManagedPublisher:
        """Creates a publisher. Not `local`: other processes publish on the topic too, so all messages go through DDS.

        Without event handlers: each adds to every cycle of the executor, 30 in a node 1 ms.
        """
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        publisher = self.create_publisher(kind, topic, profile, event_callbacks=quiet)
        in_process = self._exchange.advertise(publisher.topic_name) if local and self._exchange is not None else None
        return ManagedPublisher(self, publisher, in_process)

    def subscribe(
        self, kind: type[Any], topic: str, handle: Callable[[Any], None], profile: QoSProfile, foreign: bool = False
    ) -> ManagedSubscription:
        """Creates a subscription while the node is active; its QoS parameters may override the profile.

        Deliberate errors of `handle` are reported. `foreign`: nodes of other packages may publish it, so incompatible
        QoS is warned about.
        """
        prefix = f"qos_overrides.{topic}.subscription"
        given: dict[str, Any] = {name: p.value for name, p in self.get_parameters_by_prefix(prefix).items()}  # type: ignore[union-attr]
        profile = qos.overridden(profile, given)
        guarded = self.guarded(handle)
        self.heard[topic] = 0

        def counted(message: Any) -> None:
            self.heard[topic] += 1
            guarded(message)

        callback = self.locked(self.watched(kind, topic, profile, counted))
        self.managed_subscriptions.append(ManagedSubscription(kind, topic, callback, profile, foreign))
        return self.managed_subscriptions[-1]

    def subscribe_later(self, *arguments: Any) -> Callable[[], None]:
        """As `subscribe`, from the first call of the returned function on; an active node calls it, in its executor."""
        subscription = self.subscribe(*arguments)
        self._later.append(subscription)

        def begin() -> None:
            if subscription in self._later:
                self._later.remove(subscription)
                self._open(subscription)

        return begin

    def watched(
        self, kind: type[Any], topic: str, profile: QoSProfile, handle: Callable[[Any], None]
    ) -> Callable[[Any], None]:
        """The callback of a topic; subclasses may inspect messages before `handle`."""
        return handle

    def _open(self, subscription: ManagedSubscription) -> None:
        """From nodes of this process by reference, from others through DDS."""
        if self._exchange is not None and self.inbox is not None:
            in_process = self._exchange.find(self.resolve_topic_name(subscription.topic))
            if in_process is not None:
                in_process.join(self.inbox, subscription.callback, subscription.profile.depth)
                return
        events = SubscriptionEventCallbacks(use_default_callbacks=subscription.foreign)
        self.create_subscription(
            subscription.kind,
            subscription.topic,
            subscription.callback,
            subscription.profile,
            qos_overriding_options=qos.overridable(),
            event_callbacks=events,
        )

    def waker(self, callback: Callable[[], None]) -> Callable[[], None]:
        """A function that any thread may call; it has `callback` called by the node's executor."""
        if self.inbox is not None:
            return functools.partial(self.inbox.put, callback)
        return self.create_guard_condition(self.locked(callback)).trigger

    def every(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Calls back at this period of the host's steady clock while the node is active."""
        return self.create_timer(period_s, self.locked(callback), clock=Clock(clock_type=ClockType.STEADY_TIME))

    def serve(self, kind: type[Any], name: str, callback: Callable[[Any, Any], Any]) -> Service:
        """A service, from configure to cleanup."""
        return self.create_service(kind, name, self.locked(callback))

    def locked(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """The callback, run while no other callback of this node runs."""

        @functools.wraps(callback)
        def alone(*args: Any) -> Any:
            with self.lock:
                return callback(*args)

        return alone

    def guarded(self, handle: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback of an active node that reports errors of a message instead of ending the node.

        Unexpected errors are logged with their traceback: they are faults of this program, but the
        next message may be valid.
        """

        @functools.wraps(handle)
        def callback(message: Any) -> None:
            try:
                if self.active:
                    handle(message)
            except DrpSlamError as error:
                self.problem(error)
            except Exception as error:
                self.fault(error)

        return callback

    def fault(self, error: Exception) -> None:
        """Reports an unexpected error."""
        self.get_logger().error("".join(traceback.format_exception(error)), throttle_duration_sec=1.0)
        self.problem(f"{type(error).__name__}: {error}; this is a fault of {self.get_name()}, see its log")

    def problem(self, error: object) -> None:
        """Reports a problem."""
        self.get_logger().warning(str(error))
