"""A whole consumer with its broker, its callbacks and its threads, in every order there is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.errors import PublishLostError, PublishTimeoutError, TopologyError
from tests.unit.conftest import effort
from tests.unit.models.bench import STEPS, Bench, register

#: What services do, and what nobody should.
SCRIPT = st.one_of(
    st.sampled_from(
        [
            [],
            ["ack"],
            ["wait"],
            ["raise"],
            ["wait", "raise"],
            ["publish", "ack"],
            ["wait", "publish", "ack"],
            ["lend"],
            ["wait", "ack up to here"],
        ]
    ),
    st.lists(st.sampled_from([each for each in STEPS if each != "close"]), max_size=4),
)
MESSAGE = st.tuples(
    st.lists(SCRIPT, min_size=2, max_size=4),
    st.sampled_from([0, 0, 50]),  # bytes
)
MESSAGES = st.lists(MESSAGE, min_size=2, max_size=5)
PACES = st.lists(
    st.sampled_from(
        [
            "all",
            "all but the broker",
            "deliver one",
            "deliver",
            "carry out one",
            "carry out",
            "run 0",
            "run 1",
            "run 2",
            "step 0",
            "step 1",
            "step 2",
            "next deadline",
            "a second",
            "a minute",
            "let go",
        ]
    ),
    min_size=2,
    max_size=8,
)
SETUPS = st.builds(
    register,
    ack=st.sampled_from(AckMode),
    concurrency=st.sampled_from([1, 2]),
    prefetch_count=st.sampled_from([3, 1, 2, 5, 6, 9, 12, 30]),  # acks are held back from 6 on
    attempts=st.sampled_from([3, 2, 1]),
    parks=st.sampled_from([True, True, False]),
    reject_when_unparkable=st.sampled_from([False, False, True]),
    inbox_max_bytes=st.sampled_from([1_000, 1_000, 60]),
    counts_deliveries=st.booleans(),
    restart_attempts=st.sampled_from([-1, -1, -1, -1, 0, 1]),
)


class ConsumerModel(RuleBasedStateMachine):
    """Do things to a consumer; `Bench` objects to what must not come of it."""

    bench: Bench

    @initialize(setup=SETUPS, messages=MESSAGES, paces=PACES)
    def begin(
        self,
        setup: Registration,
        messages: Sequence[tuple[Sequence[Sequence[str]], int]],
        paces: Sequence[str],
    ) -> None:
        self.bench = Bench(setup)
        if paces:
            self.bench.run_until_all_wait()
        self.send(messages, paces)

    # -- messages, threads and time ----------------------------------------------------------------

    def go_on(self, paces: Sequence[str]) -> None:
        bench = self.bench
        for pace in paces:
            what, _, which = pace.partition(" ")
            if what in ("run", "step"):
                self._turn(int(which), finely=what == "step")
            elif pace == "all":
                bench.run_until_all_wait()
            elif pace == "all but the broker":
                bench.simulation.run_all()
            elif what == "deliver":
                bench.broker.deliver(1 if which else 100)
            elif what == "carry":
                bench.broker.carry_out(1 if which == "out one" else 100)
            elif pace == "let go":
                bench.released = min(bench.waiting, bench.released + 1)
            else:
                bench.advance({"next": None, "a": 1.0 if which == "second" else 60.0}[what])

    def _turn(self, index: int, *, finely: bool) -> None:
        simulation = self.bench.simulation
        ready = [task for task in simulation.tasks if task.can_go]
        if ready:
            simulation.run(ready[index % len(ready)], finely=finely)

    @rule(paces=PACES)
    def time_passes(self, paces: Sequence[str]) -> None:
        self.go_on(paces)

    @rule(messages=MESSAGES, paces=PACES)
    def send(
        self, messages: Sequence[tuple[Sequence[Sequence[str]], int]], paces: Sequence[str]
    ) -> None:
        for scripts, size in messages:
            self.bench.send(*scripts, size=size)
        self.go_on(paces)

    # -- settling and publishing from elsewhere ----------------------------------------------------

    @rule(
        what=st.sampled_from(["ack", "ack", "back", "drop"]), index=st.integers(0, 9), paces=PACES
    )
    def settle_on_another_thread(self, what: str, index: int, paces: Sequence[str]) -> None:
        if self.bench.lent:
            self.bench.settle_lent(index % len(self.bench.lent), what)
        self.go_on(paces)

    @rule(
        what=st.sampled_from(["confirm", "confirm", "lost", "late"]),
        index=st.integers(0, 9),
        paces=PACES,
    )
    def answer_a_publish(self, what: str, index: int, paces: Sequence[str]) -> None:
        pending = self.bench.broker.publisher.pending
        if pending and what == "confirm":
            self.bench.confirm(index % len(pending))
        elif pending:
            kind = PublishLostError if what == "lost" else PublishTimeoutError
            error = kind("as the model says", may_have_arrived=True)
            self.bench.fail_publish(error, index % len(pending))
        self.go_on(paces)

    @rule(
        parking=st.sampled_from(["works", "fails", "is cut off", "arrives unconfirmed"]),
        connected=st.booleans(),
        paces=PACES,
    )
    def publishing_fails_or_works(
        self, parking: str, connected: bool, paces: Sequence[str]
    ) -> None:
        self.bench.broker.publisher.parking = parking
        self.bench.broker.publisher.is_connected = connected
        self.go_on(paces)

    # -- faults ------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(
            ["reset", "outage", "outage ends", "queue deleted", "refuses declares", "declares"]
        ),
        deliver=st.booleans(),
        paces=PACES,
    )
    def fault(self, what: str, deliver: bool, paces: Sequence[str]) -> None:
        broker = self.bench.broker
        if deliver:
            broker.deliver(100)
        if what in ("reset", "outage"):
            broker.lose(comes_back=what == "reset")
        elif what == "outage ends":
            broker.is_up = True
        elif what == "queue deleted":
            broker.cancel_consumer()
        else:
            refused = what == "refuses declares"
            broker.control.refusal = TopologyError("as the model says") if refused else None
        self.go_on(paces)

    @rule(
        what=st.sampled_from(["reattach", "slow", "old", "prefetch 1", "prefetch 4"]),
        deliver=st.booleans(),
        paces=PACES,
    )
    def watch_over_it(self, what: str, deliver: bool, paces: Sequence[str]) -> None:
        consumer, session = self.bench.consumer, self.bench.consumer.session
        if deliver:
            self.bench.broker.deliver(100)
        if what == "slow":
            consumer.flow.note_slow(5.0)
        elif what == "old":
            consumer.dispatcher.give_back_older(-1.0)
        elif session is not None and what == "reattach":
            consumer.reattach(session, "as the model says")
        elif session is not None:
            consumer.flow.asked = int(what.split()[1])
            session.subscription.adjust_soon()
        self.go_on(paces)

    # -- the end -----------------------------------------------------------------------------------

    @rule(
        how=st.sampled_from(["not", "not", "not", "from outside", "in a callback"]),
        deliver=st.booleans(),
        before=PACES,
        after=PACES,
    )
    def stop(self, how: str, deliver: bool, before: Sequence[str], after: Sequence[str]) -> None:
        if deliver:
            self.bench.broker.deliver(100)
        self.go_on(before)
        if how == "from outside":
            self.bench.stop()
        elif how == "in a callback":
            self.bench.send(["close", "ack"])
        self.go_on(after)

    def teardown(self) -> None:
        bench = getattr(self, "bench", None)
        if bench is None:
            return
        try:
            if not bench.is_stopped:
                bench.expect_recovery()
            bench.expect_end()
        finally:
            bench.close()


TestConsumerModel = ConsumerModel.TestCase
TestConsumerModel.settings = effort(examples=120, steps=15)
