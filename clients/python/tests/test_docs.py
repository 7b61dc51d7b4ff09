"""The suites of docs/clients/python.md, as they are on the page."""

from __future__ import annotations

import pathlib
import re

import pytest
from cluster import Cluster

from partition_injector import Injector
from partition_injector.lab import Lab

PAGE = pathlib.Path(__file__).parents[3] / "docs/clients/python.md"
BLOCKS = re.findall(r"^```python *(\w*)\n(.*?)^```", PAGE.read_text(), re.M | re.S)

CLUSTER = """
import subprocess
import sys
import pytest

GET = "import sys, urllib.request; print(urllib.request.urlopen(f'http://10.99.0.{{sys.argv[1][1:]}}:8080/').status)"

class Cluster:
    def get(self, node):
        command = ["ip", "netns", "exec", {netns!r}, sys.executable, "-c", GET, node]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

@pytest.fixture
def cluster():
    return Cluster()
"""


def test_its_code_is_python() -> None:
    for kind, block in BLOCKS:
        # `await` at the top level represents a coroutine of the reader's.
        if "async with" not in block:
            compile(block, str(PAGE), "exec")
    assert [kind for kind, _ in BLOCKS].count("suite") == 3


def test_its_suites_pass(pytester: pytest.Pytester, daemon: Lab, cluster: Cluster, inj: Injector) -> None:
    pytester.makeconftest(CLUSTER.format(netns=cluster.netns("client")))
    suites = {f"test_page_{at}": block for at, (kind, block) in enumerate(BLOCKS) if kind == "suite"}
    pytester.makepyfile(**suites)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-socket={daemon.socket}")
    result.assert_outcomes(passed=3)


def test_its_tables_name_every_option() -> None:
    from partition_injector.pytest_plugin.options import _SETTINGS

    page = PAGE.read_text()
    for name in _SETTINGS:
        assert f"`--injector-{name}`" in page and f"`injector_{name.replace('-', '_')}`" in page
