"""Times as people read them, without a clock: nanoseconds since the Unix epoch as UTC text."""

from __future__ import annotations

_DAY_S = 86_400


def utc(unix_ns: int) -> str:
    """`2026-11-23 09:41:07.250 UTC`; milliseconds are truncated.

    The calendar is counted from 1 March of year 0, so that the leap day comes last (Hinnant, "chrono-Compatible
    Low-Level Date Algorithms", `civil_from_days`).
    """
    seconds, rest_ns = divmod(unix_ns, 1_000_000_000)
    days, second = divmod(seconds, _DAY_S)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    hour, minute = second // 3600, second % 3600 // 60
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second % 60:02}.{rest_ns // 1_000_000:03} UTC"
