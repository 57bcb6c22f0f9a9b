"""Clients in other processes, and one in a network namespace, which TCP sees as another machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# each test run has a network of four addresses, so that two runs on one machine do not conflict
_NETWORK = f"169.254.{os.getpid() >> 6 & 0x7F}.{{}}".format
_FIRST = os.getpid() % 64 * 4
SERVER_ADDRESS, CLIENT_ADDRESS = _NETWORK(_FIRST + 1), _NETWORK(_FIRST + 2)


class Namespace:
    """The other end of a virtual cable."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.prefix = ("ip", "netns", "exec", name)

    def cut(self) -> None:
        """From now on nothing arrives: no FIN, no reset, no acknowledgement."""
        subprocess.run([*self.prefix, "ip", "link", "set", f"{self._name}-in", "down"], check=True)


@contextmanager
def crowd(
    host: str, port: int, path: str, *, size: int, prefix: tuple[str, ...] = (), says: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """``count`` WebSocket clients in one process, all open when this returns; killed at the end."""
    command = [*prefix, sys.executable, "-m", "tests.transport.crowd", host, str(port), path, str(size), says]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == f"open {size}\n"
        yield clients
        clients.kill()


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """Skips the test where the machine does not allow one."""
    name = f"tts{os.getpid()}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a half-open peer needs root and ip(8); the frozen client stands in")
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("this container may not make network namespaces; the frozen client stands in")
    try:
        for command in (
            f"ip link add {name}-out type veth peer name {name}-in netns {name}",
            f"ip address add {SERVER_ADDRESS}/30 dev {name}-out",
            f"ip link set {name}-out up",
            f"ip netns exec {name} ip address add {CLIENT_ADDRESS}/30 dev {name}-in",
            f"ip netns exec {name} ip link set {name}-in up",
        ):
            subprocess.run(command.split(), check=True)
        yield Namespace(name)
    finally:
        # remove the cable first: unacknowledged data of the client keeps its namespace alive for a while
        subprocess.run(["ip", "link", "del", f"{name}-out"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=True)
