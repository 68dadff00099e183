"""The language of a document, judged from a sample by py3langid's bundled model."""

from py3langid.langid import MODEL_FILE, RAW_FLOOR, LanguageIdentifier

from data_prep.errors import UserError

SAMPLE = 2_000
"""Characters, from the middle: the beginning is often a title page or a licence."""


class LanguageFilter:
    """Tells documents of one language from the others.

    Raises:
        UserError: a language that the model does not know.
    """

    def __init__(self, language: str) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        known = sorted(set(self._identifier.labels))
        if language not in known:
            raise UserError(f'language "{language}": not known; give one of {", ".join(known)}')
        self._language = language

    def other_language(self, text: str) -> str | None:
        """The language of a text, if it is another; None also where nothing tells one from another."""
        start = max(0, (len(text) - SAMPLE) // 2)
        language, score = self._identifier.classify(text[start : start + SAMPLE])
        return None if language == self._language or score <= RAW_FLOOR else language
