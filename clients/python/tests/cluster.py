"""Three small quorum nodes and a client in network namespaces, and what tests need to look at them. Needs root."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

NODES = ("n1", "n2", "n3")
CLIENT = "client"
_count = 0


def run(*words: str) -> str:
    """Runs a command to its end."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Cluster:
    """The namespaces, joined by a bridge, and the nodes in them. Gone at the end, also after a failure."""

    def __init__(self) -> None:
        global _count
        _count += 1
        # Begins as the labs of the project do, which clear away what a killed process left.
        self.prefix = f"inj{os.getpid()}-p{_count}-"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="injector-py-"))
        self._made: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def netns(self, of: str) -> str:
        """The full name of a namespace."""
        return self.prefix + of

    def __enter__(self) -> Cluster:
        try:
            self._network()
            for node in NODES:
                self._start(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _network(self) -> None:
        for of in ("sw", CLIENT, *NODES):
            run("ip", "netns", "add", self.netns(of))
            self._made.append(self.netns(of))
        switch = ["ip", "-n", self.netns("sw"), "link"]
        run(*switch, "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        run(*switch, "set", "br0", "up")
        for host, of in ((1, "n1"), (2, "n2"), (3, "n3"), (254, CLIENT)):
            run(*switch, "add", f"p-{of}", "type", "veth", "peer", "name", "eth0", "netns", self.netns(of))
            run(*switch, "set", f"p-{of}", "master", "br0", "up")
            inside = ["ip", "-n", self.netns(of)]
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "address", "add", f"10.99.0.{host}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")

    def _start(self, node: str, *faults: str) -> None:
        peers = ",".join(f"{other}=10.99.0.{other[1:]}" for other in NODES if other != node)
        command = ["ip", "netns", "exec", self.netns(node), os.environ["INJECTOR_TEST_QUORUM"], "--node", node]
        command += ["--listen", f"10.99.0.{node[1:]}", "--peers", peers, "--seed", "7", *faults]
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, **quiet))

    def config(self, more: str = "", observe: str = "1s", deadline: str = "10s", file: str = "lab.yaml") -> pathlib.Path:
        """A config for these namespaces."""
        peers = "".join(f"  {node}: {{ addresses: [10.99.0.{node[1:]}] }}\n" for node in NODES)
        interfaces = "".join(f"  - {{ name: eth0, netns: {self.netns(node)} }}\n" for node in NODES)
        path = self.folder / file
        path.write_text(
            f"socket: {{ path: {self.folder}/run/api.sock, group: root, mode: '0600' }}\n"
            f"peers:\n{peers}interfaces:\n{interfaces}"
            "endpoints:\n  - name: ingress\n    peers: [n1, n2, n3]\n"
            '    probe: { http: { url: "http://{address}:8080/" }, interval: 50ms, timeout: 3s }\n'
            f"    wire: {{ port: 8080, success: http }}\n    netns: {self.netns(CLIENT)}\n"
            f"ready: {{ consecutive: 5, observe: {observe}, observe_max: 20s }}\ndeadline: {deadline}\n{more}"
        )
        return path

    def reaches(self, src: str, dst: str) -> bool:
        """Whether a TCP connection from one node to another is answered within a second."""
        connect = f"import socket; socket.create_connection(('10.99.0.{dst[1:]}', 8080), 1)"
        command = ["ip", "netns", "exec", self.netns(src), sys.executable, "-I", "-S", "-c", connect]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in self._made:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.folder.rmdir()


def until(condition: Any, patience: float = 60.0) -> None:
    """Waits for a condition."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
