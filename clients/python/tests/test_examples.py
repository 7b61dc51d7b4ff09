"""The examples for shells, make and CI, run as they are in `examples/`."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from typing import Any, Callable, Iterator

import pytest
from cluster import Cluster, until
from conftest import BINARY, start

from partition_injector import Injector
from partition_injector.lab import Lab

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"


@pytest.fixture
def place(tmp_path: pathlib.Path, daemon: Lab, inj: Injector, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with the examples, where `injector` and `sudo` are in PATH, and the daemon is the lab's."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "injector").symlink_to(os.path.abspath(BINARY))
    for name, command in {"python3": sys.executable, "sudo": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("INJECTOR_SOCKET", daemon.socket)
    monkeypatch.setenv("HOLD", "1500ms")
    monkeypatch.setenv("DEADLINE", "10s")
    return tmp_path


def run(place: pathlib.Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, **environment}
    return subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, errors="replace", timeout=300)


def page_scripts() -> "list[str]":
    """The blocks of the page that are marked as suites: how `suite.sh` is started, and a script."""
    page = (EXAMPLES.parent / "docs/clients/shell.md").read_text()
    scripts = re.findall(r"^```sh suite\n(.*?)^```", page, re.M | re.S)
    assert len(scripts) == 2
    return scripts


def test_the_suite_passes(place: pathlib.Path, cluster: Cluster) -> None:
    # As on the page, from a folder that has `examples`; the address is the lab's, and the holds are short.
    script = page_scripts()[0].replace("examples/", "").replace("HOLD=5s", "HOLD=1500ms")
    script, count = re.subn(
        r"curl -fsS -m 2 http://10\.0\.0\.(\d):8080/health",
        rf"ip netns exec {cluster.netns('client')} curl -fsS -m 2 http://10.99.0.\1:8080/",
        script,
    )
    assert count == 2
    done = run(place, "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ["one_node", "halves", "one_direction", "each_sees_a_majority", "client"]
    assert re.findall(r"^PASS (\w+) \(\d+ s\)$", done.stdout, re.M) == names
    assert done.stdout.endswith("5 passed, 0 failed, 0 unknown\n")
    suite = xml.parse(place / "junit.xml").getroot()
    assert suite.attrib == {"name": "partitions", "tests": "5", "failures": "0", "errors": "0"}
    assert [case.attrib["name"] for case in suite] == names
    assert "recovered" in (suite[0].findtext("system-out") or "")


def test_its_exit_codes(place: pathlib.Path, inj: Injector, live: Callable[[], list[str]]) -> None:
    # A failure of the client, a deadline that nobody meets, and a cut that ends before its command.
    done = run(place, "sh", "suite.sh", "--junit", "junit.xml", "client", "one_node", CLIENT="echo '<&>'; exit 3", HOLD="3s", DEADLINE="1ms")
    assert done.returncode == 1, done.stdout
    assert "FAIL client" in done.stdout and "FAIL one_node" in done.stdout
    assert done.stdout.endswith("0 passed, 2 failed, 0 unknown\n")
    suite = xml.parse(place / "junit.xml").getroot()
    failure = suite[0].find("failure")
    assert failure is not None and failure.attrib["message"] == "FAIL: exit code 3"
    assert "<&>" in (suite[0].findtext("system-out") or "")
    # What the client exits with is never the injector's own exit code.
    done = run(place, "sh", "suite.sh", "client", CLIENT="exit 2")
    assert done.returncode == 1 and "FAIL client" in done.stdout, done.stdout
    done = run(place, "sh", "suite.sh", "client", CLIENT='injector heal "$INJECTOR_PARTITION"')
    assert done.returncode == 2 and "UNKNOWN client" in done.stdout and "another client healed it" in done.stdout
    # A cut that is refused says nothing of the cluster: by the command line, which can't be read, or by the daemon.
    done = run(place, "sh", "suite.sh", "client", "one_node", CLIENT="true", DEADLINE="soon")
    assert done.returncode == 2 and done.stdout.endswith("0 passed, 0 failed, 2 unknown\n"), done.stdout
    refused = (place / "suite.sh").read_text().replace("injector with random-node", "injector with isolate n9")
    (place / "refused.sh").write_text(refused)
    done = run(place, "sh", "refused.sh", "client", CLIENT="true")
    assert done.returncode == 2 and 'unknown peer "n9"' in done.stdout, done.stdout
    # A client may exit with any of these codes itself.
    done = run(place, "sh", "suite.sh", "client", CLIENT="exit 64")
    assert done.returncode == 1 and "FAIL client" in done.stdout, done.stdout
    # What XML can't have is left out.
    client = r"printf '\033[31mred \302\265 \377\000\n'; exit 3"
    done = run(place, "sh", "suite.sh", "--junit", "junit.xml", "client", CLIENT=client)
    assert done.returncode == 1, done.stdout
    assert "[31mred µ \n" in (xml.parse(place / "junit.xml").getroot()[0].findtext("system-out") or "")
    # Nor does a cut of a scope without traffic: the client passes, and no packet is dropped.
    script = (place / "suite.sh").read_text()
    (place / "idle.sh").write_text(script.replace("--wait -- ", "--wait --scope proto/253 -- ").replace("sleep 2; ", ""))
    done = run(place, "sh", "idle.sh", "client", CLIENT="true")
    assert done.returncode == 2 and "UNKNOWN client" in done.stdout and "not proved" in done.stdout, done.stdout
    # A cut of a cluster that is not healthy shows nothing.
    with inj.partition(isolate=["n1"]):
        until(lambda: any(endpoint.healthy is False for endpoint in inj.status().endpoints))
        done = run(place, "sh", "suite.sh", "one_node", PATIENCE="1")
    assert done.returncode == 2 and "UNKNOWN one_node" in done.stdout and "not healthy within 1s" in done.stdout
    for words, code, sentence in [
        (["--junit"], 64, "--junit needs a file"),
        (["--color"], 64, "unknown option --color"),
        (["three_nodes"], 64, "no case three_nodes; there are: one_node"),
    ]:
        done = run(place, "sh", "suite.sh", *words)
        assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    done = run(place, "sh", "suite.sh", INJECTOR_SOCKET="/nowhere.sock")
    assert done.returncode == 69 and "sudo injector start" in done.stderr
    assert live() == []


def runs(group: int, command: bytes) -> bool:
    """Whether a process of this group is an `injector` with this command."""
    for process in pathlib.Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"injector") and command in words and os.getpgid(int(process.name)) == group:
                return True
        except (OSError, ValueError):
            # It has ended, or is none.
            continue
    return False


def test_an_interrupted_suite_heals(place: pathlib.Path, live: Callable[[], list[str]]) -> None:
    environment: Any = {**os.environ, "HOLD": "60s"}
    child = start(["sh", "suite.sh", "one_node"], cwd=place, env=environment, start_new_session=True)
    # A shell loses a signal that comes between its fork and the start of the next command.
    until(lambda: len(live()) == 1 and runs(child.pid, b"wait"))
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(20) == 130
    assert live() == []


def test_make_runs_a_test_under_each_shape(place: pathlib.Path, live: Callable[[], list[str]]) -> None:
    (place / "my-test").write_text('#!/bin/sh\necho "under $INJECTOR_PARTITION"\nsleep ${HELD:-1.5}\nexit ${CODE:-0}\n')
    (place / "my-test").chmod(0o755)
    done = run(place, "make", "-j4", "SHAPES=random-node split:n1,n2:n3")
    assert done.returncode == 0, done.stderr
    assert "injector with split n1,n2 n3 --for 60s --deadline 10s --wait -- ./my-test" in done.stdout
    assert len(re.findall("^under ", done.stdout, re.M)) == 2
    # A name's own signs stay as they are.
    done = run(place, "make", "-n", "SHAPES=isolate:db_1:db-2.x split:a_1,@leader:b_2")
    assert re.findall(r"injector with (.*) --for", done.stdout) == ["isolate db_1 db-2.x", "split a_1,@leader b_2"], done.stderr
    # What no packet crosses is not proved to be cut, whatever the test says.
    done = run(place, "make", "SHAPES=isolate:n1:--scope:proto/253")
    assert done.returncode == 2 and "Error 125" in done.stderr and "not proved" in done.stderr, done.stderr
    done = run(place, "make", "-k", CODE="7")
    assert done.returncode == 2 and len(re.findall("Error 7", done.stderr)) == 3, done.stderr
    assert live() == []


def test_the_script_of_the_page(place: pathlib.Path, cluster: Cluster) -> None:
    script = page_scripts()[1]
    (place / "my-test").write_text("#!/bin/sh\nsleep 1.5\nexit ${CODE:-0}\n")
    (place / "my-test").chmod(0o755)
    done = run(place, "sh", "-c", script)
    assert done.returncode == 0 and "recovered" in done.stderr, done.stdout + done.stderr
    assert run(place, "sh", "-c", script, CODE="9").returncode == 9


@pytest.fixture
def steps(place: pathlib.Path, cluster: Cluster, inj: Injector, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The commands of the workflow, except for the user's own. Its daemon is another one, on the same namespaces."""
    config = place / "lab.yaml"
    config.write_text(cluster.config(file="workflow.yaml").read_text().replace(f"{cluster.folder}/run", str(place / "run")))
    sock = str(place / "run" / "api.sock")
    monkeypatch.setenv("INJECTOR_SOCKET", sock)
    (place / "tests").mkdir()
    (place / "tests" / "test_it.py").write_text("def test_it(injector):\n    injector.partition(isolate=['n1'])\n")
    text = (place / "workflow.yaml").read_text()
    found = re.findall(r'- name: "?(.+?)"?\n(?:\s+if: always\(\)\n)?\s+run: (.+)\n', text)
    assert len(found) == len(re.findall(r"\brun: ", text))
    yield [(name, command) for name, command in found if not name.startswith("Yours")]
    subprocess.run(["sh", "-c", f"kill $(cat {place}/pid 2>/dev/null) 2>/dev/null"])


def test_the_workflow_runs(
    cluster: Cluster, place: pathlib.Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name, _ in steps]
    assert names[:3] == ["Install pytest and its plugin", "Check this host", "Start the daemon"] and names[-1] == "Stop the daemon"
    # The environment is made as the workflow makes it. What pip would take from an index is there already, as the tests' own.
    environment, install = steps.pop(0)[1].split(" && ")
    assert install == "venv/bin/pip install pytest ./clients/python"
    assert (EXAMPLES.parent / "clients/python/pyproject.toml").exists()
    done = run(place, "sh", "-c", f"{environment} --without-pip")
    assert done.returncode == 0 and (place / "venv/bin/python").exists(), done.stderr
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    packages = [path for path in sys.path if "-packages" in path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*given, *packages]))
    for name, command in steps:
        done = run(place, "bash", "-e", "-o", "pipefail", "-c", command)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        if name == "Start the daemon":
            pid = re.findall(r"pid (\d+)", done.stdout)[0]
            (place / "pid").write_text(pid)
            Injector(place / "run" / "api.sock").wait_healthy()
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    for file in ("junit-shell.xml", "junit-pytest.xml"):
        assert next(xml.parse(place / file).getroot().iter("testsuite")).attrib["failures"] == "0"
    assert (place / "timeline.jsonl").stat().st_size > 0
    assert list(place.glob("partitions/*/record-*.json"))
