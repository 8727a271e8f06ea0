"""Compatibility contract: the `retry` decorator and its backoff, which test suites replace.

No broker. `get_timeout` is patched in `connection_utils` by dependents, so `retry` must look it up
there when it needs it.
"""

# The decorators come from fixtures, so that the file collects without the package.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, patch

import pytest

PATCHED = "neon_mq_connector.utils.connection_utils.get_timeout"


@pytest.fixture
def retry(no_waiting: Any) -> Any:
    from neon_mq_connector.utils.connection_utils import retry

    return retry


class Flaky:
    """Fails as often as it is told to, then returns."""

    def __init__(self, failures: int) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self._failures = failures

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append((args, kwargs))
        if len(self.calls) <= self._failures:
            raise OSError(f"failure {len(self.calls)}")
        return "done"


def decorated(retry: Any, flaky: Flaky, **options: Any) -> Any:
    @retry(**options)
    def work(*args: Any, **kwargs: Any) -> str:
        return flaky(*args, **kwargs)

    return work


@pytest.mark.parametrize("failures", [0, 2])
def test_a_failure_is_tried_again_with_the_same_arguments(retry: Any, failures: int) -> None:
    flaky, given_up = Flaky(failures), Mock()
    assert decorated(retry, flaky, callback_on_exceeded=given_up)(1, two=2) == "done"
    assert flaky.calls == [((1,), {"two": 2})] * (failures + 1)
    given_up.assert_not_called()


@pytest.mark.parametrize(
    "options, attempts", [({}, 3), *(({"num_retries": n}, n) for n in (1, 2, 5))]
)
def test_giving_up_after_as_many_attempts_as_asked_for_names_the_function(
    retry: Any, options: dict[str, int], attempts: int
) -> None:
    flaky = Flaky(99)
    with pytest.raises(RuntimeError, match="work"):
        decorated(retry, flaky, **options)()
    assert len(flaky.calls) == attempts


@pytest.mark.parametrize("arguments", [[], ["one", 2]])
def test_giving_up_calls_the_callback_and_returns_its_result(
    retry: Any, arguments: list[Any]
) -> None:
    given_up = Mock(return_value="instead")
    options = {"callback_on_exceeded_args": arguments} if arguments else {}
    work = decorated(retry, Flaky(99), callback_on_exceeded=given_up, **options)
    assert work(1, two=2) == "instead"
    given_up.assert_called_once_with(*arguments)


def test_each_failed_attempt_calls_its_callback_without_arguments(retry: Any) -> None:
    failed = Mock()
    decorated(retry, Flaky(2), callback_on_attempt_failure=failed)()
    assert failed.call_count == 2
    failed.assert_called_with()


def test_the_latest_exception_can_be_asked_for_by_the_failure_callback(retry: Any) -> None:
    seen: list[tuple[str, str]] = []
    arguments: list[Any] = ["e", "literal"]
    work = decorated(
        retry,
        Flaky(2),
        callback_on_attempt_failure=lambda error, literal: seen.append((str(error), literal)),
        callback_on_attempt_failure_args=arguments,
    )
    work()
    assert seen == [("failure 1", "literal"), ("failure 2", "literal")]
    assert arguments == ["e", "literal"]  # they are not changed by a call


class TestMethods:
    def make(self, retry: Any, failures: int, **options: Any) -> Any:
        class Worker:
            def __init__(self) -> None:
                self.flaky = Flaky(failures)
                self.failed: list[tuple[Any, ...]] = []
                self.given_up: list[tuple[Any, ...]] = []

            @retry(use_self=True, **options)
            def work(self, *args: Any) -> str:
                return self.flaky(*args)

            def on_failed(self, *args: Any) -> None:
                self.failed.append(args)

            def on_given_up(self, *args: Any) -> str:
                self.given_up.append(args)
                return "instead"

        return Worker()

    def test_callbacks_may_be_names_of_methods(self, retry: Any) -> None:
        worker = self.make(
            retry,
            99,
            num_retries=2,
            callback_on_exceeded="on_given_up",
            callback_on_attempt_failure="on_failed",
        )
        assert worker.work() == "instead"
        assert worker.failed == [(), ()]
        assert worker.given_up == [()]

    def test_the_object_and_the_exception_can_be_asked_for(self, retry: Any) -> None:
        worker = self.make(
            retry,
            1,
            callback_on_attempt_failure="on_failed",
            callback_on_attempt_failure_args=["e", "self", 3],
        )
        worker.work()
        ((error, itself, three),) = worker.failed
        assert isinstance(error, OSError)
        assert itself is worker
        assert three == 3


class TestBackoff:
    def test_a_patched_backoff_is_used_even_by_functions_decorated_before(self) -> None:
        from neon_mq_connector.utils.connection_utils import retry

        flaky = Flaky(2)
        work = decorated(retry, flaky)
        with patch(PATCHED, return_value=0) as backoff:
            assert work() == "done"
        assert backoff.call_count == 2

    def test_the_backoff_is_asked_with_the_factor(self, retry: Any, no_waiting: Any) -> None:
        decorated(retry, Flaky(2), backoff_factor=0.25)()
        assert [0.25 in (*args, *kwargs.values()) for args, kwargs in no_waiting] == [True, True]

    @pytest.mark.parametrize("attempt, seconds", [(1, 5), (2, 10), (3, 20), (4, 40)])
    def test_the_backoff_doubles_with_each_attempt(self, attempt: int, seconds: float) -> None:
        from neon_mq_connector.utils.connection_utils import get_timeout

        assert get_timeout(5, attempt) == seconds
        assert get_timeout(backoff_factor=5, number_of_retries=attempt) == seconds
