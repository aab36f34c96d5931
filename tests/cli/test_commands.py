"""Commands against a scripted coordinator: exit codes, errors, ids in part, pages, and streams that break."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from coordinator.cli.connection import Coordinator
from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure
from coordinator.cli.following import PATIENCE_S, followed
from coordinator.cli.options import VARIABLE
from coordinator.cli.snapshot import Snapshot
from poolproof.v1 import verification_pb2 as pb
from tests.cli.running import Scripted, run, scripted, serving
from tests.cli.snapshots import ID, VERIFICATIONS, view


def named(name: str, case: str = "proven-by-drop", revision: int = 7) -> pb.Verification:
    made = view(case)
    made.id = name
    made.revision = revision
    return made


@pytest.fixture
def script() -> Scripted:
    return scripted([view("proven-by-drop")])


@pytest.fixture
def address(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(script) as where:
        monkeypatch.setenv(VARIABLE, where)
        yield where


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv(VARIABLE, where)
        yield where


CODES = {
    "proven-by-drop": ExitCode.OK,
    "refuted": ExitCode.REFUTED,
    "allow-only-refuted": ExitCode.REFUTED,
    "measuring": ExitCode.INCONCLUSIVE,
    "not-ready-yet": ExitCode.INCONCLUSIVE,
}


@pytest.mark.parametrize(("case", "code"), CODES.items())
@pytest.mark.usefixtures("address")
def test_show_ends_with_the_verdict(case: str, code: ExitCode, script: Scripted) -> None:
    script.views = [view(case)]
    as_text, as_json = run("show", ID), run("show", ID, "--json")
    assert (as_text.code, as_json.code) == (code, code)
    assert ID in as_text.out
    shown = json.loads(as_json.out)
    assert (shown["id"], shown["open"]) == (ID, VERIFICATIONS[case].state.is_open)
    assert as_text.err == as_json.err == ""


@pytest.mark.parametrize("case", ["proven-by-drop", "refuted"])
@pytest.mark.usefixtures("address")
def test_watch_ends_with_the_verdict(case: str, script: Scripted) -> None:
    script.views = [view(case)]
    as_text, as_json = run("watch", ID), run("watch", ID, "--json")
    assert (as_text.code, as_json.code) == (CODES[case], CODES[case])
    assert [json.loads(line)["state"] for line in as_json.out.splitlines()] == ["concluded"]
    assert "● answered" in as_text.out


STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.NOT_POSSIBLE,
    grpc.StatusCode.UNAVAILABLE: ExitCode.TRY_AGAIN,
    grpc.StatusCode.ABORTED: ExitCode.TRY_AGAIN,
    grpc.StatusCode.INTERNAL: ExitCode.INTERNAL,
    grpc.StatusCode.UNKNOWN: ExitCode.INTERNAL,
}


@pytest.mark.parametrize(("status", "code"), STATUSES.items(), ids=lambda each: each.name)
@pytest.mark.usefixtures("address")
def test_a_call_that_is_turned_down_says_why(status: grpc.StatusCode, code: ExitCode, script: Scripted) -> None:
    script.fails, script.says = status, "target: 10.0.0.1: not allowed here"
    plain = run("request", "10.0.0.1", "--applicant", "ana")
    assert (plain.code, plain.out, plain.err) == (code, "", "Error: target: 10.0.0.1: not allowed here\n")
    told = run("request", "10.0.0.1", "--applicant", "ana", "--json")
    assert (told.code, told.out) == (code, "")
    assert json.loads(told.err) == {"error": {"code": code.word, "exit_code": code, "message": script.says}}


ASKING = [
    ("request", "192.0.2.7"),
    ("instructions", ID, "--for", "chrony"),
    ("ready", ID),
    ("retry", ID),
    ("withdraw", ID),
    ("watch", ID),
    ("show", ID),
    ("list",),
    ("explain", ID),
    ("trace", ID),
    ("fleet",),
    ("calibration",),
    ("release", "ams1", "--reason", "mended"),
]


@pytest.mark.parametrize("arguments", ASKING, ids=lambda each: each[0])
def test_a_coordinator_that_is_not_there_is_named_with_the_setting_and_the_remedy(
    arguments: tuple[str, ...], nobody: str
) -> None:
    plain, told = run(*arguments), run(*arguments, "--json")
    assert (plain.code, plain.out) == (ExitCode.UNREACHABLE, "")
    for word in (nobody, f"from {VARIABLE}", "poolproof coordinator --fleet", "--coordinator"):
        assert word in plain.err
    assert json.loads(told.err)["error"]["code"] == "unreachable"


def test_an_address_of_the_command_line_beats_the_variable(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "192.0.2.1:1")
    assert run("show", ID, "--coordinator", address).code == ExitCode.OK


@pytest.mark.parametrize("wrong", ["", "x:", "x:0", "x:70000", "x:http", "http://x:1", ":8443", "a b:1", "[::1"])
def test_an_address_that_is_none_is_a_usage_error(wrong: str) -> None:
    result = run("list", "--json", f"--coordinator={wrong}")
    assert result.code == ExitCode.USAGE
    assert "give HOST:PORT" in json.loads(result.err)["error"]["message"]


@pytest.mark.parametrize("arguments", [("show",), ("instructions", ID, "--for", "windows"), ("list", "--limit", "0")])
def test_wrong_arguments_are_json_too(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == ExitCode.USAGE
    assert json.loads(run(*arguments, "--json").err)["error"]["exit_code"] == ExitCode.USAGE


@pytest.mark.usefixtures("address")
def test_an_id_may_be_cut_as_long_as_it_is_unique(script: Scripted) -> None:
    names = ["k7d2x9m4qwe1", "k7aaaaaaaaaa", *(f"z{number:011d}" for number in range(1_200))]
    script.views = [named(name) for name in names]
    script.views[0].target.address = "192.0.2.201"
    assert json.loads(run("show", "k7d", "--json").out)["id"] == names[0]
    assert json.loads(run("show", "z00000001199", "--json").out)["id"] == names[-1]
    assert json.loads(run("show", "z0000000119", "--json").err)["error"]["code"] == "not-possible"
    several = run("show", "k7")
    assert several.code == ExitCode.NOT_POSSIBLE
    assert "k7d2x9m4qwe1 (192.0.2.201), k7aaaaaaaaaa (192.0.2.200)" in several.err
    none = run("ready", "q")
    assert none.code == ExitCode.NOT_POSSIBLE
    assert "no verification 'q'" in none.err
    assert run("show", "q" * 12).code == ExitCode.NOT_POSSIBLE


@pytest.mark.usefixtures("address")
def test_a_list_goes_over_pages_up_to_its_limit(script: Scripted) -> None:
    script.views = [named(f"z{number:011d}") for number in range(1_200)]
    everything = json.loads(run("list", "--all", "--json").out)
    assert ([each["id"] for each in everything["verifications"]], everything["more"]) == (
        [each.id for each in script.views],
        False,
    )
    some = json.loads(run("list", "--limit", "600", "--json").out)
    assert (len(some["verifications"]), some["more"]) == (600, True)
    assert "rows" not in some["verifications"][0]
    assert "there are more: --limit 6, or --all" in run("list", "--limit", "3").out
    script.views = []
    assert run("list").out == "no verifications\n"


def followed_by(script: Scripted, pauses: list[float], lost: list[Failure]) -> list[Snapshot]:
    ticks = itertools.count()
    with serving(script) as where, Coordinator(where, "") as coordinator:
        clock = lambda: float(next(ticks))  # noqa: E731
        return list(followed(coordinator, ID, lost=lost.append, sleep=pauses.append, clock=clock))


def test_a_stream_that_breaks_is_taken_up_again_and_nothing_is_shown_twice() -> None:
    open_views = [named(ID, "not-ready-yet", 3), named(ID, "measuring", 5)]
    done = named(ID, "proven-by-drop", 9)
    script = scripted([done], watches=[open_views[:1], open_views, []])
    pauses: list[float] = []
    lost: list[Failure] = []
    shown = followed_by(script, pauses, lost)
    assert [each.revision for each in shown] == [3, 5, 9]
    assert [failure.code for failure in lost] == [ExitCode.TRY_AGAIN] * 3
    assert pauses == [0.2, 0.2, 0.4]


def test_a_coordinator_that_stays_away_is_given_up() -> None:
    script = scripted([], watches=[[named(ID, "measuring")], *([] for _ in range(500))])
    pauses: list[float] = []
    with pytest.raises(Failure) as caught:
        followed_by(script, pauses, [])
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert PATIENCE_S / 2 < len(pauses) <= PATIENCE_S
    assert max(pauses) == 2.0


def test_a_watch_of_what_is_not_there_does_not_wait_for_it() -> None:
    pauses: list[float] = []
    with pytest.raises(Failure) as caught:
        followed_by(scripted([]), pauses, [])
    assert (caught.value.code, pauses) == (ExitCode.NOT_POSSIBLE, [])


@pytest.mark.usefixtures("address")
def test_what_makes_no_sense_is_no_crash(script: Scripted) -> None:
    script.views[0].state = 0  # type: ignore[assignment]
    result = run("show", ID, "--json")
    assert result.code == ExitCode.INTERNAL
    assert "state" in json.loads(result.err)["error"]["message"]


@pytest.mark.usefixtures("address")
def test_a_service_of_another_version_is_named_so() -> None:
    result = run("fleet")
    assert result.code == ExitCode.INTERNAL
    assert "another version" in result.err


@pytest.mark.usefixtures("address")
def test_a_request_says_who_asks_and_prints_a_line_for_each_address(script: Scripted) -> None:
    script.views = [named("aaaaaaaaaaaa", "not-ready-yet"), named("bbbbbbbbbbbb", "not-ready-yet")]
    arguments = ("request", "ntp.example.org", "--variant", "allow-only", "--applicant", "ana")
    result = run(*arguments, "--idempotency-key", "one")
    lines = result.out.splitlines()
    assert (result.code, lines[0].split()[0], lines[1].split()[0]) == (0, "aaaaaaaaaaaa", "bbbbbbbbbbbb")
    assert "  poolproof instructions bbbbbbbbbbbb --for SOFTWARE --wait" in lines
    asked = script.asked[-1]
    assert isinstance(asked, pb.CreateVerificationRequest)
    assert (asked.target, asked.applicant, asked.idempotency_key) == ("ntp.example.org", "ana", "one")
    assert [each["id"] for each in json.loads(run(*arguments, "--json").out)["verifications"]] == [
        "aaaaaaaaaaaa",
        "bbbbbbbbbbbb",
    ]


def test_ids_are_completed_from_the_newest(script: Scripted, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script.views = [named("k7d2x9m4qwe1"), named("k7aaaaaaaaaa"), named("zzzzzzzzzzzz")]
    monkeypatch.setenv("_POOLPROOF_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"poolproof show --coordinator {address} k7")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert run().out.split() == ["plain,k7d2x9m4qwe1", "plain,k7aaaaaaaaaa"]


def test_completion_is_quiet_where_there_is_no_coordinator(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_POOLPROOF_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"poolproof show --coordinator {nobody} k7")
    monkeypatch.setenv("COMP_CWORD", "4")
    result = run()
    assert (result.out.strip(), result.err) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "fleet_file: missing"),
        (("--fleet", "{folder}/none.toml"), "none.toml"),
        (("--fleet", "{folder}/fleet.toml", "--listen", "192.0.2.1:8443"), "allow_plaintext"),
        (("--fleet", "{folder}/fleet.toml", "--allow-port", "0"), "allow_ports"),
        (("--fleet", "{folder}/fleet.toml", "--log-level", "loud"), "log level 'loud'"),
        (("--fleet", "{folder}/fleet.toml", "--policy", "1999-01", "--store", "memory"), "1999-01"),
        (("--fleet", "{folder}/fleet.toml", "--store", "memory", "--listen", "{taken}"), "cannot be opened"),
    ],
)
def test_a_coordinator_that_cannot_start_says_which_setting_it_is(
    arguments: tuple[str, ...], said: str, tmp_path: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    fleet = '[[vantage]]\nid = "a"\nipv4 = "127.0.0.9"\nasn = 64500\nrir = "ripe"\n'
    (tmp_path / "fleet.toml").write_text(fleet)
    result = run("coordinator", *(word.format(folder=tmp_path, taken=nobody) for word in arguments))
    assert (result.code, result.out) == (ExitCode.USAGE, "")
    assert said in result.err
