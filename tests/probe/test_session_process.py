"""The command `poolproof probe` as a process: signals, exit codes, and what survives a kill."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from poolproof.v1 import agent_pb2 as pb
from poolproof.v1 import evidence_pb2
from probe.cli import MANY_SOCKETS, probe, responder
from tests.lab.packages import tool
from tests.probe.coordinator_peer import MS, Peer, job, serving, target


@asynccontextmanager
async def process(
    state: Path,
    port: int,
    ntp_port: int,
    *,
    rights: Sequence[str] = (),
    tripwire: str = "auto",
    within: Sequence[str] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A probe; killed if it is still there at the end.

    `rights` are the arguments of setpriv(1) that it runs under, `within` is a command that becomes it.
    """
    settings = {
        "VANTAGE": "ams1",
        "COORDINATOR": f"127.0.0.1:{port}",
        "IPV4": "127.0.0.1",
        "GUARD_ALLOW_NETWORKS": "127.0.0.0/8",
        "GUARD_ALLOW_PORTS": str(ntp_port),
        "CONTROL_SERVERS": f"127.0.0.1:{ntp_port}",
        "CONTROL_LEAD_NS": str(100 * MS),
        "JOURNAL_DIRECTORY": str(state),
        "TRIPWIRE_ENABLED": tripwire,
    }
    root = Path(__file__).parents[2]
    running = await asyncio.create_subprocess_exec(
        *within,
        *([tool("setpriv"), *rights, "--"] if rights else []),
        sys.executable,
        "-c",
        "from probe.cli import probe; probe()",
        env={
            **{f"POOLPROOF_PROBE_{name}": value for name, value in settings.items()},
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(root),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def ended(running: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(20):
        _, log = await running.communicate()
    return running.returncode, log.decode()


async def test_a_signal_lets_the_running_job_finish_and_ends_with_zero(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    peer = Peer(acknowledges=True)
    async with target() as ntp, serving(peer) as port, process(tmp_path, port, ntp.listen[0][1]) as running:
        stream = await peer.session(1)
        stream.lease(job("j1", ntp, ahead_ns=700 * MS))
        await stream.until(lambda: bool(stream.all("job_accepted")))
        await stream.until(lambda: any(each.heartbeat.jobs_held for each in stream.all("heartbeat")))
        assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[0] >= min(hard, MANY_SOCKETS)
        running.send_signal(signal.SIGTERM)
        (delivery,) = await stream.reports(1)
        assert not delivery.report.exchanges[0].HasField("fault")
        code, log = await ended(running)
    assert code == 0, log
    assert '"trace_id": "' + "ab" * 16 in log, "lines about the job bear its trace"


async def test_a_killed_probe_accounts_for_its_job_when_it_is_back(tmp_path: Path) -> None:
    peer = Peer(acknowledges=True)
    async with target() as ntp, serving(peer) as port:
        ntp_port = ntp.listen[0][1]
        leased = job("j1", ntp, ahead_ns=5_000 * MS)
        async with process(tmp_path, port, ntp_port) as running:
            stream = await peer.session(1)
            stream.lease(leased)
            # By the second heartbeat with the job its begin is on disk.
            await stream.until(lambda: sum(bool(e.heartbeat.jobs_held) for e in stream.all("heartbeat")) >= 3)
            running.kill()
        async with process(tmp_path, port, ntp_port):
            back = await peer.session(2)
            assert list(back.hello.held_job_ids) == ["j1"]
            back.lease(leased)
            reports = await back.reports(1)
    assert ntp.answered == 0
    for delivery in reports:
        fault = delivery.report.exchanges[0].fault
        assert fault == evidence_pb2.LOCAL_FAULT_INTERRUPTED


async def test_a_probe_that_the_coordinator_does_not_know_says_so_and_ends(tmp_path: Path) -> None:
    peer = Peer(reject=pb.Reject(reason=pb.REJECT_REASON_IDENTITY, detail="vantage 'ams1' is not in the fleet"))
    async with target() as ntp, serving(peer) as port, process(tmp_path, port, ntp.listen[0][1]) as running:
        code, log = await ended(running)
    assert code == 3
    assert "rejected vantage ams1: identity: vantage 'ams1' is not in the fleet" in log


async def test_a_second_probe_on_one_journal_is_refused_with_the_remedy(tmp_path: Path) -> None:
    peer = Peer()
    async with target() as ntp, serving(peer) as port, process(tmp_path, port, ntp.listen[0][1]):
        await peer.session(1)
        async with process(tmp_path, port, ntp.listen[0][1]) as second:
            code, log = await ended(second)
    assert code == 4
    assert "give each its own journal.directory" in log


ONLY_NET_RAW = ("--bounding-set", "-all,+net_raw", "--inh-caps", "-all,+net_raw")
NO_NET_RAW = ("--bounding-set", "-net_raw", "--inh-caps", "-net_raw")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("rights", "wanted", "told"),
    [(ONLY_NET_RAW, "yes", True), (ONLY_NET_RAW, "no", False), (NO_NET_RAW, "auto", False)],
    ids=["only-net-raw", "switched-off", "without-net-raw"],
)
async def test_a_probe_tells_whether_it_can_watch_and_says_why_not(
    tmp_path: Path, rights: Sequence[str], wanted: str, told: bool
) -> None:
    peer = Peer(acknowledges=True)
    async with (
        target() as ntp,
        serving(peer) as port,
        process(tmp_path, port, ntp.listen[0][1], rights=rights, tripwire=wanted) as running,
    ):
        stream = await peer.session(1)
        assert stream.hello.capabilities.tripwire is told
        leased = job("j1", ntp)
        stream.lease(replace(leased, watch_until_ns=leased.start_at_ns + 60_000 * MS))
        (delivery,) = await stream.reports(1)
        assert not delivery.report.exchanges[0].HasField("fault")
        assert delivery.report.HasField("capture") is told
        assert delivery.report.capture.unasked_total == 0
        running.send_signal(signal.SIGTERM)
        code, log = await ended(running)
    assert code == 0, log
    assert log.count("no tripwire") == (not told)
    assert ("give this process CAP_NET_RAW" in log) is (rights is NO_NET_RAW)


@pytest.mark.lab
async def test_a_probe_that_must_watch_and_cannot_does_not_start(tmp_path: Path) -> None:
    async with process(tmp_path, 9, 9, rights=NO_NET_RAW, tripwire="yes") as running:
        code, log = await ended(running)
    assert code == 2
    assert "Error: tripwire.enabled: yes, but there is no packet socket" in log
    assert "give this process CAP_NET_RAW" in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "vantage: missing"),
        (["--vantage", "a", "--ipv4", "localhost"], "ipv4: 'localhost' is not an IPV4 address"),
        (["--vantage", "a", "--ipv4", "192.0.2.1", "--log-level", "LOUD"], "log level 'LOUD'"),
        (["--config", "no-such-file.toml"], "no-such-file.toml"),
    ],
)
def test_a_wrong_setting_is_named_and_ends_with_two(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.cli.configure", fussy)
    done = CliRunner().invoke(probe, arguments)
    assert done.exit_code == 2
    assert words in done.output


def fussy(_form: object, level: str) -> None:
    """Refuses as the real one does, and leaves the tests' own logging alone."""
    if level == "LOUD":
        raise ValueError(f"log level {level!r}: give one of ...")


def test_an_exporter_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.cli.configure", fussy)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    done = CliRunner().invoke(probe, ["--vantage", "a", "--ipv4", "192.0.2.1"])
    assert (done.exit_code, "OTEL_METRICS_EXPORTER" in done.output) == (2, True)


def test_help_shows_examples() -> None:
    for command in (probe, responder):
        text = CliRunner().invoke(command, ["--help"]).output
        assert "Examples:" in text
        assert f"poolproof {command.name} --" in text


def test_the_responder_refuses_an_address_that_is_none() -> None:
    done = CliRunner().invoke(responder, ["--listen", "somewhere"])
    assert done.exit_code == 2
    assert "somewhere" in done.output
