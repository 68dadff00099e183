"""Bytes and seconds as one reads them."""

from datetime import timedelta

GIB, MIB = 2**30, 2**20


def unit_of(num_bytes: float) -> tuple[int, str]:
    """Bytes of the unit to show so many in, and its name."""
    return (GIB, "GiB") if num_bytes >= GIB else (MIB, "MiB")


def size(num_bytes: float) -> str:
    """In GiB or MiB: 3.45 GiB."""
    unit, name = unit_of(num_bytes)
    return f"{num_bytes / unit:,.{2 if unit == GIB else 1}f} {name}"


def clock(seconds: float) -> str:
    """To the second: 0:32:40; from a day on to the hour: 3d 4h. Nothing is shorter than no time."""
    duration = timedelta(seconds=max(round(seconds), 0))
    return f"{duration.days}d {duration.seconds // 3600}h" if duration.days else str(duration)
