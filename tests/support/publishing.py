"""Publish, have a future tell of the confirm, and send from many threads at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

from neon_mq_connector.errors import PublishError
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.publishing.publisher import Publisher
from tests.support.accounting import Ledger
from tests.support.polling import eventually

_SENDERS = 8


class FutureAnswer:
    """Answer a future."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()

    def resolve(self, value: None) -> None:
        self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        self.future.set_exception(error)


def submit(publisher: Publisher, message: Message, *, timeout: float) -> Future[None]:
    """Publish with others; raises what `Publisher.post` raises."""
    answer = FutureAnswer()
    publisher.post(message, answer, time.monotonic() + timeout, Flush.SOON)
    return answer.future


class Senders:
    """Threads that send one message after another to a queue until told to stop."""

    def __init__(self, service: Any, ledger: Ledger, queue: str) -> None:
        self.errors: list[BaseException] = []
        self._queue = queue
        self._service = service
        self._ledger = ledger
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,), name=f"sender-{number}")
            for number in range(_SENDERS)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120.0)
        assert not any(thread.is_alive() for thread in self._threads), "a send does not return"

    def _send(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            message_id = f"t{number}-{count}"
            self._ledger.sending(message_id)
            try:
                self._service.send_message(
                    {"message_id": message_id, "padding": "x" * 500},
                    queue=self._queue,
                    expiration=None,
                )
            except Exception as error:
                self.errors.append(error)
                doubt = getattr(error, "may_have_arrived", None)
                if isinstance(doubt, bool):
                    self._ledger.failed(message_id, may_have_arrived=doubt)
            else:
                self._ledger.confirmed(message_id)

    def wait_for(self, enough: int) -> None:
        """Wait until so many more are confirmed."""
        before = len(self._ledger.confirmed_ids)
        eventually(
            lambda: len(self._ledger.confirmed_ids) >= before + enough,
            what=f"{enough} more messages are confirmed",
        )


def sends(service: Any, message_id: str, queue: str) -> bool:
    """Send a message, and say whether it was confirmed."""
    try:
        service.send_message({"message_id": message_id}, queue=queue, expiration=None)
    except PublishError:
        return False
    return True
