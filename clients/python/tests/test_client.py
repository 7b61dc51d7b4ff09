"""The client, from a cut to its record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable

import pytest
from cluster import Cluster, until
from conftest import BINARY, script, start

from partition_injector import (
    Broken,
    CutEvent,
    HealEvent,
    Injector,
    InjectorError,
    MarkEvent,
    Misread,
    NotFinal,
    NotHealthy,
    NotInForce,
    NotRecovered,
    OutOfTime,
    Partition,
    Problem,
    RecoveryUnknown,
    UsageError,
    calls,
    client,
)
from partition_injector.calls import Call
from partition_injector.lab import Lab
from partition_injector.request import Names


def test_a_cut_lasts_for_its_block(inj: Injector, cluster: Cluster) -> None:
    assert cluster.reaches("n1", "n2") and cluster.reaches("n2", "n3")
    with inj.partition(isolate=["n1"]) as p:
        assert not cluster.reaches("n1", "n2")
        assert cluster.reaches("n2", "n3"), "a neighbour is cut"
        assert p.view().state == "active"
    assert p.healed is not None and p.healed.healed_by == "request"
    until(lambda: cluster.reaches("n1", "n2"))


def test_a_cut_of_a_scope_leaves_the_rest(inj: Injector, cluster: Cluster) -> None:
    with inj.partition(isolate="n1", scopes=["tcp/7000"]) as p:
        assert cluster.reaches("n1", "n2")
        until(lambda: any(link.dropped_packets for link in p.view().links or []))


def test_the_record_is_typed(inj: Injector) -> None:
    with inj.partition(isolate=["n1"], deadline="8s") as p:
        until(lambda: _is_out(inj))
        with pytest.raises(UsageError, match="still cut.*heal it first"):
            p.recovery()
        with pytest.raises(NotFinal, match="it is not healed") as late:
            p.recovery(timeout="50ms")
        assert late.value.record.heal is None and late.value.record.hold_ns is None
    record = p.recovery(timeout="30s")
    assert record.final and record.proved and record.outcome == "recovered"
    assert record.name == p.name and record.generation == p.generation
    assert record.deadline_ns == 8_000_000_000
    assert record.hold_ns is not None and record.cut is not None and record.heal is not None
    assert record.hold_ns == record.heal.begin_ns - record.cut.end_ns
    isolated = {endpoint.name: endpoint for endpoint in record.endpoints}["ingress@n1"]
    assert isolated.impaired and isolated.settled_ns is not None
    settled = [record.since_heal(endpoint.settled_ns) for endpoint in record.endpoints]
    assert record.heal_to_settled_ns == max(after for after in settled if after is not None)
    assert {(link.src, link.dst) for link in record.links} == {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}
    assert all(link.in_force == "yes" for link in record.links)
    assert any(probe.error for probe in p.probes())


def _is_out(inj: Injector) -> bool:
    return any(endpoint.healthy is False for endpoint in inj.status().endpoints)


def test_assert_recovers_shows_phases_and_links(inj: Injector) -> None:
    p = inj.partition(isolate=["n1"])
    until(lambda: _is_out(inj))
    record = p.assert_recovers(within="10s", endpoint="ingress")
    assert record.outcome == "recovered"
    with pytest.raises(NotRecovered) as slow:
        p.assert_recovers(within="1us", endpoint="ingress")
    message = str(slow.value)
    assert "ingress@n1 settled" in message and "not within 1 µs" in message
    for part in ("phases: silence", "n1→n2", "in force", "ingress@n3", "recovered"):
        assert part in message, message
    with pytest.raises(UsageError, match="the config has: ingress@n1, ingress@n2, ingress@n3"):
        p.assert_recovers(endpoint="metadata")
    with pytest.raises(UsageError, match="longer deadline="):
        p.assert_recovers(within="1h")


def test_what_is_not_known_is_not_recovered(inj: Injector) -> None:
    first = inj.partition(isolate=["n1"])
    until(lambda: any(link.dropped_packets for link in first.view().links or []))
    first.heal()
    # Another cut ends the watch.
    with inj.partition(isolate=["n2"]) as second:
        with pytest.raises(RecoveryUnknown, match=second.name):
            first.assert_recovers()


def test_who_ended_a_partition_early_is_said(inj: Injector, daemon: Lab) -> None:
    with pytest.raises(NotInForce, match="another client healed it"):
        with inj.partition(isolate=["n1"]) as p:
            daemon.injector().heal(p.name)
    # So does this client, by the name or all at once.
    for heal in (lambda name: inj.heal(name), lambda _: inj.heal_all()):
        with pytest.raises(NotInForce, match=r"or a call of heal\(name\) or heal_all\(\)"):
            with inj.partition(isolate=["n1"]) as p:
                heal(p.name)
    # Its own heal is the caller's will.
    with inj.partition(isolate=["n1"]) as p:
        assert p.heal().healed_by == "request"
    # Its own end, if one was asked for, is as it should be.
    with inj.partition(isolate=["n1"], for_="200ms") as p:
        until(lambda: p.view().healed is not None)
    assert p.healed is not None and p.healed.healed_by == "deadline"
    # The block's own error comes first.
    with pytest.raises(ZeroDivisionError):
        with inj.partition(isolate=["n1"]) as p:
            raise ZeroDivisionError
    assert p.healed is not None


def test_a_cut_that_ended_early_has_no_recovery(inj: Injector, daemon: Lab, cluster: Cluster) -> None:
    other = daemon.injector()
    p = inj.partition(isolate=["n1"])
    other.heal(p.name)
    for _ in range(2):
        with pytest.raises(NotInForce, match="another client healed it"):
            p.assert_recovers()
    # Within a block, too, which then fails for this reason.
    with pytest.raises(NotInForce, match="another client healed it"):
        with inj.partition(isolate=["n1"]) as p:
            other.heal(p.name)
            p.assert_recovers()
    # A heal of its own says how it ended, and the end of the block what that means.
    with pytest.raises(NotInForce, match="another client healed it"):
        with inj.partition(isolate=["n1"]) as p:
            other.heal(p.name)
            assert p.heal().healed_by == "request"
    p = inj.partition(isolate=["n1"])
    inj._owner.close()
    until(lambda: p.view().healed is not None)
    with pytest.raises(NotInForce, match="the connection that owned it broke"):
        p.assert_recovers()
    # The end of the config came before the one that was asked for.
    config = cluster.config("max_for: 300ms\n", file="short.yaml")
    with Lab(config, binary=BINARY) as lab, lab.injector() as short:
        short.wait_healthy()
        p = short.partition(isolate=["n1"])
        until(lambda: p.view().healed is not None)
        with pytest.raises(NotInForce, match="raise max_for"):
            p.assert_recovers()
        # What was given an end may end by it.
        p = short.partition(isolate=["n1"], for_="200ms")
        until(lambda: p.view().healed is not None)
        assert p.finish().healed_by == "deadline"


def test_a_heal_that_fails_leaves_nothing_cut(
    inj: Injector, daemon: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = daemon.injector()
    names = lambda: [view.name for view in looking.partitions() if view.state == "active"]
    # Of a process that has no descriptor left: a heal needs no other connection.
    p = inj.partition(isolate=["n1"])
    monkeypatch.setattr(client, "Line", lambda address: pytest.fail("another connection is opened"))
    inj._spare = None
    assert p.heal().healed_by == "request"
    monkeypatch.undo()
    # Each of its calls fails, before it is made or after it, and by Ctrl-C.
    for error in (Misread("no"), KeyboardInterrupt()):
        for failing in ("partition", "heal"):

            def fails(*_: Any) -> Any:
                raise error

            with pytest.raises(type(error)):
                with inj.partition(isolate=["n1"]):
                    assert len(names()) == 1
                    call = Call("GET", "/v1/status", fails) if failing == "partition" else None
                    monkeypatch.setattr(calls, failing, (lambda *_: call) if call else fails)
            until(lambda: names() == [])
            monkeypatch.undo()
    # The client can still be used.
    assert inj.partition(isolate=["n1"]).finish().healed_by == "request"


def test_a_name_that_another_took_over_is_left_alone(inj: Injector, daemon: Lab) -> None:
    p = inj.partition("shared", isolate=["n1"])
    daemon.injector().heal("shared")
    with Injector(daemon.socket) as other:
        theirs = other.partition("shared", isolate=["n2"])
        healed = p.heal()
        assert (healed.name, healed.generation, healed.healed_by) == ("shared", p.generation, "request")
        assert theirs.view().state == "active"
        # The same request under a name that is in use is somebody else's.
        with pytest.raises(Problem) as taken:
            inj.partition("shared", isolate=["n2"])
        assert taken.value.code == "name-taken"


@pytest.mark.parametrize(
    "cut, json",
    [
        ({"isolate": "n1"}, {"isolate": ["n1"]}),
        ({"isolate": ["n1", "n2"]}, {"isolate": ["n1", "n2"]}),
        ({"split": [["n1", "n2"], ["n3"]]}, {"split": [["n1", "n2"], ["n3"]]}),
        ({"between": ["n1", ["n2"]]}, {"between": [["n1"], ["n2"]]}),
        ({"halves": True}, {"halves": {}}),
        ({"random_halves": True}, {"random_halves": {}}),
        ({"random_node": True, "halves": False}, {"random_node": {}}),
        ({"random_node": True, "among": ["n1", "n2"]}, {"random_node": {"among": ["n1", "n2"]}}),
        ({"random_groups": 2}, {"random_groups": {"groups": 2}}),
        ({"random": 1, "among": "n3"}, {"random": {"peers": 1, "among": ["n3"]}}),
        ({"minority": True}, {"minority": {}}),
        ({"majorities_ring": True}, {"majorities_ring": {}}),
        ({"bridge": "n3"}, {"bridge": {"via": "n3"}}),
        ({"links": [("n1", "n2"), "n2:n3"]}, {"links": [{"src": "n1", "dst": "n2"}, {"src": "n2", "dst": "n3"}]}),
        ({"grudge": {"n1": {"n3", "n2"}}}, {"grudge": {"n1": ["n2", "n3"]}}),
        ({"shape": {"isolate": ["n3"]}}, {"isolate": ["n3"]}),
    ],
)
def test_every_shape_has_a_keyword(inj: Injector, cut: Any, json: Any) -> None:
    view = inj.dry_run(**cut, seed=7)
    assert view.request["shape"] == json
    assert view.generation == 0 and view.links


def test_options_reach_the_daemon(inj: Injector) -> None:
    given: Any = {"direction": "out", "scopes": "tcp/5122", "loss": "30%", "flap": "200ms/50%", "neighbour": "keep"}
    view = inj.dry_run(isolate=["n1"], for_=1.5, deadline="9s", advisory=["ingress"], strict=True, **given)
    request = view.request
    assert (request["for"], request["deadline"]) == ("1s 500ms", "9s")
    assert {name: request[name] for name in given} == {**given, "scopes": ["tcp/5122"]}
    assert request["owner"] == "connection" and request["strict"] is True


def test_a_partition_is_prepared_then_enabled(inj: Injector, cluster: Cluster) -> None:
    p = inj.prepare(isolate=["n1"])
    assert p.view().state == "prepared" and cluster.reaches("n1", "n2")
    assert p.enable().state == "active" and not cluster.reaches("n1", "n2")
    p.heal()


def test_with_runs_a_command_or_a_function(inj: Injector, live: Callable[[], list[str]]) -> None:
    done = inj.with_([sys.executable, "-c", "import os; assert os.environ['INJECTOR_PARTITION']; exit(3)"], isolate=["n1"])
    assert done.returncode == 3
    assert inj.with_(lambda p: p.view().state, isolate=["n1"]) == "active"
    # A command that outlasts its cut was not under it, whoever chose the end.
    with pytest.raises(NotInForce, match="longer for_"):
        inj.with_(["sleep", "1"], isolate=["n1"], for_="300ms")
    assert live() == []


def test_health_is_waited_for(inj: Injector) -> None:
    with inj.partition(isolate=["n1"]):
        until(lambda: _is_out(inj))
        with pytest.raises(NotHealthy, match=r"not healthy within 100 ms: ingress@n1: status 503.*injector probe"):
            inj.wait_healthy(timeout="100ms")
        inj.wait_healthy(timeout="5s", advisory=["ingress@n1"])
    inj.wait_healthy()
    assert {answer.name: answer.error for answer in inj.probe_once()} == {f"ingress@n{n}": None for n in (1, 2, 3)}


def test_without_endpoints_no_health_is_waited_for(cluster: Cluster) -> None:
    config = cluster.config(file="blind.yaml")
    head, _, rest = config.read_text().partition("endpoints:\n")
    config.write_text(head + rest[rest.index("ready:") :])
    with Lab(config, binary=BINARY) as lab, lab.injector() as blind:
        with pytest.raises(UsageError, match="no required endpoint to wait for; add endpoints: to the config"):
            blind.wait_healthy()


def test_events_resume_behind_the_last_one(inj: Injector) -> None:
    mark = inj.mark("begin")
    assert isinstance(mark, MarkEvent) and mark.text == "begin"
    with inj.events(since=mark.id, timeout="10s") as events:
        p = inj.partition(isolate=["n1"])
        cut = next(event for event in events if isinstance(event, CutEvent))
        assert (cut.name, cut.id) == (p.name, events.last_id)
        p.heal()
    # On another connection: nothing is lost, nothing comes twice.
    ids = [event.id for event in inj.events(since=events.last_id, follow=False)]
    assert ids == list(range(events.last_id + 1, events.last_id + 1 + len(ids)))
    with inj.events(since=events.last_id, timeout="10s") as more:
        heal = next(event for event in more if isinstance(event, HealEvent))
        assert heal.healed.name == p.name
    begun = time.monotonic()
    last = inj.mark("end")
    with pytest.raises(OutOfTime, match="no event in 0.3 s"):
        for event in inj.events(since=last.id, timeout=0.3):
            # First packets after the heal may still come.
            assert time.monotonic() - begun < 15


def test_threads_do_not_wait_for_each_other(inj: Injector) -> None:
    p = inj.partition(isolate=["n1"])
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(p.recovery(timeout="60s")))
    waiting.start()
    time.sleep(0.3)
    begun = time.monotonic()
    workers = [threading.Thread(target=inj.status) for _ in range(8)]
    for worker in workers:
        worker.start()
    p.heal()
    assert time.monotonic() - begun < 5
    for worker in [*workers, waiting]:
        worker.join(60)
    assert found and found[0].final


def test_threads_get_names_of_their_own() -> None:
    names, found = Names(), []
    old = sys.getswitchinterval()
    # A thread loses the processor between any two steps.
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: found.extend([names.next() for _ in range(2000)])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(old)
    assert len(set(found)) == len(found) == 16000


def test_a_connection_that_the_daemon_closed_is_opened_anew(inj: Injector) -> None:
    inj.status()
    assert inj._spare is not None
    inj._spare.stream.socket.shutdown(2)
    assert inj.status().partitions is not None


def test_a_connection_that_owns_nothing_is_opened_anew(inj: Injector) -> None:
    with pytest.raises(Problem):
        inj.partition(isolate=["n9"])
    assert inj._owner._line is not None
    # As the daemon does with an idle one.
    inj._owner._line.stream.socket.shutdown(2)
    inj.partition(isolate=["n1"]).heal()
    inj._owner._line.stream.socket.shutdown(2)
    p = inj.partition(isolate=["n1"])
    inj._owner._line.stream.socket.shutdown(2)
    with pytest.raises(Broken, match="ended the connection that owned this client's partitions"):
        inj.partition(isolate=["n2"])
    assert p.heal().healed_by == "disconnect"


def test_a_client_may_be_closed_by_another_thread(daemon: Lab) -> None:
    inj = daemon.injector()
    p = inj.partition(isolate=["n1"])
    errors: list[BaseException] = []

    def follow() -> None:
        try:
            for _ in events:
                pass
        except InjectorError as error:
            errors.append(error)

    events = inj.events()
    reader = threading.Thread(target=follow)
    reader.start()
    time.sleep(1)
    events.close()
    reader.join(10)
    assert not reader.is_alive() and isinstance(errors[0], Broken)
    inj.close()
    assert p.heal().healed_by == "disconnect"


def test_closing_a_client_heals_what_it_cut(daemon: Lab, cluster: Cluster, live: Callable[[], list[str]]) -> None:
    inj = daemon.injector()
    inj.partition(isolate=["n1"])
    assert not cluster.reaches("n1", "n2")
    inj.close()
    until(lambda: live() == [])
    # It is usable again.
    assert inj.partition(isolate=["n1"]).heal().healed_by == "request"
    inj.close()


KILLED = """
import sys, time
from partition_injector import Injector
inj = Injector(sys.argv[1])
p = inj.partition(isolate=["n1"])
print(p.name, flush=True)
time.sleep(600)
"""

FORKS = """
import multiprocessing, sys, time
from partition_injector import Injector
inj = Injector(sys.argv[1])
p = inj.partition(isolate=["n1"])
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,), daemon=True)
child.start()
print(p.name, child.pid, flush=True)
time.sleep(600)
"""

LEAVES = """
import os, sys
from partition_injector import Injector
with Injector(sys.argv[1]) as inj:
    with inj.partition(isolate=["n1"]) as p:
        child = os.fork()
        if child == 0:
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), p.view().state, flush=True)
"""

CUTS_TOO = """
import os, sys
from partition_injector import Injector
inj = Injector(sys.argv[1])
with inj.partition(isolate=["n1"], scopes=["udp/9"]) as p:
    # As if a thread that the child does not have were cutting.
    inj._owner._lock.acquire()
    child = os.fork()
    if child == 0:
        with inj.partition(isolate=["n2"], scopes=["udp/9"]) as q:
            print(q.name != p.name, q.view().state, flush=True)
        inj.close()
        os._exit(0)
    inj._owner._lock.release()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), p.view().state, flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_client_that_dies_leaves_nothing_cut(daemon: Lab, live: Callable[[], list[str]], end: signal.Signals) -> None:
    child = start([*script(KILLED), daemon.socket], stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert live() == [name]
    child.send_signal(end)
    child.wait(10)
    until(lambda: live() == [])


def test_a_forked_child_does_not_keep_the_cut(daemon: Lab, live: Callable[[], list[str]]) -> None:
    child = start([*script(FORKS), daemon.socket])
    assert child.stdout is not None
    name, grandchild = child.stdout.readline().split()
    assert live() == [name]
    child.kill()
    child.wait(10)
    try:
        os.kill(int(grandchild), 0)
        until(lambda: live() == [])
        os.kill(int(grandchild), 0)
    finally:
        os.kill(int(grandchild), signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_heals_nothing(daemon: Lab) -> None:
    parent = start([*script(LEAVES), daemon.socket])
    assert parent.stdout is not None
    assert parent.stdout.readline().split() == ["3", "active"]
    assert parent.wait(10) == 0, "it was in force to the end of the parent's block"


def test_a_forked_child_cuts_with_its_parents_client(daemon: Lab) -> None:
    parent = start([*script(CUTS_TOO), daemon.socket])
    said, _ = parent.communicate(timeout=60)
    assert said.split() == ["True", "active", "0", "active"]
    assert parent.returncode == 0, "it was in force to the end of the parent's block"


def test_without_an_owner_a_cut_outlives_its_client(daemon: Lab, live: Callable[[], list[str]]) -> None:
    with Injector(daemon.socket) as inj:
        p: Partition = inj.partition(isolate=["n1"], owner="none", for_="60s")
    assert live() == [p.name]
    assert p.heal().healed_by == "request"
