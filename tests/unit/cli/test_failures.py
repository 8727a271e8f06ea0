"""What a user sees when a command cannot do what it was asked for; no broker is needed for that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from neon_mq_connector import errors
from neon_mq_connector.cli.exits import ExitCode, exit_code_of
from neon_mq_connector.testing import ManagementError, PrivateBroker
from tests.support.nodes import free_port
from tests.unit.cli.conftest import Run

SECRET = "s3cr3t-word"
ASK = ("request", "queue", '{"a": 1}')
LONG = "ü" * 150  # 300 bytes


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_port()}"


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ASK,
        ("send", "queue", '{"a": 1}'),
        ("send", "--exchange", "news", '{"a": 1}'),
        ("listen", "--exchange", "news"),
        ("listen", "--queue", "queue"),
    ],
    ids=" ".join,
)
def test_no_broker_is_one_line_that_names_the_address_and_what_to_do(
    run: Run, nobody: str, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, "--url", f"amqp://me:{SECRET}@{nobody}/")
    assert done.exit_code == ExitCode.NO_BROKER
    line = one_line(done.stderr)
    assert line.startswith(f"Error: no broker answers at {nobody}")
    assert "is a broker running there?" in line
    assert "--url" in line
    assert SECRET not in done.output


@pytest.mark.parametrize("source", ["a file", "the environment"])
def test_what_names_a_broker_that_is_not_there_is_named(
    run: Run, nobody: str, tmp_path: Path, source: str
) -> None:
    if source == "a file":
        host, port = nobody.split(":")
        users = {"mq_handler": {"user": "me", "password": SECRET}}
        path = tmp_path / "mq.json"
        path.write_text(json.dumps({"MQ": {"server": host, "port": int(port), "users": users}}))
        done, named = run(*ASK, "--config", str(path)), f"(these settings are from {path})"
    else:
        done = run(*ASK, env={"NEON_MQ_URL": f"amqp://u:{SECRET}@{nobody}/"})
        named = "NEON_MQ_URL"
    assert done.exit_code == ExitCode.NO_BROKER
    assert named in one_line(done.stderr)
    assert SECRET not in done.output


def test_debug_shows_where_and_keeps_the_line(run: Run, nobody: str) -> None:
    for arguments in (("--debug", *ASK), (*ASK, "--debug")):
        done = run(*arguments, "--url", f"amqp://me:{SECRET}@{nobody}/")
        assert done.exit_code == ExitCode.NO_BROKER
        assert "Traceback" in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("Error: no broker answers")
        assert SECRET not in done.output


def test_no_configuration_says_what_to_give(run: Run) -> None:
    done = run(*ASK)
    assert done.exit_code == ExitCode.CONFIGURATION
    line = one_line(done.stderr)
    assert "NEON_MQ_URL=amqp://user:password@host:port/vhost, or give that as --url" in line
    assert "--config FILE" in line
    assert "mq_config.json" in line


@pytest.mark.parametrize(
    "content, options, words",
    [
        ('{"MQ": {"port": "no"}}', (), "set MQ.port in {path}"),
        ('{"MQ": ', (), "{path}: is not JSON"),
        ('{"users": {"one": {}}}', ("--user", "other"), "users has one; add users.other"),
        (
            f'{{"users": {{"mq_handler": {{"password": "{SECRET}"}}}}}}',
            (),
            "set users.mq_handler.user in {path}",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named_with_its_key(
    run: Run, tmp_path: Path, content: str, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "mq.json"
    path.write_text(content)
    done = run(*ASK, "--config", str(path), *options)
    assert done.exit_code == ExitCode.CONFIGURATION
    assert words.format(path=path) in one_line(done.stderr)
    assert SECRET not in done.output


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("listen",), "either --exchange NAME or --queue NAME"),
        (("listen", "--exchange", "a", "--queue", "b"), "either --exchange NAME or --queue NAME"),
        (("listen", "--queue", "b", "--routing-key", "k"), "--routing-key is for --exchange"),
        (("send", '{"a": 1}'), "name one QUEUE"),
        (("send", "--exchange", "x", "queue", '{"a": 1}'), "a fanout exchange knows no QUEUE"),
        (
            ("send", "--exchange", "x", "--type", "topic", '{"a": 1}'),
            "a topic exchange needs a routing key",
        ),
        (("send", "queue", "{"), "is not JSON at line 1, column 2"),
        (("request", "queue", "[]"), "a message is an object"),
        ((*ASK, "--timeout", "0"), "--timeout"),
        ((*ASK, "--timeout", "nan"), "'nan' is not a number of seconds"),
        (("send", "queue", '{"a": 1}', "--expires", "nan"), "'nan' is not a number of seconds"),
        (("send", "queue", '{"a": 1}', "--expires", "5000000"), "--expires"),
        (("request", LONG, '{"a": 1}'), "AMQP allows 255 bytes"),
        (("listen", "--exchange", "x", "--routing-key", LONG), "AMQP allows 255 bytes"),
        (("listen", "--queue", "q", "--vhost", LONG), "AMQP allows 255 bytes"),
        (("listen", "--exchange", "a", "--make-queue"), "--make-queue is for --queue"),
        (("request", "queue"), "JSON"),
        (("broker", "--port", "70000"), "--port"),
        (("broker", "--service", "me"), "--write-config"),
        (("broker", "--embedded", "--directory", "data"), "--directory"),
        (("nonsense",), "nonsense"),
        (("requset", "queue"), "Did you mean 'request'?"),
        (("brokr",), "Did you mean 'broker'?"),
        (("send", "queue", "--expire", "3"), "--expires"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_line_that_cannot_be_used_says_why(
    run: Run, nobody: str, arguments: tuple[str, ...], words: str
) -> None:
    needs_url = arguments[0] in ("listen", "send", "request")
    done = run(*arguments, *(["--url", f"amqp://u:p@{nobody}/"] if needs_url else []))
    assert done.exit_code == ExitCode.USAGE
    assert words in done.stderr


def test_url_and_config_exclude_each_other_but_for_the_environment(
    run: Run, nobody: str, tmp_path: Path
) -> None:
    url = f"amqp://u:p@{nobody}/"
    path = tmp_path / "mq.json"
    path.write_text("{}")
    assert run(*ASK, "--url", url, "--config", str(path)).exit_code == ExitCode.USAGE
    done = run(*ASK, "--config", str(path), env={"NEON_MQ_URL": url})
    assert done.exit_code == ExitCode.CONFIGURATION
    assert str(path) in done.stderr


def test_a_private_broker_without_rabbitmq_says_how_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neon_mq_connector.testing import programs

    monkeypatch.setattr(programs, "_FOLDERS", ())
    for command in (("broker",), ("demo", "--rabbitmq")):
        done = run(*command, env={"PATH": "", "RABBITMQ_HOME": ""})
        assert done.exit_code == ExitCode.NO_BROKER
        assert "apt-get install rabbitmq-server" in done.stderr
        assert "neon-mq broker --embedded" in done.stderr


@pytest.mark.parametrize(
    "option, place, problem",
    [
        ("--directory", "file/folder/deep", "cannot be made"),
        ("--directory", "unwritable", "cannot be written"),
        ("--write-config", "file", "exists already"),
        ("--write-config", "dangling", "exists already"),
        ("--write-config", "missing/mq.json", "cannot be written: no such file or directory"),
        ("--write-config", "file/mq.json", "cannot be written: not a directory"),
    ],
)
def test_what_a_private_broker_cannot_write_is_told_before_there_is_a_node(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    place: str,
    problem: str,
) -> None:
    (tmp_path / "file").write_text("{}")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "unwritable").mkdir()
    # permissions mean nothing to root
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path / "unwritable")
    start = Mock(side_effect=AssertionError("a node was started"))
    monkeypatch.setattr(PrivateBroker, "start", start)
    done = run("broker", option, str(tmp_path / place))
    assert done.exit_code == ExitCode.USAGE
    assert f"{option}: {tmp_path / place} {problem}" in one_line(done.stderr)
    assert (tmp_path / "file").read_text() == "{}"


@pytest.mark.parametrize(
    "raised, code, told",
    [
        (RuntimeError("out of luck"), ExitCode.INTERNAL, "out of luck (run it with --debug"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
    ],
    ids=repr,
)
def test_what_nobody_expects_has_a_code_of_its_own_and_no_traceback(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: ExitCode,
    told: str,
) -> None:
    monkeypatch.setattr("neon_mq_connector.cli.options.find_source", Mock(side_effect=raised))
    done = run(*ASK)
    assert done.exit_code == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.PublishLostError("x", may_have_arrived=True), ExitCode.NOT_DELIVERED),
        (errors.RequestLostError("x"), ExitCode.NO_BROKER),
        (errors.DecodeError("x"), ExitCode.FAILED),
        (ManagementError("x", status=401), ExitCode.REFUSED),
    ],
)
def test_what_commands_seldom_meet_has_an_exit_code_too(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_a_message_whose_queue_may_not_be_declared_was_refused() -> None:
    error = errors.UnroutableError("x", may_have_arrived=False)
    error.__cause__ = errors.TopologyError("x")
    assert exit_code_of(error) is ExitCode.REFUSED
