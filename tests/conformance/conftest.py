# SPDX-License-Identifier: Apache-2.0
"""Chooses the target, hands each case its server, and judges an outcome by the case's tag."""

import dataclasses
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import table
from cases import Case, Options
from client import Client
from receiver import Hook, LocalServer, PictureHandler, WebhookHandler
from targets import OURS, CogletTarget, OurTarget, Pool, Running, Target, UrlTarget


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--target",
                    choices=("ours", "demo", "coglet"),
                    default="ours",
                    help="what to start and ask")
    group.addoption("--base-url", help="ask this running server instead")
    group.addoption("--table", action="store_true", help="write the outcomes into README.md")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--table") and target_name(config) not in ("ours", "coglet"):
        raise pytest.UsageError(
            "--table writes the columns of --target ours and --target coglet only")
    config.addinivalue_line("markers", "case(declared): a case of the contract; see cases.py")
    config.addinivalue_line(
        "markers", "any_engine: holds with a real model too, not only with the fake engine")


def case_of(item: pytest.Item) -> Any:
    mark = item.get_closest_marker("case")
    return mark.args[0] if mark else None


def target_name(config: pytest.Config) -> str:
    return "url" if config.getoption("--base-url") else config.getoption("--target")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        assert case_of(item), f"{item.nodeid} is not declared as a case"
    if target_name(config) == "demo":
        dropped = [item for item in items if not item.get_closest_marker("any_engine")]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item.get_closest_marker("any_engine")]


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    if url := request.config.getoption("--base-url"):
        return UrlTarget(url)
    name = request.config.getoption("--target")
    if name == "coglet":
        return CogletTarget()
    if name == "demo":
        bundle = os.environ.get("IDEFICS_DEMO_BUNDLE") or pytest.skip(
            "IDEFICS_DEMO_BUNDLE names no bundle")
        return OurTarget((OURS, "serve", "--model", bundle))
    return OurTarget()


@pytest.fixture(scope="session")
def pool(target: Target) -> Iterator[Pool]:
    pool = Pool(target)
    yield pool
    pool.close()


@pytest.fixture
def declared(request: pytest.FixtureRequest, target: Target) -> Case:
    declared = case_of(request.node)
    if declared.only_ours and target.name == "coglet":
        pytest.skip(f"not put to coglet: {declared.coglet}")
    return declared


@pytest.fixture
def server(declared: Case, pool: Pool) -> Iterator[Client]:
    """The running server that the case's options ask for."""
    server = pool.take(declared.options)
    yield server
    pool.give_back(declared.options, server)


@pytest.fixture
def start(declared: Case, pool: Pool) -> Iterator[Callable[..., Client]]:
    """start(ready=…, env=…, …) -> a process of the case's own, with the case's options changed by
    these."""
    started: list[Client] = []

    def run(**changes: Any) -> Client:
        if isinstance(changes.get("env"), dict):
            changes["env"] = tuple(changes["env"].items())
        options = dataclasses.replace(declared.options, **{"fresh": True, **changes})
        started.append(pool.take(options))
        return started[-1]
    yield run
    for server in started:
        assert isinstance(server, Running)
        server.kill()


@pytest.fixture
def idle(pool: Pool) -> Client:
    """A server that no case asks for anything: what the machine does to any."""
    return pool.take(Options(env=(("IDEFICS_TEST", "idle"),)))


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """The fake engine waits for this file: `hold.touch()` lets it go on (docs/cog-api.md)."""
    return tmp_path / "go"


@pytest.fixture(scope="session")
def webhooks() -> Iterator[LocalServer]:
    local = LocalServer(WebhookHandler)
    yield local
    local.stop()


@pytest.fixture
def hook(webhooks: LocalServer) -> Hook:
    return webhooks.hook()


@pytest.fixture(scope="session")
def pictures() -> Iterator[LocalServer]:
    local = LocalServer(PictureHandler)
    yield local
    local.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
        item: pytest.Item,
        call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A case that is not tagged "c" may fail against coglet: that is what its tag says."""
    report = yield
    declared = case_of(item)
    table.note(declared, report, call)
    if report.failed and target_name(item.config) == "coglet" and declared.tag != "c":
        report.outcome = "skipped"
        report.wasxfail = declared.coglet or "differs on purpose"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--table"):
        table.write(target_name(session.config))
