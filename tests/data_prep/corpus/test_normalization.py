"""What is broken is mended, and nothing else."""

import pytest
from ftfy import TextFixerConfig, fix_text
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.corpus.normalization import normalize


@pytest.mark.parametrize(
    "text",
    [
        "Plain ASCII.\n\n\tWith tabs ~ and {brackets}.",
        "“Curly quotes,” said he—‘stay’.",
        "AT&T sold R&D.",
        "<p>Fish &amp; chips</p>",
        "Ψυχρολουσία, café, 漢字, 😀",
        "",
    ],
)
def test_text_that_is_in_order_is_returned_itself(text):
    assert normalize(text) is text


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("schÃ¶n\nand plain", "schön\nand plain"),
        ("Itâ€™s fine.", "It’s fine."),
        ("e\u0301te\u0301", "été"),
        ("a\0b\x07c\x1b[31md\x1b[0m\ufeff", "abcd"),
        ("one\r\ntwo\rthree\u2028four\x85five", "one\ntwo\nthree\nfour…five"),
        ("ﬁsh ﬂies ＬＯＵＤ", "fish flies LOUD"),
        ("Fish &amp; chips &eacute;", "Fish & chips é"),
        ("a\ud83d\ude00b\ud800", "a😀b\ufffd"),
    ],
)
def test_what_is_broken_is_mended(text, mended):
    assert normalize(text) == mended


CHARACTERS = st.sampled_from(
    "ab &;<\n\r\t\0\x1b[m“”’—éÃ©â€™\u0301\x85\x93\u2028\ufeffﬁＬα\u00a0\u00ad漢😀\ud800"
)


@given(st.text(CHARACTERS, max_size=40) | st.text(max_size=40))
@example("Ã\n©")
def test_lines_that_are_left_alone_are_those_that_ftfy_would_leave_alone(text):
    config = TextFixerConfig(uncurl_quotes=False, unescape_html="<" not in text)
    assert normalize(text) == fix_text(text, config)
