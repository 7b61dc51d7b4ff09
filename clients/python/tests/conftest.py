"""Every test here runs against the real daemon on real namespaces. `cargo xtask test python` runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Callable, Iterator, Sequence

import pytest
from cluster import Cluster

from partition_injector import Injector
from partition_injector.lab import Lab

pytest_plugins = ["pytester"]

BINARY = os.environ.get("INJECTOR_BINARY", "injector")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def daemon(cluster: Cluster) -> Iterator[Lab]:
    with Lab(cluster.config(), binary=BINARY) as lab:
        lab.injector().wait_healthy()
        yield lab


@pytest.fixture
def inj(daemon: Lab) -> Iterator[Injector]:
    with Injector(daemon.socket) as inj:
        inj.wait_healthy()
        yield inj
    # Whatever a test left: the next one begins with a whole network.
    Injector(daemon.socket).heal_all()


@pytest.fixture
def live(inj: Injector) -> Callable[[], list[str]]:
    """The names of the partitions that cut now."""
    return lambda: [view.name for view in inj.partitions() if view.state in ("active", "scheduled", "prepared")]


# What the user has set for programs of their own. Here, so that fixtures of every scope begin without it.
for _name in (
    *("INJECTOR_SOCKET", "INJECTOR_HOST", "INJECTOR_LOG", "NOTIFY_SOCKET"),
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONWARNINGS"),
    *("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS"),
    # Those of the examples.
    *("CLIENT", "CODE", "DEADLINE", "HELD", "HOLD", "INJECTOR", "PATIENCE", "SHAPES", "TEST"),
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"),
):
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def script(text: str) -> list[str]:
    """A Python program of its own."""
    return [sys.executable, "-c", text]


@pytest.fixture
def suite(pytester: pytest.Pytester, daemon: Lab, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("INJECTOR_SOCKET", daemon.socket)
    return pytester


_children: "list[subprocess.Popen[str]]" = []


def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    """A process whose output is read, and which the end of the test ends."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)
    _children.append(child)
    return child


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    while _children:
        child = _children.pop()
        child.kill()
        child.wait()


def background(suite: pytest.Pytester, *arguments: str) -> "subprocess.Popen[str]":
    """A suite that continues beside the test."""
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *arguments]
    return start(command, cwd=suite.path, stderr=subprocess.STDOUT)
