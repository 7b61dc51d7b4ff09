"""A daemon on another host. In place of ssh, a program that runs the far command here, as ssh would there."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from typing import Callable

import pytest
from cluster import until
from conftest import BINARY, script, start

from partition_injector import Injector, NotPermitted, Unreachable, UsageError
from partition_injector.address import SshAddress, address
from partition_injector.lab import Lab

SSH = """#!/bin/sh
# ssh -T -o ConnectTimeout=10 [-p PORT] DESTINATION COMMAND…
printf '%s\\n' "$*" >> "$0.log"
while [ "$1" != me@far ]; do shift; done
shift
{behaves}
exec sh -c "$*"
"""


@pytest.fixture
def ssh(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pathlib.Path]:
    def install(behaves: str = "") -> pathlib.Path:
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SSH.format(behaves=behaves))
        program.chmod(0o755)
        far = program.with_name("injector")
        if not far.exists():
            far.symlink_to(os.path.abspath(BINARY))
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return program

    return install


def test_everything_goes_through_ssh(daemon: Lab, ssh: Callable[[], pathlib.Path], live: Callable[[], list[str]]) -> None:
    program = ssh()
    with Injector(daemon.socket, host="ssh://me@far:2222") as inj:
        with inj.partition(isolate=["n1"]) as p:
            assert live() == [p.name]
            with inj.events(follow=False) as events:
                assert p.name in [getattr(event, "name", None) for event in events]
        assert p.recovery(timeout="30s").final
    asked = program.with_name("ssh.log").read_text().splitlines()
    assert asked[0] == f"-T -o ConnectTimeout=10 -p 2222 me@far injector dial-stdio --socket {daemon.socket}"


#: As ssh does, it hands on the end of its input, and continues: a client that has nothing more to send may still read.
RELAY = """
import os, subprocess, sys, threading
far = subprocess.Popen(["sh", "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def there():
    while data := os.read(0, 65536):
        os.write(far.stdin.fileno(), data)
    far.stdin.close()
threading.Thread(target=there, daemon=True).start()
while data := os.read(far.stdout.fileno(), 65536):
    os.write(1, data)
sys.exit(far.wait())
"""

FAR = """
import sys, time
from partition_injector import Injector
p = Injector(sys.argv[1], host="ssh://me@far").partition(isolate=["n1"])
print(p.name, flush=True)
time.sleep(600)
"""


def test_a_client_that_is_killed_takes_ssh_along(
    daemon: Lab, ssh: Callable[[str], pathlib.Path], live: Callable[[], list[str]]
) -> None:
    ssh(f'exec {sys.executable} -c \'{RELAY}\' "$*"')
    child = start([*script(FAR), daemon.socket])
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert live() == [name]
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    until(lambda: live() == [])


@pytest.mark.parametrize(
    "behaves, error, sentence",
    [
        ("echo 'me@far: Permission denied (publickey).' >&2; exit 255", Unreachable, "Permission denied (publickey)."),
        ("exec sh -c 'echo injector: not found >&2; exit 127'", Unreachable, "status 127: injector: not found"),
        ("echo '/run/x.sock: not permitted' >&2; exit 77", NotPermitted, "not permitted there: /run/x.sock"),
    ],
)
def test_why_ssh_failed_is_said(
    ssh: Callable[[str], pathlib.Path], behaves: str, error: type[Exception], sentence: str
) -> None:
    ssh(behaves)
    with pytest.raises(error) as failed:
        Injector(host="ssh://me@far").status()
    assert sentence in str(failed.value)
    assert "ssh://me@far" in str(failed.value)
    if error is Unreachable:
        assert "try it by hand: ssh -T -o ConnectTimeout=10 me@far injector status" in str(failed.value)


def test_no_daemon_there(ssh: Callable[[], pathlib.Path], tmp_path: pathlib.Path) -> None:
    ssh()
    with pytest.raises(Unreachable, match="can't be reached: ssh, or injector dial-stdio there, ended with status 69"):
        Injector(tmp_path / "no.sock", host="ssh://me@far").status()


def test_hosts_are_what_ssh_takes_and_never_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address(None, "ssh://root@[fd00::1]:22") == SshAddress("root@fd00::1", 22, None)
    assert address("/s", "ssh://vm") == SshAddress("vm", None, "/s")
    for host in ("vm", "ssh://", "ssh://-oProxyCommand=x", "ssh://u@-x", "ssh://vm:port", "ssh://a b"):
        with pytest.raises(UsageError):
            address(None, host)
    monkeypatch.setenv("INJECTOR_HOST", "ssh://vm")
    assert address(None, None) == SshAddress("vm", None, None)
    assert str(address("/here", None)) == "/here"
