"""Compatibility contract: the `retry` decorator and its backoff, which test suites replace.

No broker. `get_timeout` is patched in `connection_utils` by dependents, so `retry` must look it up
there when it needs it.
"""

# The decorators come from fixtures, so that the file collects without the package.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import time
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


def test_a_success_is_returned_at_once(retry: Any) -> None:
    flaky = Flaky(0)
    assert decorated(retry, flaky)() == "done"
    assert len(flaky.calls) == 1


def test_a_failure_is_tried_again_with_the_same_arguments(retry: Any) -> None:
    flaky = Flaky(2)
    assert decorated(retry, flaky)(1, two=2) == "done"
    assert flaky.calls == [((1,), {"two": 2})] * 3


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_there_are_as_many_attempts_as_asked_for(retry: Any, attempts: int) -> None:
    flaky = Flaky(99)
    with pytest.raises(RuntimeError):
        decorated(retry, flaky, num_retries=attempts)()
    assert len(flaky.calls) == attempts


def test_there_are_three_attempts_by_default(retry: Any) -> None:
    flaky = Flaky(99)
    with pytest.raises(RuntimeError):
        decorated(retry, flaky)()
    assert len(flaky.calls) == 3


def test_giving_up_without_a_callback_raises_an_error_that_names_the_function(retry: Any) -> None:
    with pytest.raises(RuntimeError, match="work"):
        decorated(retry, Flaky(99))()


def test_giving_up_calls_the_callback_and_returns_its_result(retry: Any) -> None:
    given_up = Mock(return_value="instead")
    work = decorated(retry, Flaky(99), callback_on_exceeded=given_up)
    assert work(1, two=2) == "instead"
    given_up.assert_called_once_with()


def test_the_callback_for_giving_up_gets_its_arguments(retry: Any) -> None:
    given_up = Mock(return_value=None)
    decorated(
        retry,
        Flaky(99),
        callback_on_exceeded=given_up,
        callback_on_exceeded_args=["one", 2],
    )()
    given_up.assert_called_once_with("one", 2)


def test_the_callback_for_giving_up_is_not_called_after_a_success(retry: Any) -> None:
    given_up = Mock()
    decorated(retry, Flaky(2), callback_on_exceeded=given_up)()
    given_up.assert_not_called()


def test_each_failed_attempt_calls_its_callback(retry: Any) -> None:
    failed = Mock()
    decorated(retry, Flaky(2), callback_on_attempt_failure=failed)()
    assert failed.call_count == 2
    failed.assert_called_with()


def test_the_exception_can_be_asked_for_by_the_failure_callback(retry: Any) -> None:
    failed = Mock()
    decorated(
        retry,
        Flaky(1),
        callback_on_attempt_failure=failed,
        callback_on_attempt_failure_args=["e", "literal"],
    )()
    (error, literal), _ = failed.call_args
    assert isinstance(error, OSError)
    assert str(error) == "failure 1"
    assert literal == "literal"


def test_the_argument_lists_are_not_changed_by_a_call(retry: Any) -> None:
    """The exception must be the latest one each time, not the first."""
    seen: list[str] = []
    arguments: list[Any] = ["e"]
    work = decorated(
        retry,
        Flaky(2),
        callback_on_attempt_failure=lambda error: seen.append(str(error)),
        callback_on_attempt_failure_args=arguments,
    )
    work()
    assert seen == ["failure 1", "failure 2"]
    assert arguments == ["e"]


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

    def test_a_method_is_retried(self, retry: Any) -> None:
        worker = self.make(retry, 2)
        assert worker.work(7) == "done"
        assert worker.flaky.calls == [((7,), {})] * 3

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

    def test_the_callback_for_giving_up_gets_its_arguments(self, retry: Any) -> None:
        worker = self.make(
            retry, 99, callback_on_exceeded="on_given_up", callback_on_exceeded_args=[1, 2]
        )
        worker.work()
        assert worker.given_up == [(1, 2)]

    def test_a_callable_serves_as_callback_of_a_method_too(self, retry: Any) -> None:
        given_up = Mock(return_value="other")
        worker = self.make(retry, 99, callback_on_exceeded=given_up)
        assert worker.work() == "other"

    def test_giving_up_names_the_method(self, retry: Any) -> None:
        with pytest.raises(RuntimeError, match="work"):
            self.make(retry, 99).work()

    def test_two_objects_do_not_share_attempts(self, retry: Any) -> None:
        for _ in range(2):
            assert self.make(retry, 2).work() == "done"


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

    def test_it_waits_as_long_as_the_backoff_says(self) -> None:
        from neon_mq_connector.utils.connection_utils import retry

        work = decorated(retry, Flaky(1))
        with patch(PATCHED, return_value=0.2):
            started = time.monotonic()
            work()
        assert time.monotonic() - started >= 0.2

    @pytest.mark.parametrize("attempt, seconds", [(1, 5), (2, 10), (3, 20), (4, 40)])
    def test_the_backoff_doubles_with_each_attempt(self, attempt: int, seconds: float) -> None:
        from neon_mq_connector.utils.connection_utils import get_timeout

        assert get_timeout(5, attempt) == seconds
        assert get_timeout(backoff_factor=5, number_of_retries=attempt) == seconds
