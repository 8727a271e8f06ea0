"""What is measured. The targets are what we want to be; they are shown, never asserted."""

from __future__ import annotations

from typing import Any

from benchmarks import feeder
from benchmarks.actor import Actor
from benchmarks.experiment import Contender, Experiment, Figure, at_least, at_most
from benchmarks.others import with_aio_pika, with_faststream, with_kombu
from benchmarks.ours import awaiting as our_awaiting
from benchmarks.ours import bodies as our_bodies
from benchmarks.ours import consuming as our_consuming
from benchmarks.ours import engines as our_engines
from benchmarks.ours import many_queues as our_many_queues
from benchmarks.ours import requests as our_requests
from benchmarks.ours import sending as our_sending
from benchmarks.plain_pika import bodies as pika_bodies
from benchmarks.plain_pika import consuming as pika_consuming
from benchmarks.plain_pika import many_queues as pika_many_queues
from benchmarks.plain_pika import requests as pika_requests
from benchmarks.plain_pika import sending as pika_sending
from benchmarks.worker import Role

#: Bytes on the wire; RabbitMQ takes 16 MiB at most by default.
_BIG = 10_000_000
#: Messages a second.
_FLOW = 20_000

#: A decorated callback that acknowledges when its answer is confirmed, as the others do.
_ON_SUCCESS = {"ack": "on_success"}

_REQUEST = Experiment(
    "request",
    "one request at a time",
    {
        "ours": Contender(Role(our_requests.Asker, "ours"), Role(our_requests.Service, "ours")),
        "decorated": Contender(
            Role(our_requests.Asker, "decorated"),
            Role(our_requests.DecoratedService, "decorated", _ON_SUCCESS),
        ),
        "on receipt": Contender(
            Role(our_requests.Asker, "receipt"), Role(our_requests.DecoratedService, "receipt")
        ),
        "pika": Contender(Role(pika_requests.Asker, "pika"), Role(pika_requests.Service, "pika")),
    },
    (
        Figure("request, one at a time (from the median)", "ours", "pika", at_least(1.2)),
        Figure("  processor's time of the client", "ours", "pika", at_most(0.7), "cpu", "µs"),
        Figure("  processor's time of the service", "ours", "pika", None, "service_cpu", "µs"),
        Figure("  decorated callback, ack on success", "decorated", "pika", at_least(1.1)),
        Figure(
            "    processor's time of the service", "decorated", "pika", None, "service_cpu", "µs"
        ),
        Figure("  decorated callback, ack on receipt", "on receipt", "pika", at_least(1.1)),
        Figure(
            "    processor's time of the service", "on receipt", "pika", None, "service_cpu", "µs"
        ),
    ),
)


def _asked(name: str, service: type[Actor], **options: Any) -> dict[str, Contender]:
    """Return a service that is asked by 16 threads, and one that is asked with 64 futures."""
    threads, futures = f"{name}, threads", f"{name}, futures"
    return {
        threads: Contender(
            Role(our_requests.Asker, threads, {"threads": 16}), Role(service, threads, options)
        ),
        futures: Contender(
            Role(our_requests.FutureAsker, futures, {"in_flight": 64}),
            Role(service, futures, options),
        ),
    }


_REQUESTS = Experiment(
    "requests",
    "many requests at a time",
    {
        **_asked("raw", our_requests.Service),
        **_asked("decorated", our_requests.DecoratedService, **_ON_SUCCESS),
        **_asked("on receipt", our_requests.DecoratedService),
        "pika": Contender(
            Role(pika_requests.Asker, "pika", {"in_flight": 16}),
            Role(pika_requests.Service, "pika"),
        ),
    },
    (
        Figure("requests, 16 threads; pika pipelines 16", "raw, threads", "pika", at_least(2.0)),
        Figure("  decorated callback, ack on success", "decorated, threads", "pika", at_least(1.4)),
        Figure(
            "  decorated callback, ack on receipt", "on receipt, threads", "pika", at_least(1.4)
        ),
        Figure("requests, 64 futures; pika pipelines 16", "raw, futures", "pika", at_least(3.0)),
        Figure("  decorated callback, ack on success", "decorated, futures", "pika", at_least(2.0)),
        Figure(
            "  decorated callback, ack on receipt", "on receipt, futures", "pika", at_least(2.0)
        ),
    ),
)

_HANDLERS = Experiment(
    "handlers",
    "ways to write a service, 64 futures",
    {
        name: Contender(Role(our_requests.FutureAsker, name, {"in_flight": 64}), service)
        for name, service in {
            "raw": Role(our_requests.Service, "raw"),
            "decorated": Role(our_requests.DecoratedService, "decorated", _ON_SUCCESS),
            "declared": Role(our_requests.DeclaredService, "declared"),
            "typed": Role(our_requests.DeclaredService, "typed", {"typed": True}),
        }.items()
    },
    (
        Figure("decorated callback, to a raw one", "decorated", "raw", at_least(0.9)),
        Figure("  processor's time of the service", "decorated", "raw", None, "service_cpu", "µs"),
        Figure("declared handler, to a raw callback", "declared", "raw", at_least(0.9)),
        Figure("  processor's time of the service", "declared", "raw", None, "service_cpu", "µs"),
        Figure("declared handler with models, to a raw callback", "typed", "raw", at_least(0.8)),
        Figure("  processor's time of the service", "typed", "raw", None, "service_cpu", "µs"),
    ),
)

_SEND = Experiment(
    "send",
    "confirmed sending",
    {
        "1 thread": Contender(Role(our_sending.Sender, "1")),
        "8 threads": Contender(Role(our_sending.Sender, "8", {"threads": 8})),
        "pika": Contender(Role(pika_sending.Sender, "pika", {"confirm": True})),
    },
    (
        Figure("send_message, 1 thread; pika confirms", "1 thread", "pika", at_least(1.1)),
        Figure("send_message, 8 threads; pika has 1", "8 threads", "pika", at_least(3.0)),
        Figure("  processor's time, 1 thread", "1 thread", "pika", at_most(0.7), "cpu", "µs"),
    ),
)

_DISK = Experiment(
    "disk",
    "confirmed sending of persistent messages to a durable queue",
    {
        "ours": Contender(Role(our_sending.Sender, "ours", {"durable": True})),
        "pika": Contender(
            Role(
                pika_sending.Sender,
                "pika",
                {"confirm": True, "durable": True, "persistent": True},
            )
        ),
    },
    (Figure("send_message to a durable queue; pika's persistent", "ours", "pika", None),),
)

_PUBLISH = Experiment(
    "publish",
    "sending without waiting in between",
    {
        "ours": Contender(Role(our_sending.Pipeliner, "ours", {"durable": True})),
        "pika": Contender(Role(pika_sending.Sender, "pika", {"confirm": False, "durable": True})),
    },
    (
        Figure("pipelined and confirmed; pika unconfirmed", "ours", "pika", at_least(1.5)),
        Figure("  processor's time", "ours", "pika", None, "cpu", "µs"),
    ),
)

_CONSUME = Experiment(
    "consume",
    "consuming and acknowledging",
    {
        "default": Contender(
            Role(our_consuming.Consumer, "default"), before=Role(feeder.Filler, "default")
        ),
        "prefetch 250": Contender(
            Role(our_consuming.Consumer, "250", {"prefetch": 250}),
            before=Role(feeder.Filler, "250"),
        ),
        "pika": Contender(
            Role(pika_consuming.Consumer, "pika", {"prefetch": 50}),
            before=Role(feeder.Filler, "pika"),
        ),
    },
    (
        Figure("consume and ack; pika's prefetch 50", "default", "pika", at_least(2.2)),
        Figure("the same with prefetch 250", "prefetch 250", "pika", at_least(3.2)),
        Figure("  processor's time, default", "default", "pika", at_most(0.7), "cpu", "µs"),
    ),
)

_QUEUES = Experiment(
    "queues",
    "1,000 queues on one connector; pika's on one channel",
    {
        "ours": Contender(Role(our_many_queues.ManyQueues, "ours"), fresh=True),
        "pika": Contender(Role(pika_many_queues.ManyQueues, "pika"), fresh=True),
    },
    (
        Figure("1,000 queues, start", "ours", "pika", at_most(5), "start", "s", absolute=True),
        Figure("  resident memory", "ours", "pika", at_most(150), "resident", "MiB", absolute=True),
        Figure("  stop", "ours", "pika", at_most(10), "stop", "s", absolute=True),
    ),
)

_BUSY = Experiment(
    "busy",
    f"requests while {_FLOW:,} messages a second flow through another queue of the service",
    {
        "busy": Contender(
            Role(our_requests.Asker, "busy"),
            Role(our_requests.Service, "busy", {"flow": "flow"}),
            meanwhile=Role(feeder.Stream, "flow", {"rate": _FLOW}),
        ),
        "quiet": Contender(Role(our_requests.Asker, "quiet"), Role(our_requests.Service, "quiet")),
        "pika busy": Contender(
            Role(pika_requests.Asker, "pika-busy"),
            Role(pika_requests.Service, "pika-busy", {"flow": "pika-flow"}),
            meanwhile=Role(feeder.Stream, "pika-flow", {"rate": _FLOW}),
        ),
        "pika quiet": Contender(
            Role(pika_requests.Asker, "pika-quiet"), Role(pika_requests.Service, "pika-quiet")
        ),
    },
    (
        Figure("request beside 20,000/s; quiet", "busy", "quiet", at_most(4), "median", "ms"),
        Figure("  the same with pika", "pika busy", "pika quiet", None, "median", "ms"),
        Figure("  what flows; pika's", "busy", "pika busy", None, "service_rate"),
    ),
)

_BODIES = Experiment(
    "bodies",
    "bodies of 10 MB",
    {
        "send": Contender(Role(our_bodies.Sender, "ours", {"size": _BIG}), fresh=True),
        "bytes": Contender(Role(our_bodies.RawSender, "ours-raw", {"size": _BIG}), fresh=True),
        "pika send": Contender(Role(pika_bodies.Sender, "pika", {"size": _BIG}), fresh=True),
        "pika encode": Contender(
            Role(pika_bodies.Sender, "pika-encoded", {"size": _BIG, "encode": True}), fresh=True
        ),
        "consume": Contender(
            Role(our_bodies.Consumer, "ours-filled", {"size": _BIG}),
            before=Role(feeder.Filler, "ours-filled", {"size": _BIG}),
            fresh=True,
        ),
        "pika consume": Contender(
            Role(pika_bodies.Consumer, "pika-filled", {"size": _BIG}),
            before=Role(feeder.Filler, "pika-filled", {"size": _BIG}),
            fresh=True,
        ),
    },
    (
        Figure(
            "10 MB bodies, basic_publish", "bytes", "pika send", at_least(0.9), "volume", "MB/s"
        ),
        Figure("  peak memory", "bytes", "pika send", at_most(1.5), "peak", "MiB"),
        Figure("10 MB bodies, send_message", "send", "pika send", at_least(0.9), "volume", "MB/s"),
        Figure("  peak memory", "send", "pika send", at_most(1.5), "peak", "MiB"),
        Figure(
            "10 MB bodies; pika encodes the same", "send", "pika encode", None, "volume", "MB/s"
        ),
        Figure("  peak memory", "send", "pika encode", None, "peak", "MiB"),
        Figure(
            "10 MB bodies, consumed", "consume", "pika consume", at_least(0.9), "volume", "MB/s"
        ),
        Figure("  peak memory", "consume", "pika consume", at_most(1.5), "peak", "MiB"),
    ),
)

_SELECT = Experiment(
    "select",
    "consuming and acknowledging, prefetch 50, and pika's SelectConnection",
    {
        "ours": Contender(
            Role(our_consuming.Consumer, "ours", {"select": True}),
            before=Role(feeder.Filler, "ours"),
        ),
        "pika": Contender(
            Role(pika_consuming.SelectConsumer, "pika"), before=Role(feeder.Filler, "pika")
        ),
    },
    (
        Figure("select engine; pika's SelectConnection", "ours", "pika", at_least(1.5)),
        Figure("  processor's time", "ours", "pika", None, "cpu", "µs"),
    ),
)

_ENGINES = {
    "threaded": {},
    "select": {"select": True},
    "coroutines": {"coroutines": True},
}

_ENGINES_CONSUME = Experiment(
    "engines-consume",
    "consuming and acknowledging, engine beside engine",
    {
        "threaded": Contender(
            Role(our_consuming.Consumer, "threaded"),
            before=Role(feeder.Filler, "threaded"),
            fresh=True,
        ),
        "select": Contender(
            Role(our_consuming.Consumer, "select", {"select": True}),
            before=Role(feeder.Filler, "select"),
            fresh=True,
        ),
        "arguments": Contender(
            Role(our_consuming.CoroutineConsumer, "arguments"),
            before=Role(feeder.Filler, "arguments"),
            fresh=True,
        ),
        "message": Contender(
            Role(our_consuming.MessageConsumer, "message"),
            before=Role(feeder.Filler, "message"),
            fresh=True,
        ),
    },
    (
        Figure("consume and ack: select; threaded", "select", "threaded", None),
        Figure("  resident memory", "select", "threaded", None, "resident", "MiB"),
        Figure("consume and ack: coroutine; threaded", "arguments", "threaded", None),
        Figure("  resident memory", "arguments", "threaded", None, "resident", "MiB"),
        Figure("consume and ack: aio-pika's message; threaded", "message", "threaded", None),
        Figure("  resident memory", "message", "threaded", None, "resident", "MiB"),
    ),
)

_ENGINES_REQUEST = Experiment(
    "engines-request",
    "one request at a time, engine beside engine",
    {
        name: Contender(
            Role(our_requests.Asker, name), Role(our_engines.Service, name, dict(options))
        )
        for name, options in _ENGINES.items()
    },
    (
        Figure("request: select; threaded", "select", "threaded", None, "median", "ms"),
        Figure("request: coroutine; threaded", "coroutines", "threaded", None, "median", "ms"),
    ),
)

#: Messages a second that keep a callback busy that blocks for 50 ms at each.
_BLOCKING = 30

_ENGINES_BLOCKED = Experiment(
    "engines-blocked",
    "requests while the callback of another queue of the service blocks for 50 ms at a time",
    {
        name: Contender(
            Role(our_requests.Asker, name),
            Role(our_engines.Service, name, {**options, "blocking": f"{name}-blocking"}),
            meanwhile=Role(feeder.Stream, f"{name}-blocking", {"rate": _BLOCKING}),
        )
        for name, options in _ENGINES.items()
    },
    (
        Figure("request beside a block: select; threaded", "select", "threaded", None, "p99", "ms"),
        Figure("  coroutine; threaded", "coroutines", "threaded", None, "p99", "ms"),
    ),
)

_OTHER_REQUEST = Experiment(
    "others-request",
    "one request at a time, and other libraries",
    {
        "ours": Contender(Role(our_requests.Asker, "ours"), Role(our_requests.Service, "ours")),
        "aio-pika": Contender(
            Role(with_aio_pika.Asker, "aio-pika"), Role(with_aio_pika.Service, "aio-pika")
        ),
        "FastStream": Contender(
            Role(with_faststream.Asker, "faststream"), Role(with_faststream.Service, "faststream")
        ),
    },
    (
        Figure("request, one at a time; aio-pika", "ours", "aio-pika", None),
        Figure("  FastStream", "ours", "FastStream", None),
    ),
)

_AWAIT_REQUEST = Experiment(
    "await-request",
    "one request at a time between coroutines; aio-pika's patterns.RPC",
    {
        "ours": Contender(Role(our_awaiting.Asker, "ours"), Role(our_awaiting.Service, "ours")),
        "aio-pika": Contender(
            Role(with_aio_pika.RpcAsker, "aio-pika"), Role(with_aio_pika.RpcService, "aio-pika")
        ),
    },
    (
        Figure("awaited request; aio-pika's RPC", "ours", "aio-pika", at_most(1.2), "median", "ms"),
        Figure("  processor's time of the client", "ours", "aio-pika", None, "cpu", "µs"),
    ),
)

_AWAIT_REQUESTS = Experiment(
    "await-requests",
    "1,000 requests in flight from one event loop; aio-pika's patterns.RPC",
    {
        "ours": Contender(
            Role(our_awaiting.Asker, "ours", {"in_flight": 1_000}),
            Role(our_awaiting.Service, "ours"),
        ),
        "aio-pika": Contender(
            Role(with_aio_pika.RpcAsker, "aio-pika", {"in_flight": 1_000}),
            Role(with_aio_pika.RpcService, "aio-pika"),
        ),
    },
    (
        Figure("1,000 awaited requests; aio-pika's RPC", "ours", "aio-pika", at_least(1.0)),
        Figure("  processor's time of the client", "ours", "aio-pika", None, "cpu", "µs"),
    ),
)

_OTHER_SEND = Experiment(
    "others-send",
    "confirmed sending, and other libraries",
    {
        "ours": Contender(Role(our_sending.Sender, "ours")),
        "aio-pika": Contender(Role(with_aio_pika.Sender, "aio-pika")),
        "kombu": Contender(Role(with_kombu.Sender, "kombu")),
        "FastStream": Contender(Role(with_faststream.Sender, "faststream")),
    },
    (
        Figure("send_message, 1 thread; aio-pika", "ours", "aio-pika", None),
        Figure("  kombu", "ours", "kombu", None),
        Figure("  FastStream", "ours", "FastStream", None),
    ),
)

_OTHER_CONSUME = Experiment(
    "others-consume",
    "consuming and acknowledging, prefetch 50, and other libraries",
    {
        "ours": Contender(Role(our_consuming.Consumer, "ours"), before=Role(feeder.Filler, "ours")),
        "aio-pika": Contender(
            Role(with_aio_pika.Consumer, "aio-pika"), before=Role(feeder.Filler, "aio-pika")
        ),
        "kombu": Contender(Role(with_kombu.Consumer, "kombu"), before=Role(feeder.Filler, "kombu")),
        "FastStream": Contender(
            Role(with_faststream.Consumer, "faststream"), before=Role(feeder.Filler, "faststream")
        ),
    },
    (
        Figure("consume and ack; aio-pika", "ours", "aio-pika", None),
        Figure("  kombu", "ours", "kombu", None),
        Figure("  FastStream", "ours", "FastStream", None),
    ),
)

_OTHER_COROUTINES = Experiment(
    "others-coroutines",
    "consuming and acknowledging in coroutines, prefetch 50, and aio-pika",
    {
        "arguments": Contender(
            Role(our_consuming.CoroutineConsumer, "arguments"),
            before=Role(feeder.Filler, "arguments"),
        ),
        "message": Contender(
            Role(our_consuming.MessageConsumer, "message"), before=Role(feeder.Filler, "message")
        ),
        "aio-pika": Contender(
            Role(with_aio_pika.Consumer, "aio-pika"), before=Role(feeder.Filler, "aio-pika")
        ),
    },
    (
        Figure("coroutine with four arguments; aio-pika", "arguments", "aio-pika", at_least(1.5)),
        Figure("  with aio-pika's message", "message", "aio-pika", at_least(1.0)),
        Figure("  processor's time, four arguments", "arguments", "aio-pika", None, "cpu", "µs"),
    ),
)

EXPERIMENTS = (
    _REQUEST,
    _REQUESTS,
    _HANDLERS,
    _SEND,
    _DISK,
    _PUBLISH,
    _CONSUME,
    _QUEUES,
    _BUSY,
    _BODIES,
    _SELECT,
    _ENGINES_CONSUME,
    _ENGINES_REQUEST,
    _ENGINES_BLOCKED,
    _OTHER_REQUEST,
    _AWAIT_REQUEST,
    _AWAIT_REQUESTS,
    _OTHER_SEND,
    _OTHER_CONSUME,
    _OTHER_COROUTINES,
)
