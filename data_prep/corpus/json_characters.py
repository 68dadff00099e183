"""JSON character by character: the strings of a text that is too long to be held.

Only the ends of strings are found here; what the text means is left to the `json` module.
"""

import json
import re
from collections.abc import Iterator

_HIGH = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_ALIGNED = re.compile(
    r'(?:[^"\\]++'
    r'|\\["\\/bfnrt]'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rf"|{_HIGH}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}"
    rf"|{_HIGH}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])"
    r")*+"
)
_LONGEST_ESCAPE = 12
"""Characters of two halves of a surrogate pair, which must be decoded together."""
_DECODER = json.JSONDecoder(strict=False)  # control characters in strings are the cleaner's business


def decode_string(piece: str) -> str:
    """The characters that a piece of a JSON string stands for; raises ValueError."""
    return _DECODER.decode(f'"{piece}"')


def decode_json(text: str) -> object:
    """The value of a JSON text; raises ValueError, or RecursionError where it is nested too deep."""
    return _DECODER.decode(text)


class JsonCharacters:
    """A JSON text that arrives in pieces, read alternately up to a string and through it."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._held = ""
        self._before = 0
        self._at = 0

    @property
    def position(self) -> int:
        """Characters read."""
        return self._before + self._at

    def skip_to(self, position: int) -> None:
        """Read on to a position ahead."""
        while self._before + len(self._held) < position and self._more():
            self._at = min(len(self._held), position - self._before)
        self._at = position - self._before

    def to_string(self) -> Iterator[str]:
        """What stands before the next string, with its opening quote; ends without one at the end."""
        while True:
            quote = self._held.find('"', self._at)
            end = len(self._held) if quote < 0 else quote + 1
            if end > self._at:
                piece, self._at = self._held[self._at : end], end
                yield piece
            if quote >= 0 or not self._more():
                return

    def string(self) -> Iterator[str]:
        """The inside of a string up to its closing quote, in pieces that can be decoded one by one.

        Raises ValueError where the string never closes or holds no valid escape.
        """
        while True:
            match = _ALIGNED.match(self._held, self._at)
            assert match is not None  # it matches an empty string
            if match.end() > self._at:
                self._at = match.end()
                yield match.group()
            if self._held.startswith('"', self._at):
                self._at += 1
                return
            if len(self._held) - self._at >= _LONGEST_ESCAPE:
                raise ValueError(f"invalid \\escape: char {self.position}")
            if not self._more():
                raise ValueError(f"a string never closes: char {self.position}")

    def _more(self) -> bool:
        """Fetch a piece; what was read is let go."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._before += self._at
        self._held = self._held[self._at :] + piece
        self._at = 0
        return True
