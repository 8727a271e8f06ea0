"""Compatibility contract: the `retry` decorator and its backoff, which test suites replace.

No broker. `get_timeout` is patched in `connection_utils` by dependents, so `retry` must look it up
there when it needs it.
"""

# The decorators come from fixtures, so that the file collects without the package.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, call, patch

import pytest

PATCHED = "neon_mq_connector.utils.connection_utils.get_timeout"


@pytest.fixture
def retry(no_waiting: Any) -> Any:
    from neon_mq_connector.utils.connection_utils import retry

    return retry


def failing(times: int) -> Mock:
    """Make what fails as often as it is told to, then returns."""
    return Mock(side_effect=[*(OSError(f"failure {n + 1}") for n in range(times)), "done"])


def decorated(retry: Any, flaky: Mock, **options: Any) -> Any:
    @retry(**options)
    def work(*args: Any, **kwargs: Any) -> Any:
        return flaky(*args, **kwargs)

    return work


@pytest.mark.parametrize("failures", [0, 2])
def test_a_failure_is_tried_again_with_the_same_arguments(retry: Any, failures: int) -> None:
    flaky, given_up = failing(failures), Mock()
    assert decorated(retry, flaky, callback_on_exceeded=given_up)(1, two=2) == "done"
    assert flaky.call_args_list == [call(1, two=2)] * (failures + 1)
    given_up.assert_not_called()


@pytest.mark.parametrize(
    "options, attempts", [({}, 3), *(({"num_retries": n}, n) for n in (1, 2, 5))]
)
def test_giving_up_after_as_many_attempts_as_asked_for_names_the_function(
    retry: Any, options: dict[str, int], attempts: int
) -> None:
    flaky = failing(99)
    with pytest.raises(RuntimeError, match="work"):
        decorated(retry, flaky, **options)()
    assert flaky.call_count == attempts


@pytest.mark.parametrize("arguments", [[], ["one", 2]])
def test_giving_up_calls_the_callback_and_returns_its_result(
    retry: Any, arguments: list[Any]
) -> None:
    given_up = Mock(return_value="instead")
    options = {"callback_on_exceeded_args": arguments} if arguments else {}
    work = decorated(retry, failing(99), callback_on_exceeded=given_up, **options)
    assert work(1, two=2) == "instead"
    given_up.assert_called_once_with(*arguments)


def test_each_failed_attempt_calls_its_callback_without_arguments(retry: Any) -> None:
    failed = Mock()
    decorated(retry, failing(2), callback_on_attempt_failure=failed)()
    assert failed.call_args_list == [call(), call()]


def test_the_latest_exception_can_be_asked_for_by_the_failure_callback(retry: Any) -> None:
    seen: list[tuple[str, str]] = []
    arguments: list[Any] = ["e", "literal"]
    work = decorated(
        retry,
        failing(2),
        callback_on_attempt_failure=lambda error, literal: seen.append((str(error), literal)),
        callback_on_attempt_failure_args=arguments,
    )
    work()
    assert seen == [("failure 1", "literal"), ("failure 2", "literal")]
    assert arguments == ["e", "literal"]  # they are not changed by a call


@pytest.mark.parametrize("arguments", [None, ["e", "self", 3]])
def test_callbacks_may_be_names_of_methods_and_ask_for_the_object_and_the_exception(
    retry: Any, arguments: list[Any] | None
) -> None:
    error = OSError("failure")

    class Worker:
        failed, given_up = Mock(), Mock(return_value="instead")

        @retry(
            use_self=True,
            num_retries=2,
            callback_on_exceeded="given_up",
            callback_on_attempt_failure="failed",
            callback_on_attempt_failure_args=arguments,
        )
        def work(self) -> None:
            raise error

    worker = Worker()
    assert worker.work() == "instead"
    asked_for = call() if arguments is None else call(error, worker, 3)
    assert worker.failed.call_args_list == [asked_for] * 2
    worker.given_up.assert_called_once_with()


class TestBackoff:
    def test_a_patched_backoff_is_used_even_by_functions_decorated_before(self) -> None:
        from neon_mq_connector.utils.connection_utils import retry

        work = decorated(retry, failing(2))
        with patch(PATCHED, return_value=0) as backoff:
            assert work() == "done"
        assert backoff.call_count == 2

    def test_the_backoff_is_asked_with_the_factor(self, retry: Any, no_waiting: Any) -> None:
        decorated(retry, failing(2), backoff_factor=0.25)()
        assert [0.25 in (*args, *kwargs.values()) for args, kwargs in no_waiting] == [True, True]

    @pytest.mark.parametrize("attempt, seconds", [(1, 5), (2, 10), (3, 20), (4, 40)])
    def test_the_backoff_doubles_with_each_attempt(self, attempt: int, seconds: float) -> None:
        from neon_mq_connector.utils.connection_utils import get_timeout

        assert get_timeout(5, attempt) == seconds
        assert get_timeout(backoff_factor=5, number_of_retries=attempt) == seconds
