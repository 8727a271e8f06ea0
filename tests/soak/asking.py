"""Requests in bursts, so many that the consumer of the service that answers moves for them."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaitingError
from typing import Any

from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import MQError
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.soak.actors import Actor

ASKED = "soak.asked"

_BURST = 150
_PAUSE = 1.0
_TIMEOUT = 15.0
#: How much later than asked for a request may end, in seconds.
_GRACE = 5.0


class Asked(Actor):
    """Answers, and acknowledges then."""

    engines = ("threaded", "select")

    def callback(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer a request."""
        with self.moving():
            request = b64_to_dict(body)
            answer = {"n": request["n"], "message_id": request["message_id"]}
            channel.queue_declare(queue=request["routing_key"])
            channel.basic_publish("", request["routing_key"], dict_to_b64(answer))
            channel.basic_ack(method.delivery_tag)

    @property
    def has_moved(self) -> bool:
        """Whether answers leave by the channel of their requests."""
        session = self.service.consumers[self.name].consumer.session
        return session is None or session.sends_answers


class Asker(threading.Thread):
    """Ask until told to stop; a request may fail while things are broken, and never hangs.

    Its thread owns the counts.

    Args:
        client: who asks.

    Attributes:
        calm: to be set when everything works, so that each request has to be answered.
        counts: of requests by what became of them.
        complaints: what must not be.
    """

    def __init__(self, client: RequestClient) -> None:
        super().__init__(name="asker")
        self.calm = threading.Event()
        self.counts = {"asked": 0, "answered": 0, "failed": 0}
        self.complaints: list[str] = []
        self._client = client
        self._over = threading.Event()

    def stop(self) -> None:
        """End after the present burst."""
        self._over.set()

    def run(self) -> None:
        """Ask; called by `start`."""
        numbers = itertools.count()
        while not self._over.is_set():
            calm = self.calm.is_set()
            futures: list[tuple[int, Future[dict[str, Any]]]] = []
            for number in itertools.islice(numbers, _BURST):
                self.counts["asked"] += 1
                try:
                    request = self._client.submit(
                        RequestSpec(ASKED, {"n": number}, timeout=_TIMEOUT)
                    )
                    futures.append((number, request))
                except MQError as error:
                    self._failed(number, error, calm)
            for each, future in futures:
                self._take(each, future, calm)
            self._over.wait(_PAUSE)

    def _take(self, number: int, future: Future[dict[str, Any]], calm: bool) -> None:
        try:
            answer = future.result(_TIMEOUT + _GRACE)
        except StillWaitingError as error:
            if not future.done():
                self.complaints.append(f"request {number} hangs")
            else:  # that is what a request's own error is, too
                self._failed(number, error, calm)
        except MQError as error:
            self._failed(number, error, calm)
        else:
            self.counts["answered"] += 1
            if answer.get("n") != number:
                self.complaints.append(f"request {number} has got {answer}")

    def _failed(self, number: int, error: BaseException, calm: bool) -> None:
        self.counts["failed"] += 1
        if calm:
            self.complaints.append(f"request {number} failed with nothing broken: {error}")
