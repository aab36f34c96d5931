"""What honest probes can report and what they cannot; and that the test for missing answers keeps its promise."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.calibration import (
    CLOCK_TOLERANCE_NS,
    Examined,
    Finding,
    Heard,
    Stratum,
    Stray,
    Truth,
    evidence,
    examine_report,
    examine_watch,
    needed,
    opens_trial,
    target_was_well,
    trial,
)
from poolproof.capture import Capture, UnaskedKind, UnaskedPacket
from poolproof.conduct import (
    Conduct,
    Counts,
    QuarantineReason,
    after_calibration,
    quarantined,
    released,
)
from poolproof.exchange import Exchange, LocalFault, Reply
from poolproof.ids import VantageId, VerificationId
from poolproof.job import Report
from poolproof.policy import POLICY_2026_11 as POLICY
from poolproof.policy import SECOND_NS
from tests.kernel.calibrations import NOW_NS, SOURCE, TARGET, answer_to, answered, exchange, heard, refused, report

CALIBRATION = VerificationId("c")
FRESH = Conduct(VantageId("v1"))


def finding(asked: Exchange, truth: Truth, *, meant: bool = True, controls: bool = True) -> Finding:
    (found,) = examine_report(report([asked], controls=controls), truth, [meant])
    return found


def silent_twice() -> tuple[Exchange, Truth, bytes]:
    """One that the target answered and the report does not say so; and the answer."""
    asked = exchange(1)
    answer = answer_to(asked)
    return asked, heard(asked, answer), answer


def test_what_an_honest_probe_reports_is_true() -> None:
    told, truth = answered()
    assert finding(told, truth) is Finding.TRUE
    asked = exchange(2)
    assert finding(asked, heard(asked)) is Finding.TRUE, "the target kept silent, and the probe says so"
    assert finding(asked, {}, meant=False) is Finding.TRUE, "lost on its way to a target that answers nobody"


def test_a_copy_of_an_answer_and_a_copy_of_a_request_are_no_lie() -> None:
    told, truth = answered()
    ((bits, (first,)),) = truth.items()
    other = answer_to(told, noise=1)
    twice = replace(told, replies=(*told.replies, *told.replies, Reply(other, told.replies[0].received_at_ns)))
    again = Heard(first.source, first.received_at_ns, other, first.answered_at_ns)
    assert finding(twice, {bits: (first, again)}) is Finding.TRUE


@given(st.integers(0, 47), st.integers(1, 255))
def test_an_answer_with_one_bit_of_its_own_is_invented_or_none_at_all(at: int, flip: int) -> None:
    asked, truth, answer = silent_twice()
    forged = bytearray(answer)
    forged[at] ^= flip
    told = replace(asked, replies=(Reply(bytes(forged), asked.sent_at_ns + 20_000_000),))
    echoes = not 24 <= at < 32
    assert finding(told, truth) is (Finding.INVENTED_ANSWER if echoes else Finding.MISSING)


@pytest.mark.parametrize("meant", [True, False])
def test_an_answer_to_what_was_never_sent_or_never_answered_is_invented(meant: bool) -> None:
    told, _ = answered()
    assert finding(told, {}, meant=meant) is Finding.INVENTED_ANSWER
    assert finding(told, heard(told), meant=meant) is Finding.INVENTED_ANSWER
    failing = replace(told, fault=LocalFault.INTERRUPTED)
    assert finding(failing, heard(told), meant=meant, controls=False) is Finding.INVENTED_ANSWER, "a fault hides none"


def test_a_refusal_of_a_packet_that_the_target_has_is_invented() -> None:
    asked = exchange(1)
    assert finding(refused(asked), heard(asked)) is Finding.INVENTED_REFUSAL
    assert finding(refused(asked), {}) is Finding.MISSING, "a router may refuse what never arrives"
    assert finding(refused(asked, offender=asked.source), heard(asked)) is Finding.NOT_COUNTED, "its own firewall"


def test_an_answer_that_was_sent_to_another_address_is_nobodys() -> None:
    asked = exchange(1)
    answer = answer_to(asked)
    told = replace(asked, replies=(Reply(answer, asked.sent_at_ns + 20_000_000),))
    assert finding(told, heard(asked, answer, source="203.0.113.9")) is Finding.OTHER_SOURCE


def test_an_answer_that_is_not_reported_is_missing_unless_the_probe_failed() -> None:
    asked, truth, _ = silent_twice()
    assert finding(asked, truth) is Finding.MISSING
    assert finding(asked, {}) is Finding.MISSING, "never asked looks the same"
    assert finding(asked, truth, controls=False) is Finding.NOT_COUNTED
    assert finding(replace(asked, fault=LocalFault.SEND_FAILED), truth) is Finding.NOT_COUNTED


def test_rubbish_in_the_place_of_an_answer_is_a_missing_answer() -> None:
    asked, truth, _ = silent_twice()
    assert finding(replace(asked, replies=(Reply(b"\0" * 48, asked.sent_at_ns + 1),)), truth) is Finding.MISSING


def test_times_that_cannot_be_are_a_failure_and_small_errors_of_clocks_are_none() -> None:
    told, truth = answered()
    early = replace(told.replies[0], received_at_ns=told.sent_at_ns - 2 * CLOCK_TOLERANCE_NS)
    assert finding(replace(told, replies=(early,)), truth) is Finding.IMPOSSIBLE_TIME
    asked = exchange(2)
    late = replace(asked, sent_at_ns=asked.sent_at_ns + 2 * CLOCK_TOLERANCE_NS)
    assert finding(late, heard(asked)) is Finding.IMPOSSIBLE_TIME
    near = replace(told.replies[0], received_at_ns=told.sent_at_ns + 10_000_000 - CLOCK_TOLERANCE_NS // 2)
    assert finding(replace(told, replies=(near,)), truth) is Finding.TRUE


def test_only_what_the_target_answered_or_would_have_can_be_a_trial() -> None:
    told, truth = answered()
    asked = exchange(2)
    assert opens_trial(told, Finding.TRUE, truth, meant=False)
    assert opens_trial(asked, Finding.MISSING, {}, meant=True)
    assert not opens_trial(asked, Finding.TRUE, heard(asked), meant=True), "the target kept silent all the same"
    assert not opens_trial(asked, Finding.TRUE, {}, meant=False)
    assert not opens_trial(told, Finding.NOT_COUNTED, truth, meant=True)


def watched(*caught: bytes, since_s: int = -60, until_s: int = 60, lost: int = 0, more: int = 0) -> Report:
    packets = tuple(UnaskedPacket(UnaskedKind.UDP, NOW_NS, TARGET, SOURCE, payload) for payload in caught)
    since_ns, until_ns = (NOW_NS + seconds * SECOND_NS for seconds in (since_s, until_s))
    return replace(report([exchange(1)]), capture=Capture(since_ns, until_ns, packets, len(packets) + more, lost))


@pytest.mark.parametrize(
    ("told", "finding_", "opens"),
    [
        (watched(b"stray"), Finding.TRUE, True),
        (watched(b"other", b"stray"), Finding.TRUE, True),
        (watched(), Finding.MISSING, True),
        (watched(b"other"), Finding.MISSING, True),
        (watched(b"other", more=20), Finding.NOT_COUNTED, False),
        (watched(lost=1), Finding.NOT_COUNTED, False),
        (watched(since_s=0), Finding.TRUE, False),
        (watched(until_s=0), Finding.TRUE, False),
        (report([exchange(1)]), Finding.NOT_COUNTED, False),
    ],
)
def test_a_tripwire_must_have_caught_what_was_sent_while_it_watched(
    told: Report, finding_: Finding, opens: bool
) -> None:
    seen = examine_watch(told, [Stray(SOURCE, NOW_NS, b"stray")])
    assert (seen.finding, seen.open) == (finding_, opens)


def test_what_a_tripwire_caught_beyond_that_is_held_against_nobody() -> None:
    seen = examine_watch(watched(b"whoever sent it"), [])
    assert (seen.finding, seen.open) == (Finding.TRUE, False)


def some(number: int, failing: int = 0) -> list[Examined]:
    return [Examined(f"job #{i}", Finding.MISSING if i < failing else Finding.TRUE, True) for i in range(number)]


def test_one_exchange_is_drawn_whatever_the_order_and_only_with_the_key() -> None:
    seen = [*some(8), Examined("closed", Finding.MISSING, False)]
    drawn = {trial(order, b"k" * 32) for order in permutations(seen[:4])}
    assert len(drawn) == 1
    assert len({trial(seen, bytes([n])) for n in range(64)}) == 8, "each of them by some key, and never a closed one"
    assert trial(seen[-1:], b"k") is None


def test_a_target_that_half_of_the_others_miss_was_not_well() -> None:
    assert target_was_well(some(4, failing=1))
    assert not target_was_well(some(4, failing=2))
    assert not target_was_well([])
    assert not target_was_well([Examined("closed", Finding.TRUE, False)])


@given(st.integers(0, 400), st.data(), st.floats(0.001, 0.4))
def test_the_evidence_is_the_integral_that_it_is_said_to_be(trials: int, data: st.DataObject, loss: float) -> None:
    failures = data.draw(st.integers(0, trials))
    steps = 4000
    width = (1 - loss) / steps
    logs = [
        failures * math.log(q / loss) + (trials - failures) * math.log((1 - q) / (1 - loss))
        for q in (loss + (i + 0.5) * width for i in range(steps))
    ]
    top = max(logs)
    expected = top + math.log(math.fsum(math.exp(each - top) for each in logs) / steps)
    assert evidence(trials, failures, loss) == pytest.approx(expected, abs=0.02)


@given(st.integers(0, 300), st.data(), st.floats(0.001, 0.5), st.floats(0, 1))
def test_evidence_is_a_fair_bet_against_every_honest_probe(
    trials: int, data: st.DataObject, loss: float, share: float
) -> None:
    """One more trial never raises its expectation, wherever it stands, for any loss up to the bound."""
    failures = data.draw(st.integers(0, trials))
    real = share * loss
    now = evidence(trials, failures, loss)
    following = real * math.exp(evidence(trials + 1, failures + 1, loss) - now) + (1 - real) * math.exp(
        evidence(trials + 1, failures, loss) - now
    )
    assert following <= 1 + 1e-9


@given(st.integers(1, 200), st.data())
def test_a_failure_more_is_evidence_more_and_a_success_more_is_less(trials: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, trials - 1))
    loss = POLICY.calibration_loss
    here = evidence(trials, failures, loss)
    assert evidence(trials, failures + 1, loss) > here
    assert evidence(trials + 1, failures, loss) < here


@pytest.mark.parametrize(("trials", "failures"), [(3, 4), (3, -1)])
def test_counts_that_make_no_sense_are_refused(trials: int, failures: int) -> None:
    with pytest.raises(ValueError, match="give 0 to 3"):
        evidence(trials, failures, 0.05)


def test_an_honest_probe_is_hardly_ever_quarantined_and_a_liar_is() -> None:
    """Two thousand honest lives of 300 calibrations, of which alpha would allow two; and liars of every kind."""
    rng = random.Random("calibration")

    def life(failing: float, length: int) -> bool:
        failures = 0
        for n in range(1, length + 1):
            failures += rng.random() < failing
            if evidence(n, failures, POLICY.calibration_loss) >= needed(POLICY):
                return True
        return False

    assert sum(life(POLICY.calibration_loss, 300) for _ in range(500)) <= 2
    assert all(life(0.5, 300) for _ in range(20))


def counted(conduct: Conduct, failed: bool, stratum: Stratum = Stratum.UNSERVED) -> Conduct:
    each = Examined("c/1/0/v1 #0", Finding.MISSING if failed else Finding.TRUE, True)
    return after_calibration(conduct, CALIBRATION, [each], {stratum: each}, NOW_NS, POLICY)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(Stratum)), max_size=12))
def test_the_order_of_calibrations_changes_no_count(lives: list[tuple[bool, Stratum]]) -> None:
    forwards, backwards = FRESH, FRESH
    for failed, stratum in lives:
        forwards = counted(forwards, failed, stratum)
    for failed, stratum in reversed(lives):
        backwards = counted(backwards, failed, stratum)
    assert forwards.counts == backwards.counts
    assert forwards.calibrations == backwards.calibrations == len(lives)


def test_a_vantage_whose_answers_are_missing_is_quarantined_at_the_fourth() -> None:
    conduct = FRESH
    states = []
    for _ in range(4):
        conduct = counted(conduct, failed=True)
        states.append(conduct.quarantine is not None)
    assert states == [False, False, False, True]
    assert conduct.quarantine is not None
    assert conduct.quarantine.reason is QuarantineReason.MISSING_ANSWERS
    assert "4 of 4 answers are missing in work of kind unserved" in conduct.quarantine.evidence


def test_failures_in_work_that_a_probe_can_tell_apart_are_not_thinned_out_by_honest_work_elsewhere() -> None:
    conduct = FRESH
    for _ in range(50):
        conduct = counted(conduct, failed=False, stratum=Stratum.BASELINE)
    for _ in range(4):
        conduct = counted(conduct, failed=True)
    assert conduct.quarantine is not None


@pytest.mark.parametrize(
    ("found", "reason", "said"),
    [
        (Finding.INVENTED_ANSWER, QuarantineReason.INVENTED_ANSWER, "that the target never sent"),
        (Finding.INVENTED_REFUSAL, QuarantineReason.INVENTED_REFUSAL, "a packet that the target received"),
        (Finding.OTHER_SOURCE, QuarantineReason.OTHER_SOURCE, "did not get the packet"),
    ],
)
def test_what_is_impossible_quarantines_at_once_and_says_where(
    found: Finding, reason: QuarantineReason, said: str
) -> None:
    held = quarantined(FRESH, CALIBRATION, [Examined("c/1/0/v1 #3", found, False)], NOW_NS, POLICY)
    assert held.quarantine is not None
    assert (held.quarantine.reason, held.quarantine.since_ns) == (reason, NOW_NS)
    assert held.quarantine.evidence.startswith("c/1/0/v1 #3: ")
    assert said in held.quarantine.evidence
    again = quarantined(held, VerificationId("d"), [Examined("x", Finding.INVENTED_ANSWER, False)], NOW_NS + 1, POLICY)
    assert again is held, "the first reason stays"


@pytest.mark.parametrize("found", [Finding.TRUE, Finding.MISSING, Finding.IMPOSSIBLE_TIME, Finding.NOT_COUNTED])
def test_what_can_happen_to_an_honest_probe_does_not(found: Finding) -> None:
    assert quarantined(FRESH, CALIBRATION, [Examined("x", found, True)] * 9, NOW_NS, POLICY).quarantine is None


def test_a_release_is_recorded_and_counting_begins_anew() -> None:
    conduct = FRESH
    for _ in range(4):
        conduct = counted(conduct, failed=True)
    free = released(conduct, "its uplink was mended", NOW_NS + 5)
    assert free.quarantine is None
    assert free.counts[Stratum.UNSERVED] == Counts()
    assert [(each.reason, each.quarantine) for each in free.releases] == [("its uplink was mended", conduct.quarantine)]
    with pytest.raises(ValueError, match="is not quarantined"):
        released(free, "again", NOW_NS)
    with pytest.raises(ValueError, match="say why"):
        released(conduct, "  ", NOW_NS)
