"""An applicant who owns nothing floods somebody's server, with the whole product running: never a strong proof.

A few telling attacks, side by side; `python -m tests.lab.attacks` plays all that was thought of. docs/silence.md says
why they fail, and what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from poolproof.fleet import Role
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, Assurance
from poolproof.proof_words import assurance_note
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, Reason
from tests.lab.attack import Attack, Ending, Whom, playing
from tests.lab.floods import Steady
from tests.lab.floods_servers import SERVERS, TIGHT
from tests.lab.net import Network
from tests.lab.packages import program
from tests.lab.product import PROBES, Product

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("product"), pytest.mark.timeout(300)]

_STEADY = Steady(50)
_BEHIND_NTPSEC = Attack(SERVERS["ntpsec"], "short-47", _STEADY)
_KNOWING_SOME = Attack(SERVERS["ntpsec"], "short-47", _STEADY, Variant.ALLOW_ONLY, Whom.STRANGERS, knows=4)
"""Four witnesses at most; a challenge has five."""

ATTACKS: dict[str, Attack] = {
    "silent": _BEHIND_NTPSEC,
    "redirect": Attack(SERVERS["chrony-lan"], "redirect", Steady(1)),
    "loud": Attack(SERVERS["ntpsec"], "mode3-v4", _STEADY),
    "loud-slow": Attack(SERVERS["ntpsec"], "mode3-v4", Steady(5)),
    "leaky": Attack(SERVERS["chrony-limit"], "mode3-v4", _STEADY),
    "rejecting-loud": Attack(SERVERS["nft-reject"], "short-47", _STEADY),
    "rejecting": Attack(SERVERS["nft-reject"], "checksum", _STEADY),
    "prefix": Attack(SERVERS["ntpsec-6"], "short-47", _STEADY),
    "prefix-limited": Attack(SERVERS["nft-64-drop"], "short-47", _STEADY, rounds=2),
    "prefix-tight": Attack(TIGHT["64"], "short-47", _STEADY),
    "some-known": _KNOWING_SOME,
    "before": Attack(SERVERS["ntpsec"], "short-47", _STEADY, before=PROBES),
    "monitors": Attack(SERVERS["ntpsec"], "short-47", _STEADY, whom=Whom.VERIFIERS_AND_MONITORS, rounds=1),
    "honest": Attack(SERVERS["chrony"], "short-47", _STEADY, owner=True),
    "honest-allow-only": Attack(SERVERS["chrony"], "short-47", _STEADY, Variant.ALLOW_ONLY, Whom.STRANGERS, owner=True),
}

Endings = Mapping[str, Future[Ending]]


@pytest.fixture(scope="module")
def endings() -> Iterator[Endings]:
    """All attacks at once; each test waits for those that it is about."""
    program("chrony", "chronyd")  # unpacked once, before all of them want it
    with Network() as net, Product(net) as product, playing(net, product, ATTACKS) as played:
        yield played


@pytest.mark.parametrize("name", ["silent", "redirect"])
def test_a_flood_without_a_trace_ends_in_medium_and_says_why(endings: Endings, name: str) -> None:
    """It works: by chance alone this would be strong. That is why silence at told addresses is only medium."""
    ended = endings[name].result()
    judgement = ended.closed.judgement
    assert judgement.proof is not None, judgement
    assert (judgement.proof.assurance, judgement.proof.ceiling) == (Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE)
    assert judgement.tally.evidence >= POLICY_2026_11.threshold(Assurance.STRONG, 1)
    assert (judgement.tally.silent, judgement.tally.unforgeable) == (5, 0.0)
    assert ended.unasked == ()
    note = assurance_note(judgement.proof)
    assert "could be brought about by a flood" in note
    assert "rejects instead of drops" in note


@pytest.mark.parametrize("name", ["loud", "rejecting-loud"])
def test_a_flood_that_is_answered_is_refuted_with_time_and_bytes(endings: Endings, name: str) -> None:
    ended = endings[name].result()
    judgement = ended.closed.judgement
    assert judgement.reason is Reason.BACKSCATTER, judgement
    assert judgement.refuted_by is not None
    assert judgement.sighting is not None
    assert judgement.refuted_by.role is Role.MUST_BE_BLOCKED
    seen = judgement.sighting
    assert seen.source == judgement.refuted_by.source
    assert seen.received_at_ns > ended.begun_ns
    # The flood does silence them: without the tripwire this would go on to the proof of the test above.
    outcomes = {each for line in ended.closed.lines if line.view.role is Role.MUST_BE_BLOCKED for each in line.outcomes}
    assert not any(outcome is not None and outcome.is_answer for outcome in outcomes)
    on_the_wire = [
        each for each in ended.unasked if each.packet.endswith(seen.packet[:48]) or seen.packet in each.packet
    ]
    assert on_the_wire
    assert min(abs(each.at_s - seen.received_at_ns / 1e9) for each in on_the_wire) < 1


@pytest.mark.parametrize("name", ["leaky", "loud-slow"])
def test_a_limiter_that_leaks_is_refuted_either_way(endings: Endings, name: str) -> None:
    """chrony answers a random quarter, ntpsec at 5 a second the first ones: of the flood, or of the questions."""
    judgement = endings[name].result().closed.judgement
    assert judgement.reason in (Reason.BACKSCATTER, Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED), judgement


def test_refusals_of_a_limiter_are_doubtful(endings: Endings) -> None:
    """The flood makes it refuse the verifiers without a trace, but all in one way; they asked for two."""
    ended = endings["rejecting"].result()
    judgement = ended.closed.judgement
    assert judgement.proof is not None, judgement
    assert (judgement.proof.assurance, judgement.proof.ceiling) == (Assurance.MEDIUM, Ceiling.DOUBTFUL_REFUSALS)
    assert ended.unasked == ()
    assert Outcome.REFUSED in {outcome for line in ended.closed.lines for outcome in line.outcomes}


def test_a_flood_at_one_address_of_a_prefix_is_refuted(endings: Endings) -> None:
    judgement = endings["prefix"].result().closed.judgement
    assert judgement.reason is Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED, judgement
    assert judgement.refuted_by is not None
    assert "/" in judgement.refuted_by.source


def test_a_tight_limit_by_prefix_is_found_in_the_baseline(endings: Endings) -> None:
    judgement = endings["prefix-tight"].result().closed.judgement
    assert judgement.proof is None or judgement.proof.assurance < Assurance.STRONG, judgement


def test_a_limit_by_prefix_is_not_strong(endings: Endings) -> None:
    """The flood at one address silences both halves: what is not seen of the one says nothing of an owner."""
    ended = endings["prefix-limited"].result()
    tally = ended.closed.judgement.tally
    assert tally.evidence > 0, ended.closed.judgement
    assert (tally.unforgeable, ended.unasked) == (0.0, ())


def test_allow_only_is_refuted_by_the_witnesses(endings: Endings) -> None:
    """The attacker knows a third of the fleet, and floods all of it that is no monitor."""
    judgement = endings["some-known"].result().closed.judgement
    assert judgement.reason is Reason.ANSWERED_WHERE_SILENCE_WAS_ASKED, judgement
    assert judgement.refuted_by is not None
    assert (judgement.refuted_by.role, judgement.refuted_by.source) == (Role.WITNESS, "")


@pytest.mark.parametrize("name", ["before", "monitors"])
def test_who_is_silenced_too_early_or_with_the_monitors_proves_nothing(endings: Endings, name: str) -> None:
    judgement = endings[name].result().closed.judgement
    assert judgement.proof is None, judgement


@pytest.mark.parametrize(
    ("name", "assurance", "ceiling"),
    [
        ("honest", Assurance.MEDIUM, Ceiling.FORGEABLE_SILENCE),
        ("honest-allow-only", Assurance.STRONG, Ceiling.WITNESSES),
    ],
)
def test_an_honest_owner_is_proven_while_others_flood(
    endings: Endings, name: str, assurance: Assurance, ceiling: Ceiling
) -> None:
    judgement = endings[name].result().closed.judgement
    assert judgement.proof is not None, judgement
    assert (judgement.proof.assurance, judgement.proof.ceiling) == (assurance, ceiling)
