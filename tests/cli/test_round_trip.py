"""The whole way by commands alone, against a real coordinator and agents: from request to trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.options import VARIABLE
from tests.cli.json_page import undocumented
from tests.cli.running import Result, run_aside
from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import TARGET, environment, in_memory


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def coordinator(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    async with in_memory(tmp_path) as (address, _), fleet_of(a_fleet(), address, world):
        monkeypatch.setenv(VARIABLE, address)
        await world.until(lambda: len(world.connected) == len(a_fleet()))
        yield address


async def poolproof(*arguments: str) -> Result:
    return await asyncio.wait_for(run_aside(*arguments), 40)


@pytest.mark.usefixtures("coordinator")
async def test_from_request_to_proof_and_its_trace(world: World) -> None:
    made = await poolproof("request", TARGET, "--applicant", "ana", "--json")
    name = json.loads(made.out)["verifications"][0]["id"]

    again = await poolproof("request", TARGET, "--applicant", "ana", "--json")
    assert (again.code, json.loads(again.err)["error"]["code"]) == (ExitCode.NOT_POSSIBLE, "not-possible")

    written = await poolproof("instructions", name[:6], "--for", "chrony", "--wait")
    assert written.code == ExitCode.OK
    rows = json.loads((await poolproof("show", name, "--json")).out)["rows"]
    quiet = {row["vantage"]: row["source"] for row in rows if row["role"] == "must-be-blocked"}
    assert len(quiet) == 5
    assert all(source in written.out for source in quiet.values())
    steps = json.loads((await poolproof("instructions", name, "--for", "chrony", "--json")).out)
    assert steps["rendered"].strip() == written.out.strip()
    assert steps["steps"][0]["lines"] or steps["steps"][0]["commands"]
    assert undocumented(steps, "Instructions") == set()

    world.answered = lambda job: job.vantage not in quiet
    ready = await poolproof("ready", name)
    assert (ready.code, ready.out.splitlines()[0].split()[0]) == (ExitCode.OK, name)
    watched = await poolproof("watch", name, "--json")
    shown = [json.loads(line) for line in watched.out.splitlines()]
    assert (watched.code, shown[-1]["verdict"]["verdict"]) == (ExitCode.OK, "proven")
    revisions = [each["revision"] for each in shown]
    assert revisions == sorted(set(revisions))
    assert (await poolproof("show", name)).code == ExitCode.OK

    explained = await poolproof("explain", name)
    assert explained.code == ExitCode.OK
    assert "What counted:" in explained.out
    assert undocumented(json.loads((await poolproof("explain", name, "--json")).out), "Explanations") == set()
    tree = await poolproof("trace", name)
    assert f"verification.attempt  {name} attempt 1" in tree.out
    assert f"job.dispatch  {min(quiet)}" in tree.out
    traced = json.loads((await poolproof("trace", name, "--json")).out)
    assert undocumented(traced, "Traces") == set()
    spans = traced["spans"]
    roots = [span for span in spans if span["parent_span_id"] is None]
    assert [span["name"] for span in roots] == ["verification.attempt"]
    listed = json.loads((await poolproof("list", "--state", "concluded", "--json")).out)["verifications"]
    assert [each["id"] for each in listed] == [name]
    late = await poolproof("retry", name)
    assert late.code == ExitCode.NOT_POSSIBLE


@pytest.mark.usefixtures("coordinator")
async def test_an_owner_who_did_nothing_is_refuted_and_sees_no_witness(world: World) -> None:
    made = await poolproof("request", TARGET, "--applicant", "ana", "--json")
    name = json.loads(made.out)["verifications"][0]["id"]
    assert (await poolproof("instructions", name, "--for", "nftables", "--wait")).code == ExitCode.OK
    assert (await poolproof("ready", name, "--json")).code == ExitCode.OK
    watched = await poolproof("watch", name)
    assert watched.code == ExitCode.REFUTED
    assert "●*" in watched.out
    owner, operator = await poolproof("show", name), await poolproof("show", name, "--operator")
    assert "witness-1" in owner.out
    assert "hidden" in owner.out
    assert "hidden" not in operator.out
    withdrawn = await poolproof("withdraw", name)
    assert withdrawn.code == ExitCode.NOT_POSSIBLE


@pytest.mark.usefixtures("coordinator")
async def test_the_fleet_as_operators_see_it() -> None:
    fleet = json.loads((await poolproof("fleet", "--json")).out)["vantages"]
    assert [each["id"] for each in fleet] == [vantage.id for vantage in a_fleet()]
    assert all(each["connected"] for each in fleet)
    shown = await poolproof("fleet")
    assert "14 of 14 connected" in shown.out
    assert "no calibrations: calibration_listen is empty" in shown.out


@pytest.mark.usefixtures("coordinator")
async def test_calibrations_as_operators_see_them_where_there_are_none() -> None:
    page = await poolproof("calibration")
    assert (page.code, "A probe that lies is not found" in page.out) == (ExitCode.OK, True)
    assert "hides answers where none shall come" in page.out
    told = json.loads((await poolproof("calibration", "--json")).out)
    assert undocumented(told, "Calibrations") == set()
    assert [each["id"] for each in told["vantages"]] == [vantage.id for vantage in a_fleet()]
    free = await poolproof("release", "v01", "--reason", "it was never held", "--json")
    assert (free.code, json.loads(free.err)["error"]["code"]) == (ExitCode.NOT_POSSIBLE, "not-possible")


async def test_a_coordinator_started_by_the_command_serves_and_stops_when_told(tmp_path: Path) -> None:
    variables = {**environment(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coordinator.cli", "coordinator", "--listen", "127.0.0.1:0", "--log-format", "text",
        env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert line.startswith("listening on 127.0.0.1:")
        listed = await poolproof("list", "--coordinator", line.split()[-1])
        assert (listed.code, listed.out) == (ExitCode.OK, "no verifications\n")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == ExitCode.OK
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
