"""The twin for asyncio."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Awaitable, Callable, TypeVar

import pytest
from cluster import Cluster, until
from conftest import script, start

from partition_injector import calls
from partition_injector import CutEvent, HealEvent, Injector, Misread, NotFinal, NotInForce, NotRecovered, OutOfTime, Problem, Unreachable
from partition_injector.aio import AsyncInjector
from partition_injector.calls import Call
from partition_injector.lab import Lab

T = TypeVar("T")


def run(daemon: Lab, job: Callable[[AsyncInjector], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncInjector(daemon.socket) as inj:
            await inj.wait_healthy()
            return await job(inj)

    return asyncio.run(main())


def test_a_cut_and_its_record(daemon: Lab, cluster: Cluster, inj: Injector) -> None:
    async def job(twin: AsyncInjector) -> None:
        async with await twin.partition(isolate=["n1"]) as p:
            assert not cluster.reaches("n1", "n2") and cluster.reaches("n2", "n3")
            with pytest.raises(NotFinal):
                await p.recovery(timeout="50ms")
        assert p.healed is not None and p.healed.healed_by == "request"
        record = await p.recovery(timeout="30s")
        assert record.final and record.outcome == "recovered" and (await p.record()).final
        assert (await p.assert_recovers(within="8s", endpoint="ingress")) == record
        with pytest.raises(NotRecovered, match="phases: silence"):
            await p.assert_recovers(within="1ns")
        assert await p.probes()

    run(daemon, job)


def test_tasks_do_not_wait_for_each_other(daemon: Lab, inj: Injector) -> None:
    async def job(twin: AsyncInjector) -> None:
        p = await twin.partition(isolate=["n1"])
        waiting = asyncio.create_task(p.recovery(timeout="30s"))
        await asyncio.sleep(0.2)
        statuses = await asyncio.wait_for(asyncio.gather(*(twin.status() for _ in range(8))), 5)
        assert all(status.version for status in statuses)
        await p.heal()
        assert (await waiting).final

    run(daemon, job)


def test_events_resume(daemon: Lab, inj: Injector) -> None:
    async def job(twin: AsyncInjector) -> None:
        mark = await twin.mark("begin")
        async with twin.events(since=mark.id, timeout="10s") as events:
            p = await twin.partition(isolate=["n1"])
            async for event in events:
                if isinstance(event, CutEvent):
                    break
            await p.heal()
        found = [event async for event in twin.events(since=events.last_id, follow=False)]
        assert [event.id for event in found] == list(range(events.last_id + 1, events.last_id + 1 + len(found)))
        async for event in twin.events(since=events.last_id, timeout="10s"):
            if isinstance(event, HealEvent):
                break
        assert event.healed.name == p.name
        quiet = twin.events(since=(await twin.mark("end")).id + 10_000, timeout=0.2)
        with pytest.raises(OutOfTime):
            await quiet.__anext__()

    run(daemon, job)


def test_a_cancelled_call_heals_nothing_else(daemon: Lab, inj: Injector) -> None:
    async def job(twin: AsyncInjector) -> None:
        p = await twin.partition(isolate=["n1"])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(p.recovery(timeout="60s"), 0.3)
        assert (await p.view()).state == "active"
        # A cancelled block heals.
        block = asyncio.ensure_future(_sleep_under(twin))
        # A call that is cancelled on its way would close the connection that owns the other partition, too.
        while len([view for view in await twin.partitions() if view.state == "active"]) < 2:
            assert not block.done(), block
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        block.cancel()
        with pytest.raises(asyncio.CancelledError):
            await block
        assert [view.name for view in await twin.partitions() if view.state == "active"] == [p.name]

    run(daemon, job)
    until(lambda: not [view for view in inj.partitions() if view.state == "active"])


def test_a_heal_that_fails_leaves_nothing_cut(daemon: Lab, inj: Injector, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise Misread("no")

    async def job(twin: AsyncInjector) -> None:
        with pytest.raises(Misread):
            async with await twin.partition(isolate=["n1"]):
                monkeypatch.setattr(calls, "partition", lambda *_: Call("GET", "/v1/status", fails))
        # Another client asks; the loop of this one does nothing any more.
        until(lambda: not [view for view in inj.partitions() if view.state == "active"])
        monkeypatch.undo()
        assert (await (await twin.partition(isolate=["n1"])).finish()).healed_by == "request"

    run(daemon, job)


async def _sleep_under(twin: AsyncInjector) -> None:
    async with await twin.partition(isolate=["n2"]):
        await asyncio.sleep(60)


def test_with_health_and_errors(daemon: Lab, inj: Injector) -> None:
    async def job(twin: AsyncInjector) -> None:
        assert await twin.with_([sys.executable, "-c", "exit(3)"], isolate=["n1"]) == 3

        async def state(p: Any) -> str:
            return (await p.view()).state

        assert await twin.with_(state, isolate=["n1"]) == "active"
        with pytest.raises(NotInForce, match="longer for_"):
            await twin.with_(["sleep", "1"], isolate=["n1"], for_="300ms")
        with pytest.raises(Problem) as unknown:
            await twin.partition(isolate=["n9"])
        assert unknown.value.code == "unknown-peer"
        with pytest.raises(NotInForce, match="another client healed it"):
            async with await twin.partition(isolate=["n1"]) as p:
                await twin.heal(p.name)
        assert (await twin.dry_run(halves=True)).links
        assert {answer.name for answer in await twin.probe_once()} == {"ingress@n1", "ingress@n2", "ingress@n3"}
        prepared = await twin.prepare(isolate=["n1"])
        assert (await prepared.enable()).state == "active"
        await prepared.heal()

    run(daemon, job)

    async def nowhere() -> None:
        with pytest.raises(Unreachable, match="Start it with: sudo injector start"):
            await AsyncInjector("/nowhere.sock").status()

    asyncio.run(nowhere())


KILLED = """
import asyncio, sys
from partition_injector.aio import AsyncInjector
async def main():
    inj = AsyncInjector(sys.argv[1])
    p = await inj.partition(isolate=["n1"])
    print(p.name, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_client_that_dies_leaves_nothing_cut(daemon: Lab, live: Callable[[], list[str]]) -> None:
    child = start([*script(KILLED), daemon.socket])
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert live() == [name]
    child.kill()
    child.wait(10)
    until(lambda: live() == [])


CUTS_TOO = """
import asyncio, os, sys
from partition_injector.aio import AsyncInjector

async def cuts(inj, peer):
    async with await inj.partition(isolate=[peer], scopes=["udp/9"]) as p:
        print((await p.view()).state, flush=True)

async def main():
    inj = AsyncInjector(sys.argv[1])
    async with await inj.partition(isolate=["n1"], scopes=["udp/9"]) as p:
        child = os.fork()
        if child == 0:
            asyncio.run(cuts(inj, "n2"))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (await p.view()).state, flush=True)
asyncio.run(main())
"""


def test_a_forked_child_cuts_with_its_parents_client(daemon: Lab) -> None:
    parent = start([*script(CUTS_TOO), daemon.socket])
    said, _ = parent.communicate(timeout=60)
    assert said.split() == ["active", "0", "active"]
    assert parent.returncode == 0, "it was in force to the end of the parent's block"
