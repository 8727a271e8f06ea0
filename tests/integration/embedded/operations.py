"""Operations of AMQP, generated so that they often concern each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.integration.embedded.player import CHANNELS, EXCHANGES, QUEUES, Operation

_queues = st.sampled_from(QUEUES)
_BUILT_IN = ("amq.direct", "amq.fanout", "amq.topic", "amq.headers")
_exchanges = st.sampled_from((*EXCHANGES, *_BUILT_IN))
_keys = st.sampled_from(("a", "b", "a.b", "a.b.c", "a.*", "a.#", "#", "*.b", "q0", "q1", "q2", ""))
_flags = st.booleans()
_rarely = st.sampled_from((False, False, False, True))

_GOOD_ARGUMENTS: dict[str, list[Any]] = {
    "x-message-ttl": [0, 3_600_000],
    "x-expires": [3_600_000],
    "x-max-length": [0, 1, 2, 3],
    "x-max-length-bytes": [0, 3, 10],
    "x-overflow": ["drop-head", "reject-publish", "reject-publish-dlx"],
    "x-dead-letter-exchange": ["", "", "x0", "x1"],
    "x-dead-letter-routing-key": ["q0", "q1", "a.b"],
    "x-max-priority": [2, 5],
    "x-single-active-consumer": [True],
    "x-queue-type": ["classic"],
}
_BAD_ARGUMENTS: dict[str, list[Any]] = {
    "x-message-ttl": [-1, "1000", 10**15],
    "x-expires": [0, -2],
    "x-max-length": [-1, "many"],
    "x-overflow": ["explode", 1],
    "x-dead-letter-exchange": [5],
    "x-dead-letter-routing-key": [5],
    "x-max-priority": [300, -1, "high"],
    "x-single-active-consumer": ["yes"],
    "x-queue-type": ["nosuch", 1],
    "x-queue-mode": ["odd", "lazy"],
    "x-queue-version": [3, 2],
    "x-delivery-limit": [3],
    "unknown": [1],
}


def _some_of(choices: dict[str, list[Any]], most: int) -> SearchStrategy[dict[str, Any]]:
    """Return mappings of a few of the keys to one of their values."""
    entry = st.sampled_from(sorted(choices)).flatmap(
        lambda key: st.tuples(st.just(key), st.sampled_from(choices[key]))
    )
    return st.lists(entry, max_size=most).map(dict)


_binding_arguments = st.sampled_from(
    (
        *[{}] * 5,
        {"x-match": "all", "h": 1},
        {"x-match": "any", "h": 1, "k": "v"},
        {"x-match": "any-with-x", "x-h": 1},
        {"h": "other"},
        *[{}] * 9,
        {"x-match": "most"},
        {"x-match": 3},
    )
)
_headers = st.sampled_from(
    (
        {},
        {"h": 1},
        {"h": "other", "k": "v"},
        {"x-h": 1},
        {"CC": ["a.b", "q1"]},
        {"BCC": ["q2"], "h": 1},
        {"h": 2**40, "n": None, "t": {"deep": [1, "x", True]}},
        *[{}] * 4,
        {"CC": "q1"},
    )
)
_properties = st.fixed_dictionaries(
    {},
    optional={
        "delivery_mode": st.sampled_from((1, 2)),
        "priority": st.sampled_from((0, 1, 2, 9)),
        "expiration": st.sampled_from(
            (*["0", "3600000", "3600000"] * 3, *["3600000"] * 9, "-1", "soon", "1x")
        ),
        "headers": _headers,
        "message_id": st.just("m"),
        "reply_to": st.sampled_from((*["somewhere"] * 9, "amq.rabbitmq.reply-to")),
        "user_id": st.sampled_from((*["neon"] * 9, "other")),
        "content_type": st.just("text/plain"),
    },
)


def _operation(name: str, **arguments: SearchStrategy[Any]) -> SearchStrategy[Operation]:
    return st.tuples(st.just(name), st.integers(0, CHANNELS - 1), st.fixed_dictionaries(arguments))


def _declare(
    queue: SearchStrategy[str], arguments: SearchStrategy[Any], **others: SearchStrategy[Any]
) -> SearchStrategy[Operation]:
    usual = {
        "queue": queue,
        "passive": st.just(False),
        "durable": _flags,
        "exclusive": _rarely,
        "auto_delete": _rarely,
        "arguments": arguments,
    }
    return _operation("declare_queue", **{**usual, **others})


_declare_queue = _declare(_queues, _some_of(_GOOD_ARGUMENTS, 4))
_declare_odd_queue = _declare(
    st.sampled_from((*QUEUES, "amq.mine")),
    _some_of(_GOOD_ARGUMENTS | _BAD_ARGUMENTS, 2),
    passive=_rarely,
)
_EXCHANGE: dict[str, SearchStrategy[Any]] = {
    "exchange": st.sampled_from(EXCHANGES),
    "exchange_type": st.sampled_from(("direct", "fanout", "topic", "headers")),
    "passive": st.just(False),
    "durable": _flags,
    "auto_delete": _rarely,
    "internal": _rarely,
    "arguments": st.sampled_from(
        ({}, {}, {"alternate-exchange": "x1"}, {"alternate-exchange": "amq.fanout"})
    ),
}
_ODD_EXCHANGE: dict[str, SearchStrategy[Any]] = {
    "exchange": st.sampled_from((*EXCHANGES, "amq.direct", "amq.mine", "", "x\n0")),
    "exchange_type": st.sampled_from(("direct", "fanout", "topic", "headers", "nosuch")),
    "passive": _flags,
    "arguments": st.sampled_from(({}, {"alternate-exchange": 1})),
}
_declare_exchange = _operation("declare_exchange", **_EXCHANGE)
_declare_odd_exchange = _operation("declare_exchange", **{**_EXCHANGE, **_ODD_EXCHANGE})
_publish = _operation(
    "publish",
    exchange=st.sampled_from((*[""] * 16, *["x0", "x1"] * 4, "x2", *_BUILT_IN)),
    routing_key=st.sampled_from((*QUEUES, *QUEUES, "a", "b", "a.b", "a.b.c", "")),
    body=st.sampled_from((b"", b"one", b"two", b"a longer one")),
    properties=_properties,
    mandatory=_flags,
)
_consume = _operation(
    "consume",
    queue=_queues,
    tag=st.sampled_from(("c", "d")),
    auto_ack=_rarely,
    exclusive=_rarely,
    arguments=st.sampled_from((*[{}] * 16, *[{"x-priority": 5}] * 4, {"x-priority": "high"})),
)
_settle = st.one_of(
    _operation("settle", which=st.integers(0, 5), how=st.just("ack"), multiple=_flags),
    _operation(
        "settle", which=st.integers(0, 5), how=st.just("nack"), multiple=_flags, requeue=_flags
    ),
    _operation("settle", which=st.integers(0, 5), how=st.just("reject"), requeue=_flags),
)

_binding: dict[str, SearchStrategy[Any]] = {"routing_key": _keys, "arguments": _binding_arguments}
_WEIGHTS: list[tuple[int, SearchStrategy[Operation]]] = [
    (3, _declare_queue),
    (1, _declare_odd_queue),
    (1, _declare_exchange),
    (1, _declare_odd_exchange),
    (16, _publish),
    (6, _consume),
    (7, _settle),
    (3, _operation("get", queue=_queues, auto_ack=_flags)),
    (1, _operation("cancel", tag=st.sampled_from(("c", "d")))),
    (2, _operation("qos", prefetch_count=st.sampled_from((0, 1, 2)), global_qos=_rarely)),
    (1, _operation("delete_exchange", exchange=_exchanges, if_unused=_flags)),
    (1, _operation("delete_queue", queue=_queues, if_unused=_flags, if_empty=_flags)),
    (1, _operation("purge", queue=_queues)),
    (4, _operation("bind", queue=_queues, exchange=_exchanges, **_binding)),
    (1, _operation("unbind", queue=_queues, exchange=_exchanges, **_binding)),
    (2, _operation("bind_exchange", destination=_exchanges, source=_exchanges, **_binding)),
    (1, _operation("unbind_exchange", destination=_exchanges, source=_exchanges, **_binding)),
    (1, _operation("confirm")),
    (1, _operation("transact", step=st.sampled_from(("select", "commit", "commit", "rollback")))),
    (1, _operation("recover")),
    (1, _operation("close_channel")),
    (1, _operation("close_connection")),
]


def _mixed(weights: list[tuple[int, SearchStrategy[Operation]]]) -> SearchStrategy[Operation]:
    return st.sampled_from(
        [strategy for weight, strategy in weights for _ in range(weight)]
    ).flatmap(lambda strategy: strategy)


def _begin(queue: str) -> SearchStrategy[Operation]:
    """Return declarations of a queue that are mostly good."""
    arguments = _some_of(_GOOD_ARGUMENTS, 3).map(
        lambda found: (
            {"x-dead-letter-exchange": "x0", **found}
            if "x-dead-letter-routing-key" in found
            else found
        )
    )
    return _declare(st.just(queue), arguments, exclusive=st.just(False))


def _begin_exchange(name: str) -> SearchStrategy[Operation]:
    return _declare_exchange.map(lambda made: (made[0], made[1], {**made[2], "exchange": name}))


_bind = _operation("bind", queue=_queues, exchange=_exchanges, **_binding)

#: Programs that make queues and exchanges before they use them.
programs: SearchStrategy[list[Operation]] = st.tuples(
    st.tuples(*map(_begin, QUEUES)),
    st.tuples(*map(_begin_exchange, EXCHANGES[:2])),
    st.tuples(_bind, _bind),
    st.lists(_mixed(_WEIGHTS), min_size=12, max_size=40),
).map(lambda parts: [*parts[0], *parts[1], *parts[2], *parts[3]])


#: Without limits of time and length: when RabbitMQ's quorum queues notice them is nobody's promise.
_QUORUM_ARGUMENTS: dict[str, list[Any]] = {"x-delivery-limit": [1, 2, 3]}


def _message_queue(
    queue: str, choices: dict[str, list[Any]], **always: Any
) -> SearchStrategy[Operation]:
    """Return good declarations of a queue that dead-letters to another one."""
    another = QUEUES[(QUEUES.index(queue) + 1) % len(QUEUES)]
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": another}
    return _operation(
        "declare_queue",
        queue=st.just(queue),
        durable=st.just(True),
        arguments=_some_of(choices, 3).map(lambda found: {**found, **letters, **always}),
    )


_good_properties = st.fixed_dictionaries(
    {"message_id": st.integers(0, 10**6).map(str)},
    optional={
        "delivery_mode": st.sampled_from((1, 2)),
        "priority": st.sampled_from((0, 1, 2, 9)),
        "expiration": st.sampled_from(("0", "3600000")),
        "headers": st.sampled_from(
            ({"h": 1}, {"CC": ["q1"]}, {"BCC": ["q2"], "h": 1}, {"x-death": 1})
        ),
    },
)
_good_publish = _operation(
    "publish",
    exchange=st.just(""),
    routing_key=_queues,
    body=st.sampled_from((b"", b"one", b"two", b"a longer one")),
    properties=_good_properties,
    mandatory=_flags,
)


def _message_operations(consumed: tuple[str, ...]) -> SearchStrategy[list[Operation]]:
    """Return operations with messages; each channel consumes from one queue only.

    The order of deliveries from several queues, and so their tags, would be a matter of chance.
    """
    consume = _consume.map(lambda made: (made[0], made[1], {**made[2], "queue": consumed[made[1]]}))
    one = _mixed(
        [
            (12, _good_publish),
            (4, consume),
            (8, _settle),
            (4, _operation("get", queue=_queues, auto_ack=_rarely)),
            (1, _operation("qos", prefetch_count=st.sampled_from((0, 1, 2)), global_qos=_rarely)),
            (1, _operation("cancel", tag=st.sampled_from(("c", "d")))),
            (1, _operation("transact", step=st.sampled_from(("select", "commit", "rollback")))),
            (1, _operation("confirm")),
            (1, _operation("recover")),
            (1, _operation("close_channel")),
        ]
    )
    return st.lists(one, min_size=20, max_size=60)


def _for_quorum_queues(program: list[Operation]) -> list[Operation]:
    for _, _, arguments in program:
        for name in ("expiration", "priority"):
            arguments.get("properties", {}).pop(name, None)
    return program


def _about_messages(
    queues: list[SearchStrategy[Operation]],
) -> SearchStrategy[list[Operation]]:
    return st.tuples(
        st.tuples(*queues), st.tuples(*[_queues] * CHANNELS).flatmap(_message_operations)
    ).map(lambda parts: [*parts[0], *parts[1]])


#: Programs of which most is about messages.
message_programs = _about_messages([_message_queue(name, _GOOD_ARGUMENTS) for name in QUEUES])
#: The same with quorum queues, the last of the queues excepted.
quorum_programs = _about_messages(
    [
        *(
            _message_queue(name, _QUORUM_ARGUMENTS, **{"x-queue-type": "quorum"})
            for name in QUEUES[:-1]
        ),
        _message_queue(QUEUES[-1], {"x-max-priority": [2, 5]}),
    ]
).map(_for_quorum_queues)
