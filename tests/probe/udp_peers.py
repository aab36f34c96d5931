"""Small UDP servers on this machine that answer as a test tells them, and a look at the process's open files."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poolproof.ntp import Header, decode, encode
from poolproof.target import Target


def answer_to(request: bytes) -> bytes:
    """A synchronised stratum 2 server's answer."""
    asked = decode(request)
    stamp = 0xE900_0000_0000_0000
    return encode(Header(0, 4, 4, 2, 0, -20, 0, 0, b"\xc0\x00\x02\x01", stamp, asked.transmit, stamp, stamp + 1))


@contextmanager
def server(address: str, play: Callable[[socket.socket, bytes, tuple[str, int]], None]) -> Iterator[Target]:
    """A server in a thread; `play` gets its socket, each datagram and the sender."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((address, 0))
        target = Target(address, sock.getsockname()[1])

        def serve() -> None:
            while True:
                payload, sender = sock.recvfrom(4_096)
                if payload == b"stop":
                    return
                play(sock, payload, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield target
        finally:
            with socket.socket(family, socket.SOCK_DGRAM) as stopper:
                stopper.sendto(b"stop", (address, target.port))
            thread.join(10)
            assert not thread.is_alive(), "the test's server hangs"


def answering(*answers: Callable[[bytes], bytes]) -> Callable[[socket.socket, bytes, tuple[str, int]], None]:
    """Send each of these back, in order."""

    def play(sock: socket.socket, payload: bytes, sender: tuple[str, int]) -> None:
        for answer in answers:
            sock.sendto(answer(payload), sender)

    return play


def closed_port(address: str) -> Target:
    """A port at which nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return Target(address, sock.getsockname()[1])


def open_files() -> set[str]:
    """What this process holds open, but for the directory that is being read."""
    held = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            held.add(f"{descriptor.name} {descriptor.readlink()}")
        except FileNotFoundError:
            continue
    return held
