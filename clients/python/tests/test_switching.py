"""The suites of docs/switching.md after their switch, as they are on the page, on a real cluster."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
from cluster import NODES, Cluster
from conftest import BINARY

from partition_injector import Injector
from partition_injector.lab import Lab

PAGE = (pathlib.Path(__file__).parents[3] / "docs/switching.md").read_text()

# What a suite has of its own: how it asks its cluster.
CLUSTER = """
import subprocess
import sys
import time
import pytest

GET = "import sys, urllib.request; urllib.request.urlopen(f'http://10.99.0.{{sys.argv[1][1:]}}:8080/', timeout=1)"

class Cluster:
    def eventually_serves(self, node):
        command = ["ip", "netns", "exec", {netns!r}, sys.executable, "-I", "-S", "-c", GET, node]
        end = time.monotonic() + 15
        while subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < end, f"{{node}} does not serve"

@pytest.fixture
def cluster():
    return Cluster()

@pytest.fixture(autouse=True)
def at_rest():
    # A node that was cut off for a moment may answer by 503 a moment later.
    time.sleep(1.5)
"""


def blocks(kind: str) -> "list[str]":
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)


def test_each_suite_has_a_before_and_an_after() -> None:
    kinds = ("python", "python suite", "sh not-run other-tool", "sh suite")
    assert [len(blocks(kind)) for kind in kinds] == [2, 2, 1, 1]
    for block in blocks("python"):
        compile(block, "docs/switching.md", "exec")
    # The tests are those of before: what cuts the network is what changes.
    for kind in ("the_majority_serves", "without_one_link"):
        of = rf"^def test_{kind}.*?(?=^\S|\Z)"
        before, after = (re.findall(of, "\n".join(blocks(kind)), re.M | re.S) for kind in ("python", "python suite"))
        assert before == after and before


def test_the_suites_of_pytest_pass(suite: pytest.Pytester, cluster: Cluster, inj: Injector) -> None:
    suite.makeconftest(CLUSTER.format(netns=cluster.netns("client")))
    suite.makepyfile(**{f"test_page_{at}": block for at, block in enumerate(blocks("python suite"))})
    suite.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
    cuts = [event.name for event in inj.events(since=0, follow=False) if type(event).__name__ == "CutEvent"]
    assert len(cuts) == 3, cuts


def test_the_script_passes_and_its_checks_decide(
    tmp_path: pathlib.Path, daemon: Lab, cluster: Cluster, inj: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "injector").symlink_to(pathlib.Path(BINARY).absolute())
    script = tmp_path / "suite.sh"
    script.write_text(blocks("sh suite")[0])
    asking = (
        "ip netns exec {netns} {python} -I -S -c 'import urllib.request; "
        'urllib.request.urlopen("http://10.99.0.{host}:8080/", timeout=1)\' 2>/dev/null'
    )
    def check(name: str, nodes: "tuple[str, ...]") -> None:
        lines = [asking.format(netns=cluster.netns("client"), python=sys.executable, host=node[1:]) for node in nodes]
        # A leader may have to be elected first.
        text = "\n".join(f"for _ in $(seq 50); do {line} && break; done\n{line} || exit 1" for line in lines)
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("INJECTOR_SOCKET", daemon.socket)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["sh", str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    check("check-majority", ("n2", "n3"))
    check("check-all", NODES)
    done = run()
    assert done.returncode == 0 and "recovered" in done.stderr, done.stdout + done.stderr
    # A node that is isolated has no quorum, once its last heartbeats are old.
    ask = asking.format(netns=cluster.netns("client"), python=sys.executable, host=1)
    fails = f"{{ {ask} || {ask} || {ask}; }} || exit 1"
    (tmp_path / "check-majority").write_text(f"#!/bin/sh\nfor _ in $(seq 50); do {fails}; sleep 0.1; done\n")
    assert run().returncode == 1
