"""The agent's session on the wire (proto/poolproof/v1/agent.proto): the messages that either side must not trust.

The stream's own envelopes (`SessionRequest`, `SessionResponse`) stay with the two modules that hold its ends,
`coordinator.session` and `probe.session`; what they carry is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from poolproof.exchange import ExchangeKind
from poolproof.ids import JobId, VantageId
from poolproof.job import Job
from poolproof.target import Family
from poolproof.v1 import agent_pb2 as pb
from poolproof.wire import checks
from poolproof.wire.checks import WireError
from poolproof.wire.evidence import KINDS, job_from_wire, job_to_wire

PROTOCOL_VERSION: Final = 1
"""The version of this contract. A session speaks the lower of both sides' versions."""
NONCE_BYTES: Final = 16
MAX_HELD_JOBS: Final = 4096
MAX_LEASED_JOBS: Final = 256
MAX_CAPACITY: Final = 65_535
MAX_VERSION_TEXT: Final = 64
MIN_HEARTBEAT_NS: Final = 100_000_000
MAX_HEARTBEAT_NS: Final = 600_000_000_000
_MAX_PROTOCOL_VERSION: Final = 1_000_000

_FAMILIES: Final = checks.EnumNames(Family, "ADDRESS_FAMILY", pb.AddressFamily.items())


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a probe is able to do.

    Attributes:
        families: at least one.
        ipv6_prefix: each exchange can come from another address of an IPv6 prefix.
        kernel_timestamps: receive times come from the kernel.
        icmp_errors: ICMP errors are read with the packet that they quote.
        kinds: kinds of exchange that it knows, at least one. Kinds that only a newer side knows are left out.
        capacity: jobs that it takes at one time, at least 1.
        tripwire: it can watch for packets of a target that nobody asked for.
    """

    families: frozenset[Family]
    ipv6_prefix: bool
    kernel_timestamps: bool
    icmp_errors: bool
    kinds: frozenset[ExchangeKind]
    capacity: int
    tripwire: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a session.

    Attributes:
        vantage: who calls; the connection's identity must agree.
        agent_version: of the program, for people.
        protocol_version: the newest that the agent speaks.
        session_nonce: 16 random bytes of this agent process: tells a reconnect from a second process.
        capabilities: what it can do.
        held_jobs: jobs accepted earlier and not yet acknowledged, finished or not.
        ipv4, ipv6, ipv6_prefix: what the agent is set up to send from; must be the vantage's.
    """

    vantage: VantageId
    agent_version: str
    protocol_version: int
    session_nonce: bytes
    capabilities: Capabilities
    held_jobs: tuple[JobId, ...] = ()
    ipv4: str | None = None
    ipv6: str | None = None
    ipv6_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator's answer: the session stands.

    Attributes:
        session_id: for logs on both sides.
        heartbeat_interval_ns: how often the agent shall send a heartbeat, 100 ms to 10 min.
        protocol_version: what the session speaks.
        server_time_ns: the coordinator's clock.
    """

    session_id: str
    heartbeat_interval_ns: int
    protocol_version: int
    server_time_ns: int


def hello_to_wire(hello: Hello) -> pb.Hello:
    """The message of a hello."""
    capabilities = hello.capabilities
    return pb.Hello(
        vantage_id=hello.vantage,
        agent_version=hello.agent_version,
        protocol_version=hello.protocol_version,
        session_nonce=hello.session_nonce,
        capabilities=pb.Capabilities(
            families=sorted(map(_FAMILIES.to_wire, capabilities.families)),
            ipv6_prefix=capabilities.ipv6_prefix,
            kernel_timestamps=capabilities.kernel_timestamps,
            icmp_errors=capabilities.icmp_errors,
            kinds=sorted(map(KINDS.to_wire, capabilities.kinds)),
            capacity=capabilities.capacity,
            tripwire=capabilities.tripwire,
        ),
        held_job_ids=hello.held_jobs,
        ipv4=hello.ipv4,
        ipv6=hello.ipv6,
        ipv6_prefix=hello.ipv6_prefix,
    )


def hello_from_wire(message: pb.Hello, field: str = "hello") -> Hello:
    """The hello of a message.

    Raises:
        WireError: a field is missing or out of range. Whether the version suits is for the caller to say.
    """
    checks.present(field, message, "capabilities")
    checks.length(f"{field}.held_job_ids", message.held_job_ids, MAX_HELD_JOBS)
    return Hello(
        vantage=VantageId(checks.identifier(f"{field}.vantage_id", message.vantage_id)),
        agent_version=checks.text(f"{field}.agent_version", message.agent_version, MAX_VERSION_TEXT, 1),
        protocol_version=checks.number(f"{field}.protocol_version", message.protocol_version, 1, _MAX_PROTOCOL_VERSION),
        session_nonce=checks.octets(f"{field}.session_nonce", message.session_nonce, NONCE_BYTES, NONCE_BYTES),
        capabilities=_capabilities_from_wire(message.capabilities, f"{field}.capabilities"),
        held_jobs=job_ids_from_wire(message.held_job_ids, f"{field}.held_job_ids"),
        ipv4=checks.address(f"{field}.ipv4", message.ipv4) if message.HasField("ipv4") else None,
        ipv6=checks.address(f"{field}.ipv6", message.ipv6) if message.HasField("ipv6") else None,
        ipv6_prefix=checks.prefix(f"{field}.ipv6_prefix", message.ipv6_prefix)
        if message.HasField("ipv6_prefix")
        else None,
    )


def _capabilities_from_wire(message: pb.Capabilities, field: str) -> Capabilities:
    checks.length(f"{field}.families", message.families, len(Family), 1)
    # A newer probe may name kinds that we do not know: it is simply never asked for them. Zero stays a mistake.
    checks.length(f"{field}.kinds", message.kinds, 64, 1)
    known = {KINDS.to_wire(kind): kind for kind in ExchangeKind}
    for index, number in enumerate(message.kinds):
        checks.number(f"{field}.kinds[{index}]", number, 1, (1 << 31) - 1)
    if known.keys().isdisjoint(message.kinds):
        raise WireError(f"{field}.kinds", list(message.kinds), "name one that this side knows; it can ask nothing else")
    return Capabilities(
        families=frozenset(_FAMILIES.from_wire(f"{field}.families", number) for number in message.families),
        ipv6_prefix=message.ipv6_prefix,
        kernel_timestamps=message.kernel_timestamps,
        icmp_errors=message.icmp_errors,
        kinds=frozenset(known[number] for number in message.kinds if number in known),
        capacity=checks.number(f"{field}.capacity", message.capacity, 1, MAX_CAPACITY),
        tripwire=message.tripwire,
    )


def welcome_to_wire(welcome: Welcome) -> pb.Welcome:
    """The message of a welcome."""
    return pb.Welcome(
        session_id=welcome.session_id,
        heartbeat_interval_ns=welcome.heartbeat_interval_ns,
        protocol_version=welcome.protocol_version,
        server_time_ns=welcome.server_time_ns,
    )


def welcome_from_wire(message: pb.Welcome, field: str = "welcome") -> Welcome:
    """The welcome of a message.

    Raises:
        WireError: a field is missing or out of range, or the version is one that we do not speak.
    """
    return Welcome(
        session_id=checks.identifier(f"{field}.session_id", message.session_id),
        heartbeat_interval_ns=checks.number(
            f"{field}.heartbeat_interval_ns", message.heartbeat_interval_ns, MIN_HEARTBEAT_NS, MAX_HEARTBEAT_NS
        ),
        protocol_version=checks.number(f"{field}.protocol_version", message.protocol_version, 1, PROTOCOL_VERSION),
        server_time_ns=checks.time_ns(f"{field}.server_time_ns", message.server_time_ns),
    )


def lease_to_wire(jobs: Iterable[Job]) -> pb.Lease:
    """The message that hands over jobs; at most `MAX_LEASED_JOBS` at a time."""
    return pb.Lease(jobs=map(job_to_wire, jobs))


def lease_from_wire(message: pb.Lease, field: str = "lease") -> tuple[Job, ...]:
    """The jobs of a lease, all or none.

    An agent that would rather refuse single jobs calls `job_from_wire` on each.

    Raises:
        WireError: no job, too many, or one that is not valid.
    """
    checks.length(f"{field}.jobs", message.jobs, MAX_LEASED_JOBS, 1)
    return tuple(job_from_wire(job, f"{field}.jobs[{index}]") for index, job in enumerate(message.jobs))


def job_ids_from_wire(ids: Iterable[str], field: str) -> tuple[JobId, ...]:
    """A list of job ids, as in JobAccepted and ReportAck.

    Raises:
        WireError: one of them is no id.
    """
    return tuple(JobId(checks.identifier(f"{field}[{index}]", value)) for index, value in enumerate(ids))
