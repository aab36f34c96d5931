"""The process as an operator meets it: what it says when it cannot start, and that it ends when told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.coordinator.agents import World, fleet_of
from tests.coordinator.doubles import a_fleet
from tests.coordinator.running import environment, free_port, spawn


async def test_what_keeps_it_from_starting_is_said_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    variables = environment(tmp_path, "127.0.0.1:0", policy="1999")
    process = await spawn(variables, log)
    async with asyncio.timeout(30):
        assert await process.wait() == 2
    assert log.read_text() == "poolproof coordinator: policy: '1999': there is none of this id; " + (
        "give one of 2026-11, quick\n"
    )


async def test_a_second_coordinator_on_the_same_state_does_not_start_and_the_first_ends_on_sigterm(
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / "log"
    address, world = f"127.0.0.1:{port}", World()
    first = await spawn(environment(tmp_path, address), log)
    try:
        async with fleet_of(a_fleet(2), address, world):
            await world.until(lambda: len(world.connected) == 2)
            second = await spawn(environment(tmp_path, "127.0.0.1:0"), tmp_path / "second")
            async with asyncio.timeout(30):
                assert await second.wait() == 2
            assert "coordinator has it open" in (tmp_path / "second").read_text()
            first.terminate()
            async with asyncio.timeout(30):
                assert await first.wait() == 0, log.read_text()
    finally:
        if first.returncode is None:
            first.kill()
            await first.wait()
