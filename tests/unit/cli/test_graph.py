"""`neon-mq graph`: what a class consumes and asks, and that each form can be read."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from neon_mq_connector.cli.drawing import to_dot, to_mermaid, to_svg
from neon_mq_connector.operations.graph import Graph, Kind, Node
from tests.support.nodes import free_port
from tests.unit.cli.conftest import Run

SERVICES = """
from neon_mq_connector import MQConnector, consumer, subscriber


class Shop(MQConnector):
    def __init__(self, config=None, service_name="shop"):
        super().__init__(config, service_name)

    @consumer("shop_price_input", exchange="trade", routing_keys=["price"])
    def price(self, data: dict) -> dict: ...

    @subscriber("shop_news")
    def on_news(self, data: dict) -> None: ...

    def pre_run(self, **_):
        self.register_consumer("late", self.vhost, "shop_late", lambda *_: None)


class Till(MQConnector):
    def __init__(self, config=None, service_name="till"):
        super().__init__(config, service_name)

    @consumer("till_input")
    def pay(self, data: dict) -> dict:
        return dict(each for item in data for each in self.request(item, Shop.price).items())


class Client(MQConnector):
    def __init__(self, config=None, service_name="client"):
        super().__init__(config, service_name)

    def pay(self):
        return self.request({}, Till.pay)
"""
CONFIG = (
    '{"users": {"shop": {"user": "a", "password": "b"}, "till": {"user": "a", "password": "b"}}}'
)


def graph_of(run: Run, folder: Path, *arguments: str) -> str:
    name = f"graph_services_{folder.name.strip('_')}".replace("-", "_")
    (folder / f"{name}.py").write_text(SERVICES)
    (folder / "config.json").write_text(CONFIG)
    classes = [f"{name}:{kind}" for kind in ("Shop", "Till", "Client")]
    done = run("graph", *classes, "--config", "config.json", *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_services_are_drawn_with_what_they_consume_and_ask(run: Run, tmp_path: Path) -> None:
    text = graph_of(run, tmp_path)
    nodes = dict(re.findall(r'^    (n\d+)[\[({]+"(.*?)"', text, re.MULTILINE))
    edges = {
        (nodes[source], label, nodes[target])
        for source, label, target in re.findall(r'(n\d+) -->(?:\|"(.*)"\|)? (n\d+)', text)
    }
    assert edges == {
        ("trade", "price", "shop_price_input"),
        ("shop_price_input", "", "shop"),
        ("shop_news", "", "shop: on_news"),
        ("shop: on_news", "", "shop"),
        ("till_input", "", "till"),
        ("till", "asks", "shop_price_input"),
        ("client", "asks", "till_input"),
    }


def test_the_name_of_the_file_says_how_to_draw(run: Run, tmp_path: Path) -> None:
    assert graph_of(run, tmp_path, "--output", "graph.svg") == ""
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert "shop_price_input" in texts
    assert "asks" in texts


def test_names_are_escaped_in_each_form() -> None:
    strange = Graph()
    for name in ('a "quoted" <name>', "b&b", "ü" * 300):
        strange.connect(Node(Kind.EXCHANGE, name), Node(Kind.QUEUE, name), '"<key>"')
    root = ElementTree.fromstring(to_svg(strange))
    assert any(each.text == 'a "quoted" <name>' for each in root.iter())
    assert r'label="a \"quoted\" <name>"' in to_dot(strange)
    assert '"a #quot;quoted#quot; #lt;name#gt;"' in to_mermaid(strange)


def test_without_a_management_interface_it_says_so(run: Run) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = run("graph", "--url", "amqp://a:b@127.0.0.1/", "--management", nowhere)
    assert done.exit_code == 3
    assert done.stderr.count("\n") == 1


def test_what_is_registered_in_pre_run_is_there_if_it_is_called(run: Run, tmp_path: Path) -> None:
    assert "shop_late" not in graph_of(run, tmp_path)
    assert "shop_late" in graph_of(run, tmp_path, "--pre-run")


@pytest.mark.parametrize(
    "body, problem",
    [
        (
            '    def __init__(self, config=None, service_name="s"):\n        1 / 0\n',
            "ZeroDivisionError",
        ),
        ("    @consumer('q')\n    def ask(self, data: 'Nowhere') -> dict: ...\n", "Nowhere"),
    ],
)
def test_a_service_that_cannot_be_used_is_an_error_of_usage(
    run: Run, tmp_path: Path, body: str, problem: str
) -> None:
    name = f"unusable_{problem.lower()}"
    start = "from neon_mq_connector import MQConnector, consumer\nclass Service(MQConnector):\n"
    (tmp_path / f"{name}.py").write_text(start + body)
    (tmp_path / "config.json").write_text(CONFIG)
    for command in ("graph", "asyncapi", "doctor"):
        done = run(command, f"{name}:Service", "--config", "config.json", "--user", "shop")
        assert done.exit_code == 2, done.stderr
        assert problem in done.stderr
        assert done.stderr.count("\n") == 1
