"""What goes wrong is one clear sentence, with the command that helps."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Iterator

import pytest
from cluster import Cluster, until
from conftest import BINARY, script, start

import partition_injector as injector
from partition_injector import Broken, Injector, InjectorError, Misread, Problem, Unreachable, VersionMismatch, VersionWarning
from partition_injector import versions
from partition_injector.calls import Call
from partition_injector.lab import Lab
from partition_injector.wire import read

NOBODY = 65534


def test_a_problem_carries_what_the_daemon_said(inj: Injector) -> None:
    with pytest.raises(Problem) as refused:
        inj.partition(isolate=["n9"])
    problem = refused.value
    assert (problem.code, problem.status, problem.field) == ("unknown-peer", 400, "shape")
    assert problem.detail == 'unknown peer "n9"' and problem.remedy == "known peers: n1, n2, n3, world"
    assert str(problem) == 'unknown peer "n9"; known peers: n1, n2, n3, world'
    with pytest.raises(Problem) as refused:
        inj.partition(isolate=["n1"], for_="5 parsecs")
    assert (refused.value.code, refused.value.field) == ("bad-body", "for")
    with pytest.raises(Problem) as refused:
        inj.heal("ghost")
    assert (refused.value.code, refused.value.status) == ("unknown-partition", 404)
    # The daemon still answers on the same client.
    assert inj.status().peers.keys() == {"n1", "n2", "n3"}


@pytest.mark.parametrize(
    "cut, field, sentence",
    [
        ({}, "shape", "exactly one shape, and no shape is given; choose one of isolate, "),
        ({"isolate": ["n1"], "halves": True}, "shape", "isolate and halves are given"),
        ({"isolat": ["n1"]}, "isolat", 'do you mean "isolate"?'),
        ({"isolate": ["n1"], "for": "5s"}, "for", 'do you mean "for_"?'),
        ({"isolate": ["n1"], "among": ["n2"]}, "among", "isolate draws nothing; use it with one of random_halves, "),
        ({"links": ["n1-n2"]}, "links", 'write ("n1", "n2") or "n1:n2"'),
        ({"isolate": ["n1"], "for_": -1}, "for_", 'for_: -1 is no length of time; write seconds, or a text such as "5s"'),
        ({"isolate": ["n1"], "loss": 30}, "loss", 'loss: 30 is no share of packets; write loss="30%"'),
        ({"isolate": ["n1"], "loss": 0.3}, "loss", 'write loss="30%", to drop 30 of 100 packets'),
        ({"isolate": ["n1"], "flap": 3}, "flap", 'write flap="200ms/50%"'),
        ({"isolate": 3}, "isolate", "isolate=3: "),
        ({"random": "x"}, "random", "random='x': "),
        ({"isolate": ["n1"], "duration": "3s"}, "duration", 'a partition knows no "duration"; do you mean "for_"?'),
        ({"isolate": ["n1"], "ports": 80}, "ports", 'do you mean "scopes"?'),
        ({"name": "isolate n1"}, "shape", "(the argument 'isolate n1' is the partition's name); write the shape as a keyword"),
    ],
)
def test_a_wrong_argument_names_its_field(inj: Injector, cut: dict, field: str, sentence: str) -> None:
    with pytest.raises(injector.UsageError) as wrong:
        inj.partition(**cut)
    assert wrong.value.field == field and sentence in str(wrong.value)
    assert isinstance(wrong.value, ValueError) and isinstance(wrong.value, InjectorError)


@pytest.mark.parametrize(
    "cut, field, sentence",
    [
        ({"for_": "20"}, "for", 'for_: "20" is not a duration (time unit needed, '),
        ({"loss": "30"}, "loss", 'loss: "30" is not a percentage above 0% and up to 100%; write it as "30%"'),
        ({"scopes": "tcp 7"}, "scopes[0]", 'scopes: scope "tcp 7": unknown protocol; write tcp, '),
        ({"direction": "outward"}, "direction", 'direction: "outward" is not a direction: write '),
    ],
)
def test_a_value_that_the_daemon_refuses_names_its_keyword(inj: Injector, cut: dict, field: str, sentence: str) -> None:
    for refused in (inj.partition, inj.dry_run):
        with pytest.raises(Problem) as problem:
            refused(isolate=["n1"], **cut)
        assert (problem.value.code, problem.value.field) == ("bad-body", field)
        # Nothing is said of JSON, which the caller did not write.
        said = str(problem.value)
        assert said.startswith(sentence) and "line 1" not in said and "openapi" not in said, said


def test_a_bad_name_never_reaches_another_path(inj: Injector) -> None:
    for name in ("../status", "a b", "", "n" * 65):
        with pytest.raises(injector.UsageError, match="use 1 to 64 letters"):
            inj.heal(name)


def test_no_daemon(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "no.sock"
    monkeypatch.setenv("INJECTOR_SOCKET", str(nowhere))
    with pytest.raises(Unreachable) as none:
        Injector().status()
    assert str(none.value) == (
        f"the daemon at {nowhere} can't be reached: No such file or directory; is it running? Start it with: sudo "
        "injector start --config lab.yaml"
    )
    # A socket that nobody serves any more.
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(nowhere))
    gone.close()
    with pytest.raises(Unreachable, match="Connection refused; is it running"):
        Injector().status()
    with pytest.raises(injector.UsageError, match="write it as ssh://user@host"):
        Injector(host="-oProxyCommand=x")
    # As docs/recipes/hosts.md exports it for the command line.
    monkeypatch.delenv("INJECTOR_SOCKET")
    for hosts in ("ssh://root@n1,ssh://root@n2", "ssh://n1,n2"):
        monkeypatch.setenv("INJECTOR_HOST", hosts)
        with pytest.raises(injector.UsageError) as several:
            Injector()
        assert several.value.field == "INJECTOR_HOST"
        assert str(several.value) == (
            "INJECTOR_HOST names 2 hosts, and a client asks one daemon; name one, or make a client for each with host="
        )
    monkeypatch.setenv("INJECTOR_HOST", "vm")
    with pytest.raises(injector.UsageError, match='INJECTOR_HOST: "vm" is not a host; write it as ssh://user@host'):
        Injector()
    monkeypatch.setenv("INJECTOR_HOST", "")
    assert str(Injector().address) == "/run/injector/injector.sock"


def test_no_permission(daemon: Lab) -> None:
    ask = (
        "import os, sys\nfrom partition_injector import Injector, InjectorError\n"
        f"os.setgroups([])\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n"
        "try:\n    Injector(sys.argv[1]).status()\nexcept InjectorError as error:\n    print(error.code, '|', error)"
    )
    said = subprocess.run([*script(ask), daemon.socket], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    code, sentence = said.stdout.strip().split(" | ")
    assert code == "not-permitted"
    assert sentence.startswith(f"{daemon.socket}: not permitted for this user; use sudo, or join the group")


@pytest.fixture
def stranger(tmp_path: pathlib.Path) -> Iterator[str]:
    """A server that does not speak HTTP."""
    path = str(tmp_path / "other.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            stream.recv(1000)
            stream.sendall(b"220 mail.example ESMTP\r\n\r\n")
            stream.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join(5)


def test_something_else_on_the_socket(stranger: str) -> None:
    with pytest.raises(Misread, match="does not speak HTTP; is this the injector's socket"):
        Injector(stranger).status()


@dataclass
class Future:
    """A status that a later daemon may answer."""

    version: str
    mood: str


@pytest.mark.parametrize("version, how", [("99.0.0", "newer"), ("0.0.1", "older")])
def test_another_version_says_so(inj: Injector, monkeypatch: pytest.MonkeyPatch, version: str, how: str) -> None:
    daemon = inj.status().version
    monkeypatch.setattr(versions, "__version__", version)
    sentence = f"this client \\({version}\\) is {how} than the daemon \\({daemon}\\)"
    with pytest.warns(VersionWarning, match=f"{sentence}; if a call fails, install the client of the daemon's version"):
        inj.status()
    # A call that this daemon does not know.
    with pytest.raises(VersionMismatch, match=f"{sentence}, and .*pip install ./clients/python"):
        inj.call(Call("GET", "/v1/weather", lambda value: value))
    # An answer without a field that this client needs.
    with pytest.raises(VersionMismatch, match=f"{sentence}, and GET /v1/status: status.mood is missing"):
        inj.call(Call("GET", "/v1/status", lambda value: read(Future, value, "status")))
    # An option that this daemon does not know stays the daemon's problem, with the versions beside it.
    with pytest.raises(Problem, match=f"{sentence}") as unknown:
        inj.partition(shape={"encircle": ["n1"]})
    assert unknown.value.code == "bad-body"


def test_of_one_version_nothing_is_said_of_versions(inj: Injector, recwarn: pytest.WarningsRecorder) -> None:
    inj.status()
    with pytest.raises(Problem, match="there is no GET /v1/weather") as unknown:
        inj.call(Call("GET", "/v1/weather", lambda value: value))
    assert unknown.value.code == "no-such-call" and "version" not in str(unknown.value)
    assert not [warning for warning in recwarn if issubclass(warning.category, VersionWarning)]


def test_a_daemon_that_was_started_anew(cluster: Cluster) -> None:
    config = cluster.config(file="restarted.yaml")
    sock = f"{cluster.folder}/restarted/api.sock"

    def serve() -> "subprocess.Popen[str]":
        daemon = start([BINARY, "start", "--config", str(config), "--socket", sock], stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(sock) and _answers(sock))
        return daemon

    daemon = serve()
    try:
        inj = Injector(sock)
        with pytest.raises(injector.NotInForce, match="the daemon does not know it any more; it was restarted"):
            with inj.partition(isolate=["n1"]):
                daemon.terminate()
                daemon.wait(20)
                daemon = serve()
        with pytest.raises(Broken, match="has ended the connection that owned this client's partitions"):
            inj.partition(isolate=["n1"])
        assert inj.partition(isolate=["n1"]).heal().healed_by == "request"
        # A new daemon counts generations from 1 on again; what another client cut is not ours, and stays.
        inj.close()
        for count, name_is_taken_over in ((1, False), (2, True)):
            daemon.terminate()
            daemon.wait(20)
            daemon = serve()
            mine = inj.partition("mine", isolate=["n1"], owner="none")
            assert mine.generation == 1
            daemon.terminate()
            daemon.wait(20)
            daemon = serve()
            with Injector(sock) as other:
                theirs = [other.partition("mine", isolate=["n1"])]
                if name_is_taken_over:
                    theirs[0].heal()
                    theirs.append(other.partition("mine", isolate=["n1"]))
                assert theirs[-1].generation == count
                with pytest.raises(injector.NotInForce, match="the daemon does not know it any more; it was restarted"):
                    with mine:
                        pass
                assert theirs[-1].view().state == "active"
    finally:
        daemon.terminate()
        daemon.wait(20)


def _answers(sock: str) -> bool:
    try:
        return bool(Injector(sock).status().version)
    except InjectorError:
        return False


def test_the_package_is_usable_by_itself() -> None:
    """No dependency is imported, not even where the plugin's are installed."""
    text = "import sys, partition_injector, partition_injector.aio, partition_injector.lab; print([name for name in ('pytest', 'typing_extensions') if name in sys.modules])"
    said = subprocess.run(script(text), capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
    assert sys.version_info >= (3, 9)


@pytest.mark.parametrize(
    "ns, text", [(999_980_000, "1 s"), (999_400_000, "999 ms"), (-1_914_000_000, "-1.91 s"), (3600 * 10**9, "3600 s"), (999, "999 ns")]
)
def test_lengths_of_time_are_three_digits_and_a_unit(ns: int, text: str) -> None:
    from partition_injector.duration import words

    assert words(ns) == text
