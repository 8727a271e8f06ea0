"""The sessions of one consumer: the latest, and for a while the one before a move."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.callback_channel import add_stand_ins
from neon_mq_connector.consumers.consumed_queue import declare
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.errors import MQError, StoppedError
from neon_mq_connector.link import ChannelEvents, Waiter

#: How long opening a channel may take, in seconds: it includes waiting for a connection.
_OPEN_TIMEOUT = 120.0


class Sessions:
    """Make and end the sessions of a consumer.

    Owned by the consumer's thread, but for `stop`.

    Args:
        host: the consumer.
        connections: how to reach the broker.
        call_hook: called with the name of a hook of `SelectConsumerThread` and its arguments.

    Attributes:
        latest: the session of the last attachment, which may be over.
        former: the session before a move, until all its messages are settled.
    """

    def __init__(
        self, host: SessionHost, connections: Connections, call_hook: Callable[..., object]
    ) -> None:
        self.latest: Session | None = None
        self.former: Session | None = None
        self._opened: Session | None = None  # as the hooks were told
        self._host = host
        self._connections = connections
        self._call_hook = call_hook
        self._waiter: Waiter[Any] = Waiter()  # a stop ends it

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

    def attach(self, *, reset: bool, answering: bool) -> Session:
        """Open a channel, declare what is consumed, and consume.

        Args:
            reset: whether the registration's resets are still to be done.
            answering: whether answers are to leave on the channel of their requests.

        Returns:
            The session, consuming.

        Raises:
            MQError: some step failed; nothing is left open.
        """
        session = self._open(reset=reset, answering=answering and self._connections.may_answer)
        self._opened = session
        self._call_hook("on_connected", session.connection)
        self._call_hook("on_channel_open", session.channel)
        return session

    def _open(self, *, reset: bool, answering: bool) -> Session:
        host, connections, queue = self._host, self._connections, self.queue
        made: list[Session] = []

        def ended(error: MQError) -> None:
            for session in made:
                session.ended(error)

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
            status = declare(
                host.registration, connections, channel, queue, reset, self._new_waiter
            )
            if not channel.is_open:  # the queue was refused on it, and is used as it is
                channel = open_channel()
            session = Session(
                host,
                connections,
                channel,
                status.name,
                takes_answers=answering,
                is_ours=not status.adopted,
            )
            # the latest before messages can come on it
            before, self.latest = self.latest, add_stand_ins(session)
            if before is not None:
                session.lost = before.started or before.lost
            made.append(session)
            prefetch = host.flow.begin(status.messages, is_ours=session.is_ours)
            session.subscription.start(
                prefetch, connections.policy.operation_timeout, self._new_waiter
            )
        except BaseException:
            if channel.is_open:  # the broker may have begun to deliver
                channel.close_soon()
            raise
        return session

    def _new_waiter(self) -> Waiter[Any]:
        waiter: Waiter[Any] = Waiter()
        self._waiter = waiter
        if self._host.is_stopping:
            waiter.fail(self._stopped())
        return waiter

    def _stopped(self) -> StoppedError:
        return StoppedError(f"the consumer of queue {self.queue!r} is stopping")

    # -- moving --------------------------------------------------------------------------------

    def may_move(self, session: Session) -> bool:
        """Whether a session may be left for the answering connection; that is opened if need be."""
        is_first = session is self.latest and not session.takes_answers and self.former is None
        # else the queue might vanish meanwhile, or a user take the move for a loss
        is_harmless = session.is_ours and not session.connection.has_close_callbacks
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
        waiter = session.finishing = self._new_waiter()
        try:
            session.subscription.finish(self._connections.policy.operation_timeout, waiter)
        except StoppedError:
            raise  # callbacks that run may still settle
        except MQError as error:
            session.fail(error)
            raise
        self.former = session

    @property
    def move_failed(self) -> bool:
        """Whether the latest session was left for a move and no other was opened since."""
        return self.former is not None and self._opened is self.former

    def look_at_former(self) -> None:
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

    def end_latest(self) -> None:
        """Close the latest session; one that was left for a move goes on."""
        if self.latest is not None and self.latest is not self.former:
            self.latest.end()

    def note_end(self, error: BaseException) -> bool:
        """Tell users that the session is closed; return whether there was an open one."""
        session, self._opened = self._opened, None
        if session is None:
            return False
        session.connection.closed(error)
        self._call_hook("on_close", session.connection, error)
        return True
