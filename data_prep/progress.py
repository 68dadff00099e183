"""Progress with rate and time left: a moving bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_LOG_SECONDS = 15.0


def progress(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Tqdm's bar on stderr; where stderr is no terminal it is refreshed every 15 seconds only."""
    on_screen = sys.stderr.isatty()
    delay = 0 if on_screen else _LOG_SECONDS
    return tqdm(
        items, delay=delay, mininterval=0.2 if on_screen else _LOG_SECONDS, file=sys.stderr, **settings
    )
