"""Bounds on what a tagger is given at once: memory grows with a text, time with a word's square."""

import re
from collections.abc import Iterator

MAX_TEXT = 50_000
"""Characters."""
MAX_WORD = 128
"""Characters without white space."""
_LONG_WORD = re.compile(rf"\S{{{MAX_WORD + 1},}}")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]+")


def cut_text(text: str) -> Iterator[str]:
    """Pieces of at most MAX_TEXT characters without a word of more than MAX_WORD.

    A text is cut at the last end of a sentence in the second half of what is allowed, else at the last
    space, else at the bound. Put together again the pieces are the text, but for the space at a cut.
    """
    for part in _cut_words(text):
        while len(part) > MAX_TEXT:
            end = _cut_place(part[:MAX_TEXT])
            yield part[:end].rstrip()
            part = part[end:].lstrip()
        yield part


def _cut_words(text: str) -> Iterator[str]:
    start = 0
    for word in _LONG_WORD.finditer(text):
        place = word.start()
        while word.end() - place > MAX_WORD:
            place += _cut_place(text[place : place + MAX_WORD])
            yield text[start:place]
            start = place
    yield text[start:]


def _cut_place(text: str) -> int:
    """Where to end a piece, if it must end within `text`: 1 to its length."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, len(text) // 2)]
    if ends:
        return ends[-1]
    space = text.rfind(" ", 1)
    return space if space > 0 else len(text)
