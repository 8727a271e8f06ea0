"""The settings that have a good default: times, sizes and formats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator
from pydantic_core.core_schema import ValidationInfo

from neon_mq_connector.config.section import Number, Section, Whole, seconds, setting, whole


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


class Tuning(Section):
    """Times, sizes and formats; the part of the settings that most services leave alone."""

    connect_timeout: Number = seconds(
        10.0,
        group="Connections",
        description="How long one attempt at one server may take, TCP, TLS and AMQP together.",
    )
    heartbeat: Whole = whole(
        60,
        low=0,
        high=65535,
        unit="s",
        description="How often each side shows that it lives; a connection that has been silent "
        "for twice as long is given up. 0 turns that off, and a dead network is then not noticed.",
    )
    blocked_connection_timeout: Number | None = seconds(
        None,
        description="How long a broker under a memory or disk alarm may keep a connection "
        "blocked before it is given up. Without one, until the alarm ends.",
    )
    operation_timeout: Number = seconds(
        15.0,
        description="How long the broker may take to answer a declare, a bind, a subscription.",
    )
    reconnect_delay_min: Number = seconds(
        0.1,
        description="The shortest pause between two attempts to connect.",
    )
    reconnect_delay_max: Number = seconds(
        30.0,
        description="The longest pause between two attempts to connect; pauses grow with the age "
        "of the outage.",
        validate_default=True,
    )
    stop_timeout: Number = seconds(
        10.0,
        zero=True,
        description="How long `stop()` may take in all: for callbacks to finish, for acks to be "
        "sent, for connections to close.",
    )

    prefetch_count: Whole = whole(
        50,
        low=1,
        high=65535,
        unit="messages",
        group="Consuming",
        description="How many messages a consumer may hold that are not yet acked.",
    )
    inbox_max_bytes: Whole = whole(
        32 * 1024 * 1024,
        low=1,
        high=2**40,
        unit="bytes",
        description="How many bytes of messages the broker may send ahead to a consumer: where "
        "messages are large, it sends fewer than `prefetch_count`. A single message is taken "
        "however big it is.",
    )
    slow_callback_after: Number = seconds(
        60.0,
        description="From when a running callback is slow: the broker then sends its consumer no "
        "more than `concurrency` messages at a time, until callbacks have been faster for five "
        "times as long.",
    )
    ack_timeout: Number = seconds(
        1800.0,
        zero=True,
        description="How long the broker waits for an ack before it closes the channel (its "
        "`consumer_timeout`). The library does not set it, it warns in time. 0: the broker has "
        "no such limit.",
    )
    ack_timeout_warning: Number = setting(
        0.8,
        expects="a fraction, more than 0 and at most 1",
        unit="of `ack_timeout`",
        description="When to warn of a message that is still not acked, and to give back those "
        "whose callback has not started.",
        gt=0.0,
        le=1.0,
    )
    forgotten_ack_after: Number = seconds(
        30.0,
        description="From when a message that its callback has left unsettled is taken for "
        "forgotten, where no callback of its queue is running: it is warned of, and health says so "
        "once nothing more can be delivered for it.",
    )
    stalled_after: Number = seconds(
        15.0,
        description="From when a consumer stands still, where no callback starts though messages "
        "wait, here or in the queue, and there is room for them: health says so, and the consumer "
        "attaches anew.",
    )
    subscriber_queue_expires: Number = seconds(
        300.0,
        description="How long a subscriber's own queue outlives its subscriber, so that a short "
        "outage loses nothing; `stop()` deletes it at once.",
    )

    max_tries: Whole = whole(
        3,
        low=1,
        high=1000,
        unit="tries",
        group="Messages that fail",
        description="How often a message is tried in all before it is parked.",
    )
    retry_delay: Number = seconds(
        1.0,
        zero=True,
        description="The pause before the second try; each further one is twice as long.",
    )
    retry_delay_max: Number = seconds(
        60.0,
        zero=True,
        description="The longest pause between two tries.",
        validate_default=True,
    )
    parked_max_length: Whole = whole(
        10_000,
        low=1,
        high=2**31 - 1,
        unit="messages",
        description="How many messages a queue of parked ones (`<queue>.dead`) holds at most.",
    )
    hide_error_messages: bool = setting(
        False,
        expects="true or false",
        description="Whether the sender of a request that has failed is told only the type of the "
        "exception and not its message. That of a `RequestRefusedError` is always told.",
    )

    wire_format: Annotated[Literal["legacy", "json"], BeforeValidator(_lower)] = setting(
        "legacy",
        expects='"legacy" or "json"',
        group="Sending and asking",
        description="The format of what the service sends first; answers go out in the format of "
        'their request. `"legacy"` is understood by peers of every version, `"json"` by those of '
        "0.11 and later.",
    )
    publish_timeout: Number = seconds(
        30.0,
        description="How long a message may take in all: to connect, to declare what is missing, "
        "and for the broker to confirm it.",
    )
    message_expiration: Whole | None = whole(
        1000,
        low=0,
        high=2**32 - 1,
        unit="ms",
        description="How long a message may wait in a queue for its consumer where `send_message` "
        "and its kind are given no `expiration`. `null`: for ever.",
    )
    request_timeout: Number = seconds(
        30.0,
        description="How long to wait for the answer to a request that names no time itself.",
    )

    health_port: Whole | None = setting(
        None,
        expects="a port (0-65535)",
        group="Watching",
        description="Where `run()` serves the state of the service over HTTP: `/live`, `/ready`, "
        "`/inflight`, `/metrics` and a page. 0: a free port, which the log names. Without one, "
        "nothing is served.",
        ge=0,
        le=65535,
    )
    health_host: str = setting(
        "127.0.0.1",
        expects="an address of this host",
        description="The address that `health_port` is served on. In a container whose probes come "
        "from outside that is `0.0.0.0`; all who reach it can read the state, which has names of "
        "queues and stacks, and no bodies of messages.",
    )
    tracing: bool = setting(
        True,
        expects="true or false",
        description="Whether there are spans of messages and requests, where the program has set a "
        "tracer provider of OpenTelemetry. False turns them off for the whole process.",
    )

    @field_validator("reconnect_delay_max", "retry_delay_max")
    @classmethod
    def _not_below_the_shortest(cls, value: float, info: ValidationInfo) -> float:
        other = "retry_delay" if info.field_name == "retry_delay_max" else "reconnect_delay_min"
        least = info.data.get(other)
        if least is not None and value < least:
            raise ValueError(f"{value:g} is less than {other}, {least:g}; make it at least as long")
        return value
