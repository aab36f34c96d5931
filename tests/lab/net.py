"""A network of hosts inside this machine: one namespace for each, all linked to one router namespace.

    m1 -- eth0 ==== m1 -+
    v1 -- eth0 ==== v1 -+- router        (nothing leads out of it)
    target eth0 target -+

Hosts hold single addresses (/32, /128), and the router has a route to each: so a host can have as many addresses,
of any network, as a test wants. Links need no ARP and no neighbour discovery, because next hops are fe80::1 (router)
and fe80::2 (host) with fixed MAC addresses: the first packet after start-up travels like any other. The router's end
of a link has the host's name, so that firewall rules on the router read well: `iifname "m1" drop`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket as sockets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final, Self, TypeVar

from tests.lab.namespaces import (
    FOLDER,
    LabError,
    batch,
    delete,
    delete_stale,
    end_group,
    enter,
    new_prefix,
    processes_in,
)
from tests.lab.packages import tool

ROUTER_IPV4: Final = "198.18.255.254"
ROUTER_IPV6: Final = "2001:db8:ffff::1"
"""Where the router's own ICMP errors come from."""

_IPV6_FREEBIND = 78
_HURRY_S = 0.5  # at the end of a test nothing is worth keeping
_ROUTER_SETUP = f"""
link set dev lo up
address add {ROUTER_IPV4}/32 dev lo
address add {ROUTER_IPV6}/128 dev lo nodad
"""

Result = TypeVar("Result")


class Host:
    """One namespace with its own addresses, routes, firewall and processes.

    Made by `Network.host`. Everything started here ends with the network.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name: Final = name
        self.namespace: Final = namespace
        self._addresses: list[str] = []
        self._processes: list[subprocess.Popen[Any]] = []
        self._descriptor = os.open(FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {', '.join(self._addresses)})"

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, IPv4 first, in the order given."""
        return tuple(self._addresses)

    @property
    def ipv4(self) -> str:
        """The first IPv4 address."""
        return next(address for address in self._addresses if ":" not in address)

    @property
    def ipv6(self) -> str:
        """The first IPv6 address."""
        return next(address for address in self._addresses if ":" in address)

    def call(self, function: Callable[[], Result]) -> Result:
        """Runs a function inside the namespace, in a thread of its own, and gives its result or raises its exception.

        Sockets opened and processes started by it stay in this namespace afterwards.
        """
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                enter(self._descriptor)
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Moves the calling thread into the namespace for the length of a `with` block.

        For code that opens its own sockets. On an event loop everything that runs meanwhile is in the namespace too.
        """
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self._descriptor)
            try:
                yield
            finally:
                enter(home)
        finally:
            os.close(home)

    def socket(self, family: sockets.AddressFamily, kind: sockets.SocketKind = sockets.SOCK_DGRAM) -> sockets.socket:
        """A new socket of this host, for the test's own process to use in any thread. The caller closes it."""
        return self.call(lambda: sockets.socket(family, kind))

    def udp(self, source: str | None = None, port: int = 0) -> sockets.socket:
        """A UDP socket bound to a source address of this host, or to any address of a prefix routed to it.

        Args:
            source: this host's first IPv4 address if left out.
            port: a free one if 0.
        """
        address = self.ipv4 if source is None else source
        made = self.socket(sockets.AF_INET6 if ":" in address else sockets.AF_INET)
        try:
            if ":" in address:  # an AnyIP address is on no interface: Linux wants this option before it can be bound
                made.setsockopt(sockets.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            made.bind((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a program in this host, in a process group of its own; it is ended with the network at the latest."""

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, cwd=folder, start_new_session=True
            )

        process = self.call(start)
        self._processes.append(process)
        return process

    def run(
        self, command: Sequence[str], *, given: str = "", timeout_s: float = 20.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program in this host to its end.

        Args:
            command: program and arguments.
            given: text for its standard input.
            timeout_s: it is killed after that.
            check: whether a non-zero exit is an error.

        Raises:
            LabError: non-zero exit (with `check`); has what the program wrote.
        """
        done = self.call(
            lambda: subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False)
        )
        if check and done.returncode:
            raise LabError(
                f"{self.name}: `{' '.join(command)}` failed ({done.returncode}): {done.stderr or done.stdout}\n{given}"
            )
        return done

    def nft(self, ruleset: str) -> str:
        """Loads an nftables script (`nft -f -`) in this host and gives what it prints.

        nft 1.0 wants one closing brace a line.
        """
        return self.run([tool("nft"), "-f", "-"], given=ruleset).stdout

    def ip(self, lines: str) -> str:
        """Runs lines of `ip -batch` in this host, like `route add blackhole 198.18.1.7`."""
        return batch(lines, self.namespace)

    def sysctl(self, key: str, value: str | int) -> None:
        """Sets a network setting of this host, like `sysctl("net.ipv4.icmp_ratelimit", 0)`."""
        path = Path("/proc/sys") / key.replace(".", "/")
        self.call(lambda: path.write_text(f"{value}\n"))

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Leaves a process that has ended out of the list of those to end with the network."""
        self._processes.remove(process)

    def processes(self) -> tuple[int, ...]:
        """Ids of all processes in this namespace."""
        return processes_in({os.fstat(self._descriptor).st_ino})

    def close(self) -> None:
        """Lets the namespace go; `Network` calls it after all processes have ended."""
        os.close(self._descriptor)

    def end_processes(self) -> None:
        """Ends everything that was started here: politely, then by force."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()  # all at once, so that they end side by side
        for process in self._processes:
            end_group(process, _HURRY_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()


class Network:
    """Hosts and a router between them; a context manager that leaves nothing behind.

    Example:
        with Network() as net:
            target = net.host("target", ipv4="198.18.0.1", ipv6="2001:db8::1")
            monitor = net.host("m1", ipv4=["198.18.1.1", "198.18.1.2"], prefix="2001:db8:7::/64")
            monitor.run(["ping", "-c1", target.ipv4])
    """

    router: Host

    def __init__(self) -> None:
        self._prefix = new_prefix()
        self._hosts: dict[str, Host] = {}

    @property
    def hosts(self) -> Mapping[str, Host]:
        """All hosts by name; the router is not among them."""
        return MappingProxyType({name: host for name, host in self._hosts.items() if name != "router"})

    def __enter__(self) -> Self:
        delete_stale()
        try:
            self.router = self._namespace("router")
            self.router.ip(_ROUTER_SETUP)
            for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                self.router.sysctl(key, 1)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def host(
        self,
        name: str,
        *,
        ipv4: str | Sequence[str] = (),
        ipv6: str | Sequence[str] = (),
        prefix: str | Sequence[str] = (),
    ) -> Host:
        """A new host, up and reachable when this returns (about 20 ms).

        Args:
            name: at most 15 of a-z, 0-9 and -, unique in the network; also the name of the router's interface to it.
            ipv4: its addresses; the first is the default source.
            ipv6: its addresses; the first is the default source.
            prefix: IPv6 prefixes of which every address is this host's (AnyIP). Binding such an address needs
                IPV6_FREEBIND, as on any Linux.

        Raises:
            ValueError: a name or an address that cannot be used.
            LabError: `ip` refused something.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,14}", name) or name == "lo" or name in self._hosts:
            raise ValueError(f"host name {name!r}: give a new one of at most 15 of a-z, 0-9 and -, like 'm1'")
        host = self._namespace(name)
        router = self.router.namespace
        batch(
            f"link add name eth0 netns {host.namespace} address 02:00:00:00:00:02 type veth"
            f" peer name {name} netns {router} address 02:00:00:00:00:01\n"
        )
        self.router.ip(
            f"address add fe80::1/64 dev {name} nodad\nlink set dev {name} up\n"
            f"neighbour replace fe80::2 lladdr 02:00:00:00:00:02 dev {name} nud permanent\n"
        )
        host.ip(
            "link set dev lo up\naddress add fe80::2/64 dev eth0 nodad\nlink set dev eth0 up\n"
            "neighbour replace fe80::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n"
            "route add 0.0.0.0/0 via inet6 fe80::1 dev eth0\nroute add ::/0 via fe80::1 dev eth0\n"
        )
        self.add_addresses(host, [*_listed(ipv4), *_listed(ipv6)])
        for each in _listed(prefix):
            self.add_prefix(host, each)
        return host

    def add_addresses(self, host: Host, addresses: Sequence[str]) -> None:
        """Gives a host more addresses, and the router the routes to them."""
        parsed = [ipaddress.ip_address(address) for address in addresses]
        host.ip(
            "".join(
                f"address add {address}/{address.max_prefixlen} dev eth0{_NODAD[address.version]}\n"
                for address in parsed
            )
        )
        self.router.ip(
            "".join(f"route add {address} {_TO_HOST[address.version]} dev {host.name}\n" for address in parsed)
        )
        host._addresses.extend(str(address) for address in parsed)
        host._addresses.sort(key=lambda address: ":" in address)

    def add_prefix(self, host: Host, prefix: str) -> None:
        """Routes an IPv6 prefix to a host that takes every address of it as its own (AnyIP)."""
        network = ipaddress.IPv6Network(prefix)
        host.ip(f"route add local {network} dev lo\n")
        self.router.ip(f"route add {network} via fe80::2 dev {host.name}\n")

    def close(self) -> None:
        """Ends all processes in all hosts and deletes the namespaces; safe to call twice."""
        hosts = tuple(self._hosts.values())
        self._hosts.clear()
        for host in hosts:
            host.end_processes()
        delete([host.namespace for host in hosts])
        for host in hosts:
            host.close()

    def _namespace(self, name: str) -> Host:
        namespace = self._prefix + name
        batch(f"netns add {namespace}\n")
        host = self._hosts[name] = Host(name, namespace)
        return host


_NODAD = {4: "", 6: " nodad"}
_TO_HOST = {4: "via inet6 fe80::2", 6: "via fe80::2"}


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
