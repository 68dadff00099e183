"""Text as it was meant: mojibake undone, one form for each character, no invisible controls; through ftfy.

Curly quotes stay. They are right where an author set them, spaCy's English pipelines split and tag words
beside them alike (measured in docs), and BERT's vocabularies hold them.
"""

import re
import unicodedata

from ftfy import TextFixerConfig, fix_text
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP

_CONFIG = TextFixerConfig(uncurl_quotes=False, explain=False)
_NOT_PLAIN = re.compile(r"[^\t\n -%'-~]")
"""A line without any is left as it is. An & may open an HTML entity."""
_ALWAYS_FIXED = "".join(map(re.escape, map(chr, {*CONTROL_CHARS, *LIGATURES, *WIDTH_MAP})))
_FIXABLE = re.compile(f"[&\r\x1b\x80-\x9f\u2028\u2029\ud800-\udfff{_ALWAYS_FIXED}]")


def normalize(text: str) -> str:
    """The text with what is broken mended, line by line; `text` itself where nothing is.

    HTML entities are replaced only in a text without `<`: one with it may be HTML, or speak of it.
    """
    match = _NOT_PLAIN.search(text)
    if match is None:
        return text
    config = _CONFIG._replace(unescape_html="<" not in text)
    done: list[str] = []
    start = 0  # of what is not yet in `done`
    while match is not None:
        line = text.rfind("\n", start, match.start()) + 1 or start
        end = text.find("\n", match.start()) + 1 or len(text)
        broken = text[line:end]
        if is_bad(broken) or _FIXABLE.search(broken) or not unicodedata.is_normalized("NFC", broken):
            done += (text[start:line], fix_text(broken, config))
            start = end
        match = _NOT_PLAIN.search(text, end)
    done.append(text[start:])
    fixed = "".join(done)
    return text if fixed == text else fixed
