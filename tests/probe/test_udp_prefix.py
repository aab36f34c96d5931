"""Sources drawn from an IPv6 prefix that is routed to the host and assigned to no interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PREPARE = """
ip link set lo up
ip -6 address add 2001:db8:9::1/128 dev lo nodad
ip -6 route add local 2001:db8:7::/64 dev lo
exec "$@"
"""

ASK = """
import asyncio
from poolproof.exchange import ExchangeKind
from poolproof.ntp import client_request
from probe.udp import UdpEngine
from tests.probe.udp_peers import answer_to, server

def play(sock, payload, sender):
    print("from", sender[0])
    sock.sendto(answer_to(payload), sender)

async def ask(source, target):
    exchange = await UdpEngine().exchange(
        kind=ExchangeKind.CLIENT_V4, request=client_request(77), source=source, target=target,
        send_at_ns=None, timeout_ns=5_000_000_000, linger_ns=0, until_first_reply=True,
    )
    print(source, len(exchange.replies), exchange.fault and exchange.fault.value)

with server("2001:db8:9::1", play) as target:
    for source in ("2001:db8:7::1", "2001:db8:7:0:f00d:1:2:3", "2001:db8:9::1", "2001:db8:8::1"):
        asyncio.run(ask(source, target))
"""


@pytest.mark.lab
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"),
    reason="a network namespace needs root, iproute2 and util-linux",
)
def test_any_address_of_a_routed_prefix_can_be_a_source_and_no_other() -> None:
    inside = ["unshare", "--net", "sh", "-e", "-c", PREPARE, "sh", sys.executable, "-W", "error", "-c", ASK]
    done = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "from 2001:db8:7::1",
        "2001:db8:7::1 1 None",
        "from 2001:db8:7:0:f00d:1:2:3",
        "2001:db8:7:0:f00d:1:2:3 1 None",
        "from 2001:db8:9::1",
        "2001:db8:9::1 1 None",
        "2001:db8:8::1 0 bind-failed",
    ]
