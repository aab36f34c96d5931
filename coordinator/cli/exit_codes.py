"""Exit codes: what a script can rely on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended; `meaning` is what `poolproof --help` and docs/command.md say."""

    meaning: str
    word: str

    def __new__(cls, code: int, word: str, meaning: str) -> ExitCode:
        """A member whose value is its number."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.word = word
        member.meaning = meaning
        return member

    OK = (0, "ok", "done; show, watch: control is proven")
    REFUTED = (1, "refuted", "show, watch: control is refuted")
    USAGE = (2, "usage", "an argument, an option or a setting is wrong")
    INCONCLUSIVE = (3, "inconclusive", "show, watch: neither proven nor refuted, or still open")
    NOT_POSSIBLE = (4, "not-possible", "no such verification, or it is not in a state to do this")
    UNREACHABLE = (5, "unreachable", "the coordinator cannot be reached")
    TRY_AGAIN = (6, "try-again", "the coordinator cannot do it now; the same command may work later")
    INTERNAL = (7, "internal", "the coordinator failed, or what it said makes no sense")
    INTERRUPTED = (130, "interrupted", "stopped by Ctrl-C")
    UNREAD = (141, "unread", "whoever read the output has gone away")
