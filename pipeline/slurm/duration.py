"""Durations as SLURM writes and reads them."""

import re


def seconds_of(time: str) -> int | None:
    """Of MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; None of a word, as UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        return None
    days, *parts = (int(part or 0) for part in found.groups())
    if found[1] or found[4]:  # with days, or in full, it begins with the hours
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, parts[0], parts[1]
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
