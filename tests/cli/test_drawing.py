"""What people see: matrices, verdicts and tables, without a server and without colours."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from coordinator.cli.calibration_table import (
    CalibrationPage,
    ConductLine,
    calibration_json,
    chance_table,
    conduct_table,
    percent,
    quarantine_lines,
    summary,
)
from coordinator.cli.matrix import cell, is_as_asked, matrix_table, sign
from coordinator.cli.snapshot_json import pretty, snapshot_json, time_json
from coordinator.cli.vantage_table import IncidentLine, VantageLine, incident_lines, vantage_json, vantage_table
from coordinator.cli.verdict_table import VerdictRow, verdict_table
from coordinator.cli.verdict_text import evidence_bar, explanation, next_words, page, progress_line
from coordinator.cli.verification_table import verification_table
from poolproof.calibration import Stratum
from poolproof.catching import table
from poolproof.challenge import Expectation
from poolproof.conduct import Conduct, Counts, Quarantine, QuarantineReason, Release
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.job import ClockCheck
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.verification import State
from tests.cli.snapshots import BLOCK, HIDDEN, T0, VERIFICATIONS, golden, secrets, snapshot


def drawn(what: RenderableType, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(what)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


@pytest.mark.parametrize("name", VERIFICATIONS)
def test_a_verification_on_one_page(name: str) -> None:
    shown = snapshot(name)
    golden(f"page/{name}.txt", drawn(page(shown, T0 + 10 * SECOND_NS, width=100)))


def test_a_terminal_that_knows_ascii_only_shows_as_much() -> None:
    shown = drawn(matrix_table(snapshot("every-outcome"), unicode=False))
    assert shown.replace("─", "-").isascii()
    golden("page/ascii.txt", shown)


def test_where_there_is_no_room_the_latest_rounds_are_shown_and_no_line_is_folded() -> None:
    table = drawn(matrix_table(snapshot("every-outcome"), width=72), 72).splitlines()
    assert len(table) == len(drawn(matrix_table(snapshot("every-outcome")), 120).splitlines())
    head = table[0].split()
    assert head[head.index("base") + 1 :] == ["5", "6", "7", "8"]


@pytest.mark.parametrize("name", ["allow-only", "allow-only-refuted"])
def test_witnesses_are_masked_unless_an_operator_looks(name: str) -> None:
    owner = drawn(page(snapshot(name), T0)) + pretty(snapshot_json(snapshot(name)))
    operator = drawn(page(snapshot(name, operator=True), T0))
    assert not [word for word in secrets(HIDDEN) if word in owner]
    assert all(word in operator for word in secrets(HIDDEN))


def test_every_outcome_has_a_sign_of_its_own_one_column_wide() -> None:
    for unicode in (True, False):
        signs = [sign(outcome, unicode=unicode) for outcome in (*Outcome, None)]
        assert len(set(signs)) == len(signs)
        assert {cell_len(each) for each in signs} == {1}


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("expected", Expectation)
def test_what_was_not_asked_is_marked_without_colours_too(expected: Expectation, outcome: Outcome) -> None:
    assert cell(expected, outcome).plain.endswith("*") is (is_as_asked(expected, outcome) is False)


def test_an_answer_where_silence_was_asked_is_wrong_even_when_late() -> None:
    assert [o for o in Outcome if is_as_asked(Expectation.SILENCE, o) is False] == [o for o in Outcome if o.is_answer]


def test_texts_from_elsewhere_are_no_markup() -> None:
    shown = replace(snapshot("proven-by-drop"), applicant="[red]mallory[/]", requested="[link=x]")
    whole = drawn(page(shown, T0)) + drawn(verification_table([shown]), 140) + drawn(explanation("[b]", "[/b]", (), ()))
    assert whole.count("[red]mallory[/]") == 2
    assert "[link=x]" in whole
    assert "[b]" in whole
    assert "[/b]" in whole


@pytest.mark.parametrize(
    ("evidence", "needed", "full"),
    [(0.0, 14.3, 0), (-3.0, 14.3, 0), (7.15, 14.3, 15), (14.3, 14.3, 30), (99.0, 14.3, 30), (1.0, 0.0, 0)],
)
def test_the_bar_says_how_much_of_the_evidence_there_is(evidence: float, needed: float, full: int) -> None:
    assert evidence_bar(evidence, needed).startswith("[" + "#" * full + "." * (30 - full) + "]")


@pytest.mark.parametrize("state", State)
def test_every_state_says_what_is_next(state: State) -> None:
    shown = replace(snapshot("measuring"), state=state, next_at_ns=T0 + 5 * SECOND_NS, retry_not_before_ns=T0 + 1)
    golden(f"next/{state.value}.txt", next_words(shown, T0) + "\n")


def test_progress_is_one_line_for_a_log() -> None:
    lines = [progress_line(snapshot(name), T0) for name in VERIFICATIONS]
    baseline = replace(snapshot("measuring"), state=State.BASELINE, rounds=(), baseline_asked=14, baseline_known=3)
    golden("progress.txt", "\n".join([*lines, progress_line(baseline, T0)]) + "\n")


def test_the_table_of_verdicts() -> None:
    rows = [VerdictRow(f"owner {i}", "chrony", snapshot(name)) for i, name in enumerate(VERIFICATIONS)]
    rows.append(VerdictRow("counted", "ntpsec", snapshot("proven-by-drop"), packets=321, seconds=45.6))
    golden("verdicts.txt", drawn(verdict_table(rows), 130))


def test_the_list_of_verifications() -> None:
    golden("list.txt", drawn(verification_table(map(snapshot, VERIFICATIONS)), 110))


def test_an_explanation() -> None:
    golden("explanation.txt", drawn(explanation("It is so.", "Do that.", ("round 1",), ("round 2: " + "why " * 40,))))


HELD = Quarantine(
    QuarantineReason.INVENTED_ANSWER,
    T0 - 7 * SECOND_NS,
    VerificationId("c00000000001"),
    "c00000000001/1/0/hkg1 #0: reports an answer to its request that the target never sent",
)
FLEET = (
    VantageLine(
        Vantage(VantageId("ams1"), "192.0.2.7", "2001:db8::7", None, 64500, Rir.RIPE, operator="Example [Networks]"),
        True, T0 - 3 * SECOND_NS, "0.1.0", 2, 64, False, ClockCheck(-1_250_000, 400_000, 3), True,
        (
            IncidentLine("report refused: bad-ticket", 2, T0 - 20 * SECOND_NS, "report.ticket: none... was not issued"),
            IncidentLine("session refused: second-process", 1, T0 - 300 * SECOND_NS, "hello.vantage_id: another one"),
        ),
    ),
    VantageLine(
        Vantage(VantageId("nyc1"), None, None, "2001:db8:7::/64", 64501, Rir.ARIN),
        True, T0 - 900 * SECOND_NS, "0.1.0", 0, 64, True, ClockCheck(0, 0, 0),
    ),
    VantageLine(
        Vantage(VantageId("gru1"), "192.0.2.9", None, None, 64502, Rir.LACNIC), False, 0, "", 0, 0, False, None
    ),
    VantageLine(
        Vantage(VantageId("hkg1"), "192.0.2.11", None, None, 64503, Rir.APNIC),
        True, T0 - SECOND_NS, "0.1.0", 0, 64, False, None, quarantine=HELD,
    ),
)  # fmt: skip


def test_the_fleet() -> None:
    golden("fleet.txt", drawn(vantage_table(FLEET, T0), 130) + "\n".join((*incident_lines(FLEET, T0), "")))
    golden("json/fleet.json", pretty({"vantages": [vantage_json(line) for line in FLEET]}) + "\n")


TRIED = {
    Stratum.BASELINE: Counts(31, 1),
    Stratum.SERVED: Counts(),
    Stratum.UNSERVED: Counts(9, 6),
    Stratum.WATCH: Counts(1),
}
CALIBRATION = CalibrationPage(
    "2026-11", ("192.0.2.20", "[2001:db8:c::/64]:123"), 0.25, 0.05, 0.001, 8.006, 2, ("c00000000002", "c00000000001"),
    (
        ConductLine(Conduct(VantageId("ams1"), 40, TRIED), dict.fromkeys(Stratum, -1.25)),
        ConductLine(
            Conduct(VantageId("hkg1"), 3, quarantine=HELD, releases=(Release(T0, "its uplink was mended", HELD),)), {}
        ),
    ),
    table(POLICY_2026_11),
)  # fmt: skip


def test_calibrations() -> None:
    held = quarantine_lines([("hkg1", HELD)])
    tables = drawn(conduct_table(CALIBRATION.lines), 130), drawn(chance_table(CALIBRATION.chances), 130)
    golden("calibration.txt", "\n".join((summary(CALIBRATION), *tables, *held, "")))
    golden("json/calibration.json", pretty(calibration_json(CALIBRATION)) + "\n")
    assert "A probe that lies is not found" in summary(replace(CALIBRATION, listen=()))


def test_a_chance_is_never_rounded_up_to_certainty() -> None:
    assert [percent(each) for each in (0.0, 0.12345, 0.99994, 0.999994, 1.0)] == [
        "0.00%",
        "12.35%",
        "99.99%",
        "99.99%",
        ">99.99%",
    ]


@pytest.mark.parametrize("name", ["proven-by-drop", "refuted", "measuring", "allow-only-refuted"])
def test_a_verification_as_json(name: str) -> None:
    text = pretty(snapshot_json(snapshot(name)))
    assert json.loads(text)["verdict"]["verdict"] == snapshot(name).judgement.word
    golden(f"json/{name}.json", text + "\n")


def test_all_verifications_have_the_same_keys_in_json() -> None:
    shapes = {json.dumps(_shape(snapshot_json(snapshot(name)))) for name in VERIFICATIONS}
    keys = {json.dumps(sorted(json.loads(shape))) for shape in shapes}
    assert len(keys) == 1


def _shape(value: object) -> object:
    return {key: _shape(each) for key, each in value.items()} if isinstance(value, dict) else None


def test_times_are_rfc_3339_to_the_nanosecond_and_null_where_there_are_none() -> None:
    assert time_json(T0 + 7) == "2026-11-23T09:41:07.250000007Z"
    assert time_json(0) is None


def test_secrets_that_this_file_looks_for_would_be_found() -> None:
    assert len(secrets(BLOCK)) == 6
