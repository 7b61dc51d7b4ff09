"""The fixture `lab`, and what its tests say where something is missing. Each test runs a suite of its own."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import pytest
from cluster import Cluster, until
from conftest import BINARY, background
from test_docs import BLOCKS, PAGE


@pytest.mark.parametrize("how", ["option", "ini", "marker"])
def test_a_lab_starts_a_daemon_and_stops_it(
    pytester: pytest.Pytester, cluster: Cluster, tmp_path: pathlib.Path, how: str
) -> None:
    config = cluster.config(file="labs.yaml")
    pytester.makepyfile(
        f"""
        import pathlib
        import pytest

        {'@pytest.mark.injector_lab(' + repr(str(config)) + ')' if how == 'marker' else ''}
        def test_lab(lab, injector):
            status = injector.wait_healthy()
            pathlib.Path({str(tmp_path / 'pids')!r}).open("a").write(f"{{status.pid}} {{lab.folder}}\\n")
            with injector.partition(isolate=["n1"]):
                assert lab.injector().partitions()

        {'@pytest.mark.injector_lab(' + repr(str(config)) + ')' if how == 'marker' else ''}
        def test_again(injector):
            status = injector.status()
            pathlib.Path({str(tmp_path / 'pids')!r}).open("a").write(f"{{status.pid}} -\\n")
        """
    )
    if how == "ini":
        pytester.makeini(f"[pytest]\ninjector_config = {os.path.relpath(config, pytester.path)}\ninjector_binary = {BINARY}\n")
    option = [f"--injector-config={config}"] if how == "option" else []
    pytester.runpytest_subprocess("-p", "no:cacheprovider", *option).assert_outcomes(passed=2)
    first, second = (tmp_path / "pids").read_text().splitlines()
    pid, folder = first.split()
    assert second.split()[0] == pid, "one daemon for both tests"
    assert not os.path.exists(f"/proc/{pid}") and not os.path.exists(folder)


def test_the_suite_of_the_page_that_starts_a_daemon_passes(pytester: pytest.Pytester, cluster: Cluster) -> None:
    (suite,) = (block for kind, block in BLOCKS if kind == "lab")
    (ini,) = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    pytester.makefile(".yaml", lab=cluster.config().read_text())
    pytester.makeini(ini)
    pytester.makepyfile(suite)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-binary={BINARY}").assert_outcomes(passed=1)


def test_workers_share_one_lab(pytester: pytest.Pytester, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    config = cluster.config(file="shared.yaml")
    pytester.makepyfile(
        f"""
        import os, pathlib, time
        import pytest

        @pytest.mark.parametrize("turn", range(4))
        def test_lab(injector, turn):
            folder = pathlib.Path({str(tmp_path)!r})
            (folder / f"{{turn}}").write_text(f"{{injector.status().pid}} {{os.getpid()}}")
            # The last worker to end its tests stops the daemon: it is not to be done before the other begins.
            end = time.monotonic() + 60
            while len({{file.read_text().split()[-1] for file in folder.iterdir() if file.read_text()}}) < 2:
                assert time.monotonic() < end, "one worker has run all tests"
                time.sleep(0.05)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n2", f"--injector-config={config}").assert_outcomes(passed=4)
    pids = [(tmp_path / str(turn)).read_text().split() for turn in range(4)]
    assert len({daemon for daemon, _ in pids}) == 1 and len({worker for _, worker in pids}) == 2
    assert not os.path.exists(f"/proc/{pids[0][0]}")


def test_fixtures_of_a_wider_scope_use_the_same_daemon(pytester: pytest.Pytester, cluster: Cluster) -> None:
    config = cluster.config(file="wider.yaml")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def cluster(session_lab):
            with session_lab.injector() as injector:
                yield injector.wait_healthy().pid

        @pytest.fixture
        def isolated(injector):
            with injector.partition(isolate=["n1"]) as partition:
                yield partition

        def test_it(cluster, isolated, injector):
            assert injector.status().pid == cluster
            assert isolated.view().state == "active"

        def test_that_another_heals_it(isolated, lab):
            lab.injector().heal(isolated.name)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-config={config}")
    # The second fixture's block was not under its cut until its end.
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.re_match_lines([".*another client healed it.*"])


def test_a_killed_suite_takes_its_lab_along(pytester: pytest.Pytester, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    config = cluster.config(file="killed.yaml")
    pytester.makepyfile(
        """
        import time

        def test_lab(injector, lab):
            injector.partition(isolate=["n1"])
            print("CUT", injector.status().pid, lab.folder, flush=True)
            time.sleep(600)
        """
    )
    child = background(pytester, f"--injector-config={config}")
    assert child.stdout is not None
    line = ""
    while "CUT" not in line:
        line = child.stdout.readline()
        assert line, "it has ended"
    _, pid, folder = line[line.index("CUT") :].split()
    assert not cluster.reaches("n1", "n2") and os.path.exists(f"/proc/{pid}")
    child.kill()
    child.wait(30)
    until(lambda: cluster.reaches("n1", "n2"))
    until(lambda: not os.path.exists(f"/proc/{pid}") and not os.path.exists(folder))


def missing(pytester: pytest.Pytester, sentence: str, *options: str, test: str = "injector") -> None:
    """The fixture fails with this one sentence, and skips where that is asked for."""
    pytester.makepyfile(f"def test_it({test}):\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([f"E? *{sentence}.*"])
    assert "Traceback" not in str(result.stdout) and ".py:" not in str(result.stdout).split("ERROR at setup")[1].split("short test")[0]
    skipped = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rs", "--injector-missing=skip", *options)
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.re_match_lines([f"SKIPPED .*{sentence}.*"])


def test_no_daemon(pytester: pytest.Pytester) -> None:
    missing(
        pytester,
        r"the daemon at .*/no.sock can't be reached: No such file or directory; is it running\? "
        r"Start it with: sudo injector start --config lab.yaml",
        "--injector-socket=no.sock",
    )


def test_no_config(pytester: pytest.Pytester) -> None:
    missing(pytester, r"the fixture `lab` has no config; set injector_config in the ini file", test="lab")


def test_no_such_config(pytester: pytest.Pytester) -> None:
    missing(pytester, r".*/none.yaml: no such config; write one", "--injector-config=none.yaml")


def test_no_program(pytester: pytest.Pytester, cluster: Cluster) -> None:
    options = [f"--injector-config={cluster.config()}", "--injector-binary=no-such-program"]
    missing(pytester, r'there is no program "no-such-program"; build it with `cargo xtask build`', *options)


def test_no_peer(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\ninjector_peers = n1 n7 n8\n")
    missing(suite, r"the daemon at .* has no peer n7, n8 \(it has n1, n2, n3\); start it with the lab's config")


def test_no_namespace(pytester: pytest.Pytester, cluster: Cluster) -> None:
    config = cluster.config(file="absent.yaml")
    config.write_text(config.read_text().replace(cluster.netns("n2"), "nowhere"))
    missing(pytester, r"the lab's .*nowhere.*; .*doctor --config .*absent.yaml", f"--injector-config={config}")


def test_a_faulty_config_always_fails(pytester: pytest.Pytester, cluster: Cluster) -> None:
    config = cluster.config(more="colour: blue\n", file="faulty.yaml")
    pytester.makepyfile("def test_it(injector):\n    pass\n")
    result = pytester.runpytest_subprocess(f"--injector-config={config}", "--injector-missing=skip")
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([r"the lab's daemon did not start: .*faulty.yaml:\d+:1: colour: unknown key .*"])


def test_no_rights(pytester: pytest.Pytester, cluster: Cluster) -> None:
    """In a process that gives up root while it sets the test up."""
    pytester.makeconftest(
        """
        import os
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_setup(item):
            os.seteuid(65534)
            try:
                return (yield)
            finally:
                os.seteuid(0)
        """
    )
    pytester.makepyfile("def test_it(injector):\n    pass\n")
    config = cluster.config()
    os.chmod(cluster.folder, 0o755)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-config={config}")
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([r".*a lab needs root, to attach to interfaces; run the tests with: sudo -E python -m pytest"])


def test_a_word_that_is_no_choice(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ninjector_missing = perhaps\n")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines(['.*injector_missing: "perhaps" is neither "fail" nor "skip"'])


def test_a_daemon_that_is_stopped_meanwhile(pytester: pytest.Pytester, cluster: Cluster) -> None:
    """Nobody knows whether its partition lasted: the test is no success."""
    config = cluster.config(file="stopped.yaml")
    pytester.makepyfile(
        """
        import os, signal, time

        def test_it(injector, lab):
            injector.partition(isolate=["n1"])
            os.kill(injector.status().pid, signal.SIGTERM)
            end = time.monotonic() + 60
            while os.path.exists(lab.socket):
                assert time.monotonic() < end, "the daemon does not stop"
                time.sleep(0.05)
        """
    )
    result: Any = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-config={config}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines([".*the daemon at .* can't be reached.*"])
