"""The pytest plugin: what other suites get of it. Each test runs a suite of its own in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Callable
from xml.etree import ElementTree

import pytest
from cluster import Cluster, until
from conftest import BINARY, background

from partition_injector import Injector, RecoveryRecord

Live = Callable[[], "list[str]"]


def test_partitions_end_with_their_test(suite: pytest.Pytester, inj: Injector, live: Live) -> None:
    theirs = inj.partition(isolate=["n3"], scopes=["udp/9"])
    suite.makepyfile(
        """
        def live(injector):
            return [view.name for view in injector.partitions() if view.state == "active"]

        def test_passes(injector):
            injector.partition(isolate=["n1"])
            injector.prepare(isolate=["n2"])
            assert len(live(injector)) == 2

        def test_fails(injector):
            assert len(live(injector)) == 1
            injector.partition(isolate=["n1"], owner="none")
            assert not "this"

        def test_next(injector):
            assert len(live(injector)) == 1
        """
    )
    suite.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2, failed=1)
    # What somebody else cut is still cut.
    assert live() == [theirs.name]


@pytest.mark.parametrize("on_ci", [False, True])
def test_a_failing_test_shows_its_record_and_timeline(
    suite: pytest.Pytester, inj: Injector, monkeypatch: pytest.MonkeyPatch, on_ci: bool
) -> None:
    # With one of these, pytest's summary repeats the whole message instead of its first words.
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    if on_ci:
        monkeypatch.setenv("CI", "true")
    suite.makepyfile(
        """
        import time

        def test_slow(injector):
            with injector.partition(isolate=["n1"]):
                time.sleep(1.5)
            injector.assert_recovers(within="1us", endpoint="ingress")

        def test_other_reason(injector):
            injector.partition(isolate=["n2"])
            assert 1 == 2

        def test_without_a_cut(injector):
            assert 1 == 2
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "--injector-artifacts=kept", "--junit-xml=junit.xml")
    result.assert_outcomes(failed=3)
    result.stdout.re_match_lines_random(
        [
            r"E .*ingress@n1 settled .* after the heal, not within 1 µs",
            r"E .*phases: silence .*reconnect .*return .*relapse",
            r"E .*n1→n2 .*yes",
            r"E  .*ingress@n1 .*recovered",
            r"-+ partition timeline -+",
            r" .* s  mark: .*::test_slow begins",
            r" .* s  cut test_slow-.*",
            r" .* s  ingress@n1 is not healthy: status 503.*",
            r" .* s  record of test_slow-.*: recovered",
            r"-+ partition test_other_reason-\d+-[0-9a-f]{4}-1 -+",
            r"test_other_reason-.*: not final yet",
        ]
    )
    said = str(result.stdout).partition("short test summary info")[0]
    assert len(re.findall("partition timeline", said)) == 2
    # The message has the record already.
    assert len(re.findall("phases: silence", said)) == 2 and "partition test_slow-" not in said
    # Of the traceback, the test's own line alone.
    assert re.findall(r"^>.*", said, re.M)[0].split() == [">", 'injector.assert_recovers(within="1us",', 'endpoint="ingress")']
    assert len(re.findall(r"^>", said, re.M)) == 3 and "partition_injector/" not in said
    folders = sorted(path.name for path in (suite.path / "kept").iterdir())
    assert [re.sub(r".*\.py_(.*)-[0-9a-f]{8}$", r"\1", name) for name in folders] == ["test_other_reason", "test_slow"]
    (slow,) = (suite.path / "kept" / folders[1]).glob("record-*.json")
    record = RecoveryRecord.from_json(slow.read_text())
    assert record.final and record.outcome == "recovered"
    lines = (suite.path / "kept" / folders[1] / "timeline.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[0] == "mark" and {"cut", "heal", "record"} <= set(kinds)
    cases = {case.attrib["name"]: case for case in ElementTree.parse(suite.path / "junit.xml").iter("testcase")}
    found = {each.attrib["name"]: each.attrib["value"] for each in cases["test_slow"].iter("property")}
    assert found.pop("injector:1:name") == record.name and found.pop("injector:1:outcome") == "recovered"
    assert record.heal_to_ready_ns is not None and record.heal_to_settled_ns is not None
    assert {name: round(float(ms) * 1e6) for name, ms in found.items()} == {
        "injector:1:heal_to_ready_ms": pytest.approx(record.heal_to_ready_ns, abs=1000),
        "injector:1:heal_to_settled_ms": pytest.approx(record.heal_to_settled_ns, abs=1000),
    }
    # What is shown of a test that failed for another reason is there too; and what is not known is not.
    other = cases["test_other_reason"]
    failure = other.findtext("failure") or ""
    assert "test_other_reason-" in failure and "phases: silence" in failure and "partition timeline" in failure
    assert [each.attrib["value"] for each in other.iter("property") if each.attrib["name"] == "injector:1:outcome"] == ["not final"]
    assert "injector:1:heal_to_settled_ms" not in {each.attrib["name"] for each in other.iter("property")}


def test_a_cut_that_ended_early_is_an_error_of_its_test(suite: pytest.Pytester, inj: Injector, live: Live) -> None:
    suite.makepyfile(
        """
        import pytest
        from partition_injector import Injector, NotInForce

        def test_nobody_asks(injector):
            Injector().heal(injector.partition("asked-of-nobody", isolate=["n1"]).name)

        def test_the_assertion_asks(injector):
            Injector().heal(injector.partition(isolate=["n1"]).name)
            injector.partition(isolate=["n2"], scopes=["udp/9"])
            injector.assert_recovers()

        def test_the_block_has_said_so(injector):
            with pytest.raises(NotInForce):
                with injector.partition(isolate=["n1"]) as p:
                    Injector().heal(p.name)

        @pytest.mark.parametrize("by_name", [True, False])
        def test_its_own_heal_is_the_will_of_the_test(injector, by_name):
            p = injector.partition(isolate=["n1"])
            injector.heal(p.name) if by_name else injector.heal_all()

        def test_fails_anyway(injector):
            Injector().heal(injector.partition("fails-anyway", isolate=["n1"]).name)
            assert 1 == 2
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, failed=2, errors=1)
    result.stdout.re_match_lines_random([r"ERROR .*::test_nobody_asks.*", r"E .*assert 1 == 2"])
    said = str(result.stdout)
    for name in ("asked-of-nobody", "fails-anyway"):
        assert re.search(f'"{name}" was not in force until this client healed it: another client healed it', said), said
    assert live() == []


def test_a_restart_of_the_daemon_is_an_error_of_its_test(suite: pytest.Pytester, cluster: Cluster) -> None:
    config = cluster.config(file="restarted.yaml")
    suite.makepyfile(
        """
        def test_restarts(lab, injector):
            injector.partition(isolate=["n1"])
            lab.stop()
            lab.start()
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", f"--injector-config={config}", f"--injector-binary={BINARY}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines_random([r"E .*the daemon does not know it any more; it was restarted meanwhile"])


def test_a_failing_test_can_wait_for_its_record(suite: pytest.Pytester, inj: Injector) -> None:
    suite.makepyfile(
        """
        import time

        def test_other_reason(injector):
            injector.partition(isolate=["n2"])
            time.sleep(1.5)
            assert 1 == 2
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "--injector-record-wait=20s")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"test_other_reason-.*: recovered: settled"])


def test_only_a_failing_test_waits_and_once_for_all_its_records(suite: pytest.Pytester, inj: Injector) -> None:
    suite.makeconftest(
        """
        from partition_injector import Partition

        of = Partition.recovery

        def recovery(self, timeout=None):
            print(f"WAITS {self.name} {timeout:.9f}")
            return of(self, timeout)

        Partition.recovery = recovery
        """
    )
    suite.makepyfile(
        """
        def test_passes(injector):
            injector.partition("passes", isolate=["n1"])

        def test_fails(injector):
            injector.partition("first", links=[("n1", "n2")], scopes=["udp/9"])
            injector.partition("second", links=[("n2", "n3")], scopes=["udp/9"])
            assert 1 == 2
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "-s", "--injector-record-wait=700ms")
    result.assert_outcomes(passed=1, failed=1)
    waits = {name: float(time) for name, time in re.findall(r"WAITS (\w+) ([\d.]+)", str(result.stdout))}
    assert waits["passes"] == 0 and 0.1 < waits["first"] <= 0.7
    assert waits["second"] < waits["first"]
    # What is no length of time is said before any test.
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "--injector-record-wait=7")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([r"ERROR: injector_record_wait: '7' is no length of time; write a number and a unit.*"])


def test_the_marker_cuts_for_the_call_alone(suite: pytest.Pytester, inj: Injector) -> None:
    suite.makepyfile(
        """
        import time
        import pytest
        from partition_injector import Injector

        def states():
            return [view.state for view in Injector().partitions() if view.state == "active"]

        @pytest.fixture
        def around():
            assert states() == []
            yield
            assert states() == []

        @pytest.mark.partition(isolate=["n1"], scopes=["tcp/7000"])
        def test_marked(around):
            assert states() == ["active"]

        @pytest.mark.partition(isolate=["n1"])
        @pytest.mark.partition("mine", isolate=["n2"], scopes=["udp/9"])
        def test_two(around, injector):
            assert states() == ["active", "active"]
            assert injector.partitions_made[1].name == "mine"

        @pytest.mark.partition(isolate=["n1"], recovers_within="10s", endpoint="ingress")
        def test_recovers(around):
            time.sleep(1.5)

        @pytest.mark.partition(isolate=["n1"], recovers_within="1us")
        def test_does_not():
            time.sleep(1.5)

        @pytest.mark.partition(isolate=["n1"])
        def test_fails():
            assert 1 == 2

        @pytest.mark.partition(isolate=["n9"])
        def test_unknown():
            pass

        @pytest.mark.partition(isolate=["n1"], recovers_within="10s", endpoint="ingres")
        def test_no_such_endpoint():
            print("the test was called")

        @pytest.mark.partition(isolate=["n1"], recovers_within="1h")
        def test_beyond_the_deadline():
            print("the test was called")

        @pytest.mark.partition(isolate=["n1"], endpoint="ingress")
        def test_nothing_is_asked_of_the_endpoint():
            print("the test was called")

        @pytest.mark.partition(isolate=["n1"], recover_within="5s")
        def test_mistyped():
            print("the test was called")

        @pytest.mark.partition("isolate n1")
        def test_a_shape_as_the_command_line_has_it():
            print("the test was called")

        @pytest.mark.partition("isolate", ["n1"])
        def test_two_arguments():
            print("the test was called")
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
    result.assert_outcomes(passed=3, failed=9)
    result.stdout.re_match_lines_random([r'E .*unknown peer "n9"; known peers: n1, n2, n3, world', "E .*not within 1 µs"])
    # What a marker can't be answered is said before the test's call.
    result.stdout.re_match_lines_random([r'E .*no endpoint is named "ingres"', "E .*watched for .*, and not for 3600 s", "E .*recovers_within"])
    wrong = [
        r'E .*a partition knows no "recover_within"; do you mean "recovers_within"\?',
        r"E .*no shape is given \(the argument 'isolate n1' is the partition's name\); write the shape as a keyword",
        r"E .*the marker takes one argument .* and not \('isolate', \['n1'\]\)",
    ]
    result.stdout.re_match_lines_random(wrong)
    result.stdout.no_fnmatch_line("the test was called")
    # Nothing of the library or of contextlib is shown.
    assert [line for line in str(result.stdout).splitlines() if line.startswith(">")] == [">       assert 1 == 2"]


def test_a_marker_without_the_fixture_of_the_plugin_is_an_error(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.fixture
        def injector():
            return "of the suite"

        @pytest.mark.partition(isolate=["n1"])
        def test_marked():
            print("the test was called")

        def test_unmarked(injector):
            assert injector == "of the suite"
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines_random([r"E .*the marker `partition` needs the plugin's fixture `injector`.*; rename the suite's fixture"])
    result.stdout.no_fnmatch_line("the test was called")


@pytest.mark.parametrize("warnings", ["default", "error"])
def test_records_that_can_not_be_kept_do_not_end_the_run(suite: pytest.Pytester, inj: Injector, warnings: str) -> None:
    suite.makepyfile(
        """
        def test_fails(injector):
            injector.partition(isolate=["n1"])
            assert 1 == 2

        def test_without_a_cut(injector):
            pass
        """
    )
    (suite.path / "kept").write_text("a file is no directory")
    options = ["-p", "no:cacheprovider", "-W", warnings, "--injector-artifacts=kept"]
    result = suite.runpytest_subprocess(*options)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines_random([r"E .*assert 1 == 2", r"the test's records can't be obtained, or not be kept: .*kept.*"])
    # The records themselves are there to be shown.
    result.stdout.re_match_lines_random([r"-+ partition test_fails-.*", r"-+ partition timeline -+"])


@pytest.mark.parametrize("warnings", ["default", "error"])
def test_a_daemon_that_is_gone_does_not_end_the_run(suite: pytest.Pytester, cluster: Cluster, warnings: str) -> None:
    config = cluster.config(file="gone.yaml")
    suite.makepyfile(
        """
        def test_stops_it(lab, injector):
            injector.partition(isolate=["n1"])
            lab.stop()
            assert 1 == 2

        def test_next():
            pass
        """
    )
    options = ["-p", "no:cacheprovider", "-W", warnings, f"--injector-config={config}", f"--injector-binary={BINARY}"]
    result = suite.runpytest_subprocess(*options)
    # It can't be healed at the end of the test either, by a call.
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.re_match_lines_random([r"E .*assert 1 == 2", r"the daemon at .* can't be reached.*"])


def test_records_are_kept_in_utf_8(suite: pytest.Pytester, inj: Injector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    suite.makepyfile("def test_cut(injector):\n    injector.mark('\\u2192')\n    injector.partition(isolate=['n1'])\n")
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "--injector-artifacts=kept")
    result.assert_outcomes(passed=1)
    (timeline,) = (suite.path / "kept").glob("*/timeline.jsonl")
    assert "\u2192" in timeline.read_text("utf-8")


def test_no_artifact_is_written_over_another_one(suite: pytest.Pytester, inj: Injector) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("sign", ["<", ">"])
        def test_signs(injector, sign):
            injector.partition("alone", isolate=["n1"])

        def test_one_name(injector):
            for _ in range(2):
                with injector.partition("twice", isolate=["n1"]):
                    pass
        """
    )
    suite.runpytest_subprocess("-p", "no:cacheprovider", "--injector-artifacts=kept").assert_outcomes(passed=3)
    found = sorted(path.relative_to(suite.path / "kept") for path in (suite.path / "kept").glob("*/record-*.json"))
    assert len(found) == 4 and len({path.parent for path in found}) == 3
    records = [RecoveryRecord.from_json((suite.path / "kept" / path).read_text("utf-8")) for path in found]
    assert sorted(path.name for path in found) == sorted(
        f"record-{each.name}{f'@{each.generation}' if each.name == 'twice' else ''}.json" for each in records
    )
    assert len({each.generation for each in records}) == 4


def test_the_partition_that_was_healed_last_is_judged(suite: pytest.Pytester, inj: Injector) -> None:
    suite.makepyfile(
        """
        import time
        import pytest
        from partition_injector import RecoveryUnknown

        def test_nested(injector):
            injector.wait_healthy()
            with injector.partition("outer", isolate=["n1"]):
                with injector.partition("inner", links=[("n2", "n3")], scopes=["udp/9"]):
                    time.sleep(1)
                time.sleep(1)
            injector.prepare("never", isolate=["n2"])
            # The inner one dropped nothing, so that its record says nothing of a recovery.
            assert injector.assert_recovers(within="10s").name == "outer"

        def test_one_after_another(injector):
            injector.wait_healthy()
            with injector.partition("first", isolate=["n1"]):
                time.sleep(1)
            injector.partition("second", links=[("n2", "n3")], scopes=["udp/9"]).heal()
            with pytest.raises(RecoveryUnknown) as unknown:
                injector.assert_recovers(within="10s")
            assert unknown.value.record.name == "second"

        def test_healed_by_the_assertion(injector):
            injector.wait_healthy()
            injector.partition("long", isolate=["n1"])
            injector.partition("short", links=[("n2", "n3")], scopes=["udp/9"], for_="200ms")
            time.sleep(1)
            assert injector.assert_recovers(within="10s").name == "long"

        @pytest.mark.partition("around", isolate=["n1"])
        @pytest.mark.partition("within", links=[("n2", "n3")], scopes=["udp/9"], recovers_within="10s")
        def test_outer_marker():
            time.sleep(1)

        @pytest.mark.partition("around", links=[("n2", "n3")], scopes=["udp/9"])
        @pytest.mark.partition("within", isolate=["n1"], recovers_within="10s")
        def test_inner_marker():
            time.sleep(1)
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.re_match_lines_random([r"FAILED .*::test_inner_marker.*", r"E .*it is not known whether the cluster recovered: harness_failed.*"])



SLOW = """
import time

def test_cut(injector):
    injector.partition(isolate=["n1"], owner={owner!r}, for_="60s")
    print("CUT", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("owner", ["connection", "none"])
def test_ctrl_c_heals(suite: pytest.Pytester, live: Live, owner: str) -> None:
    suite.makepyfile(SLOW.format(owner=owner))
    child = background(suite)
    assert child.stdout is not None
    until(lambda: "CUT" in child.stdout.readline())
    assert len(live()) == 1
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=30)
    assert child.returncode == pytest.ExitCode.INTERRUPTED, said
    assert live() == [], "it is healed by the time that pytest ends"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_suite_that_is_killed_leaves_nothing_cut(suite: pytest.Pytester, live: Live, end: signal.Signals) -> None:
    suite.makepyfile(SLOW.format(owner="connection"))
    child = background(suite)
    assert child.stdout is not None
    until(lambda: "CUT" in child.stdout.readline())
    assert len(live()) == 1
    child.send_signal(end)
    child.wait(30)
    until(lambda: live() == [])


def test_workers_of_xdist_have_names_of_their_own(suite: pytest.Pytester, live: Live) -> None:
    suite.makepyfile(
        """
        import time
        import pytest

        @pytest.mark.parametrize("turn", range(6))
        def test_cut(injector, turn):
            mine = [injector.partition(isolate=["n1"], scopes=[f"udp/{9 + turn}"]) for _ in range(2)]
            time.sleep(0.3)
            for partition in mine:
                partition.heal()
                assert partition.healed.healed_by == "request"
            with injector.partition(isolate=["n2"], scopes=[f"udp/{9 + turn}"]):
                time.sleep(0.2)
            assert turn != 5
        """
    )
    options = ["-p", "no:cacheprovider", "-n2", "--injector-artifacts=kept"]
    result = suite.runpytest_subprocess(*options)
    result.assert_outcomes(passed=5, failed=1)
    assert live() == []
    records = [path.stem.removeprefix("record-") for path in (suite.path / "kept").glob("*/record-*.json")]
    assert len(records) == len(set(records)) == 18
    found = [re.fullmatch(r"test_cut_(\d)_?-(gw\d)-(\d+)-[0-9a-f]{4}-([123])", name) for name in records]
    assert all(found), records
    assert {match[2] for match in found if match} == {"gw0", "gw1"}
    assert len({match[3] for match in found if match}) == 2
    result.stdout.re_match_lines_random([r"-+ partition test_cut_5_-gw\d.*-+", "-+ partition timeline -+"])


def test_two_suites_on_one_daemon_leave_each_other_alone(suite: pytest.Pytester, live: Live) -> None:
    suite.makepyfile(
        """
        import time
        import pytest

        @pytest.mark.parametrize("turn", range(4))
        def test_cut(injector, turn):
            # The block fails if anybody else ends its partition.
            with injector.partition(isolate=["n1"], scopes=["udp/9"]):
                time.sleep(0.5)
            injector.partition(isolate=["n2"], scopes=["udp/9"])
        """
    )
    both = [background(suite) for _ in range(2)]
    said = [child.communicate(timeout=60)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0], "\n".join(said)
    assert live() == []


def test_suites_without_cuts_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it():\n    pass\n")
    begun = time.monotonic()
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "--injector-socket=/no.sock").assert_outcomes(passed=1)
    assert time.monotonic() - begun < 20
