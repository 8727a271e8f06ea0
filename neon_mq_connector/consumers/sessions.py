"""Attach a consumer to its queue, and detach it: its sessions, one after another.

Most consumers share a connection that never publishes, so that an alarm of the broker cannot hold
up their acknowledgements. A consumer whose callbacks answer many requests moves to the answering
connection, where answers leave on the channel of their requests (`Session.answer`), or beside it
where requests are acknowledged before they are answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.spec import RESOURCE_LOCKED

from neon_mq_connector.consumers.callback_channel import CallbackChannel, CallbackConnection
from neon_mq_connector.consumers.flow import is_bound_to_its_place
from neon_mq_connector.consumers.session import Host, Session
from neon_mq_connector.control.control import single
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, StoppedError, TopologyError
from neon_mq_connector.link import ChannelEvents, LinkChannel, Waiter
from neon_mq_connector.link.translate import broker_refusal
from neon_mq_connector.topology import Queue, QueueStatus, Refusal, Step, drive_steps
from neon_mq_connector.topology import attach as attach_steps

#: How long opening a channel may take, in seconds: it includes waiting for a connection.
_OPEN_TIMEOUT = 120.0
#: How long each step of detaching waits for the broker at least, in seconds.
_LEAST_WAIT = 0.1
#: So many answers within so many seconds are worth a move.
_MANY = 100
_SOON = 1.0


class Sessions:
    """Make and end the sessions of a consumer.

    Owned by the consumer's thread, but for `stop`, and for `answered`, which counts about.

    Args:
        host: the consumer.
        call_hook: called with the name of a hook of `SelectConsumerThread` and its arguments.

    Attributes:
        latest: the session of the last attachment, which may be over.
        former: the session before a move, until all its messages are settled.
    """

    def __init__(self, host: Host, call_hook: Callable[..., object]) -> None:
        self.latest: Session | None = None
        self.former: Session | None = None
        self._opened: Session | None = None  # as the hooks were told
        self._host = host
        self._connections = host.connections
        self._call_hook = call_hook
        self._waiter: Waiter[Any] = Waiter()  # a stop ends it
        queue = host.registration.queue
        # the queue is without its consumer for a moment
        gone_without = queue.exclusive or queue.auto_delete or "x-expires" in queue.arguments
        self._can_move = not (gone_without or is_bound_to_its_place(host.registration))
        self._has_moved = False
        self._answers = 0
        self._counted_since = 0.0

    @property
    def queue(self) -> str:
        """The name of the queue: the broker's choice once it has made one."""
        latest = self.latest
        return self._host.registration.queue.name if latest is None else latest.queue

    def stop(self) -> None:
        """Cancel the consumer, and end the wait for the broker; any thread may call this."""
        if self.latest is not None:
            self.latest.subscription.cancel()
        self._waiter.fail(self._stopped())

    # -- attaching -----------------------------------------------------------------------------

    def attach(self, *, reset: bool) -> Session:
        """Open a channel, declare what is consumed, and consume; return the session.

        Args:
            reset: whether the registration's resets are still to be done.

        Raises:
            MQError: some step failed; nothing is left open.
        """
        answering = self._has_moved and self._connections.may_answer
        session = self._open(reset=reset, answering=answering)
        self._opened = session
        self._call_hook("on_connected", session.connection)
        self._call_hook("on_channel_open", session.channel)
        return session

    def _open(self, *, reset: bool, answering: bool) -> Session:
        host, connections, queue = self._host, self._connections, self.queue
        made: list[Session] = []

        def ended(error: MQError) -> None:
            for session in made:
                host.session_ended(session, error)

        open_channel = partial(
            connections.open_consuming_channel,
            ChannelEvents(
                deliveries=lambda batch: host.arrived(made[0], batch),
                fetched=lambda tag: made[0].settlement.delivered(tag, tag),
                cancelled=lambda _tag: ended(
                    MQError(
                        f"queue {queue!r}: the broker ended the consumer (the queue was deleted, "
                        "or its leader is gone)"
                    )
                ),
                shut=ended,
            ),
            timeout=_OPEN_TIMEOUT,
            new_waiter=self._new_waiter,
            answering=answering,
        )
        channel = open_channel()
        try:
            status = self._declare(channel, reset=reset)
            if not channel.is_open:  # the queue was refused on it, and is used as it is
                channel = open_channel()
            session = Session(
                host,
                channel,
                status.name,
                sends_answers=answering,
                is_as_registered=not status.adopted,
            )
            session.connection = CallbackConnection(session)
            session.channel = CallbackChannel(session)
            # the latest before messages can come on it
            before, self.latest = self.latest, session
            if before is not None:
                session.lost = before.started or before.lost
            made.append(session)
            prefetch = host.flow.begin(status.messages, is_as_registered=session.is_as_registered)
            session.subscription.start(
                prefetch, connections.policy.operation_timeout, self._new_waiter()
            )
        except BaseException:
            if channel.is_open:  # the broker may have begun to deliver
                channel.close_soon()
            raise
        return session

    def _declare(self, channel: LinkChannel, *, reset: bool) -> QueueStatus:
        """Declare the queue, and the exchange that it is bound to.

        A durable queue is declared on the channel that is to consume. For one whose node is down
        RabbitMQ (4.0) answers after 67 s and reads nothing else from that channel meanwhile: on the
        control connection all other queues would wait. A transient one may be refused with the end
        of the connection, and is declared on the control connection. The channel is shut afterwards
        if a durable queue was refused on it and is used as it is.
        """
        registration, known_as = self._host.registration, self.queue
        queue = registration.queue
        control, timeout = self._connections.control, self._connections.policy.operation_timeout
        steps = attach_steps(
            queue,
            registration.exchange,
            registration.routing_keys,
            control.facts,
            queue_reset=reset and registration.queue_reset,
            exchange_reset=reset and registration.exchange_reset,
            # an exclusive queue is gone with the connection that had it
            known_as="" if queue.name or queue.exclusive else known_as,
        )

        def run(step: Step) -> QueueStatus:
            waiter, is_own = self._new_waiter(), step.method in ("queue_declare", "queue_bind")
            if is_own and not queue.transient and channel.is_open:
                return channel.perform(step, timeout=timeout, waiter=waiter)
            return control.perform_step(step, timeout=timeout, waiter=waiter)

        try:
            return drive_steps(steps, run)
        except Refusal as refusal:
            hint = (
                " (another connection holds it; if that was this service's own lost connection, "
                "the broker lets go of it soon)"
                if refusal.code == RESOURCE_LOCKED
                else ""
            )
            what = f"declaring queue {known_as!r}: the broker refused: {refusal}{hint}"
            raise TopologyError(what) from refusal

    def _new_waiter(self) -> Waiter[Any]:
        waiter: Waiter[Any] = Waiter()
        self._waiter = waiter
        if self._host.is_stopping:
            waiter.fail(self._stopped())
        return waiter

    def _stopped(self) -> StoppedError:
        return StoppedError(f"the consumer of queue {self.queue!r} is stopping")

    # -- moving --------------------------------------------------------------------------------

    def answered(self) -> bool:
        """Count an answer that leaves by the publishing connection; return whether to move."""
        if not self._can_move:
            return False
        now = time.monotonic()
        if now - self._counted_since > _SOON:
            self._counted_since, self._answers = now, 0
        self._answers += 1
        return self._answers == _MANY

    def may_move(self, session: Session) -> bool:
        """Whether a session may be left for the answering connection; that is opened if need be."""
        is_first = session is self.latest and not session.sends_answers and self.former is None
        # else the queue might vanish meanwhile, or a user take the move for a loss
        is_harmless = session.is_as_registered and not session.connection.has_close_callbacks
        is_consuming = session.is_open and session.consumer_tag
        if not (is_first and is_harmless and is_consuming):
            return False
        return self._connections.is_ready_for_answers()

    def leave(self, session: Session) -> None:
        """Cancel the consumer of a session; its unsettled messages are settled there.

        When this returns, all messages that the broker has sent are here: the order of the queue is
        kept.

        Raises:
            MQError: the session has ended, or the consumer is stopping.
        """
        timeout = self._connections.policy.operation_timeout
        try:
            session.subscription.finish(timeout, self._new_waiter())
        except StoppedError:
            raise  # callbacks that run may still settle
        except MQError as error:
            session.fail(error)
            raise
        self.former = session
        self._has_moved = True

    def end_former_if_settled(self) -> None:
        """Close the session before a move if all is settled there, or its channel is shut."""
        former = self.former
        if former is not None:
            former.settlement.flush()
            if former.end_reason is not None or not former.settlement.unsettled_count():
                self.end_former()

    def end_former(self) -> None:
        """Close the session before a move, if there is one."""
        former, self.former = self.former, None
        if former is not None:
            former.end()
            reason = f"the consumer of queue {former.queue!r} has changed its connection"
            former.connection.closed(former.end_reason or MQError(reason))

    # -- the end -------------------------------------------------------------------------------

    def lost(self, error: BaseException) -> None:
        """Close the channel of the latest session, unless it was left for a move, and note why."""
        if self.latest is not None and self.latest is not self.former:
            self.latest.end()
        if self.former is not None and self._opened is self.former:
            self._has_moved = False  # it has failed
        elif self._has_moved and broker_refusal(error) is not None:
            # a refused answer closes the channel, or the connection, and its request comes again;
            # on the publishing connection a refusal concerns the one message
            self._has_moved = self._can_move = False

    def note_end(self, error: BaseException) -> bool:
        """Tell users that the session is closed; return whether there was an open one."""
        session, self._opened = self._opened, None
        if session is None:
            return False
        session.connection.closed(error)
        self._call_hook("on_close", session.connection, error)
        return True

    def detach(self, deadline: float) -> None:
        """Close the channels, and delete the queue if it is the consumer's alone.

        Args:
            deadline: until when to wait for the broker, on the monotonic clock.

        Raises:
            MQError: the broker did not answer, or there is no connection; the queue, if it was to
                be deleted, expires by itself.
        """
        self.end_former()
        session, registration = self.latest, self._host.registration
        if session is None:
            return
        session.close(max(_LEAST_WAIT, time_left(deadline)))
        if registration.delete_on_stop and not registration.queue.exclusive:
            self._connections.control.perform(
                f"deleting queue {session.queue!r}",
                single(Queue(session.queue).delete()),
                timeout=max(_LEAST_WAIT, time_left(deadline)),
            )
