"""Documents cleaned: normalised, and without those that are too short, foreign or contaminated."""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from data_prep.corpus.decontamination import Decontaminator, read_evaluation_texts
from data_prep.corpus.documents import Document
from data_prep.corpus.language import LanguageFilter
from data_prep.corpus.normalization import normalize
from data_prep.schema import Record

DroppedKind = Literal["too_short", "language", "contaminated"]
_MAX_REMOVED = 0.5


class CleaningSettings(Record):
    """Which steps are taken; with none, documents only lose the empty ones among them."""

    normalize: bool = True
    """Mend mojibake, Unicode forms, line breaks and control characters."""
    min_words: int = Field(default=1, ge=1)
    """Fewest words of a document."""
    language: str | None = None
    """Keep documents of this language alone, for example "en"."""
    decontaminate: tuple[str, ...] = ()
    """Evaluation texts, named like inputs, that no paragraph may repeat."""
    ngram: int = Field(default=13, ge=1)
    """Words of a run that counts as a repetition."""


@dataclass(frozen=True)
class Dropped:
    """A document that is left out: why in one word for counts, why in one line."""

    kind: DroppedKind
    reason: str


class Cleaner:
    """Cleans documents one by one, and counts what it did.

    `counts` holds `normalized` (documents that normalisation changed), `paragraphs_removed` and
    `documents_with_paragraphs_removed` (by decontamination, whether or not the document was then dropped).
    `num_evaluation_texts` and `num_too_short_evaluation_texts` say how many texts were given to look for, and
    how many of them are shorter than a run of words and so are never found.

    Raises:
        UserError: an unknown language, or evaluation texts that cannot be read.
    """

    def __init__(self, settings: CleaningSettings) -> None:
        self._settings = settings
        self.counts = {"normalized": 0, "paragraphs_removed": 0, "documents_with_paragraphs_removed": 0}
        self._language = LanguageFilter(settings.language) if settings.language else None
        self._decontaminator: Decontaminator | None = None
        self.num_evaluation_texts = self.num_too_short_evaluation_texts = 0
        if settings.decontaminate:
            texts = read_evaluation_texts(settings.decontaminate, settings.ngram)
            self.num_evaluation_texts = texts.num_texts
            self.num_too_short_evaluation_texts = texts.num_too_short
            self._decontaminator = Decontaminator(texts)

    def __call__(self, document: Document) -> Document | Dropped:
        """The document, changed or not, or why it is left out."""
        if self._settings.normalize:
            text = normalize(document.text)
            if text is not document.text:
                self.counts["normalized"] += 1
                document = replace(document, text=text)
        if dropped := self._too_short(document):
            return dropped
        if self._language and (other := self._language.other_language(document.text)):
            return Dropped("language", f'its language is "{other}", not "{self._settings.language}"')
        return self._decontaminated(document, self._decontaminator) if self._decontaminator else document

    def _too_short(self, document: Document) -> Dropped | None:
        fewest = 1 if document.continues else self._settings.min_words
        found = len(document.text.split(maxsplit=fewest)[:fewest])
        return Dropped("too_short", f"{found} words, fewer than {fewest}") if found < fewest else None

    def _decontaminated(self, document: Document, decontaminator: Decontaminator) -> Document | Dropped:
        result = decontaminator(document)
        if not result.paragraphs_removed:
            return document
        self.counts["paragraphs_removed"] += result.paragraphs_removed
        self.counts["documents_with_paragraphs_removed"] += 1
        if result.words_removed > _MAX_REMOVED * result.words or self._too_short(result.document):
            share = f"{result.words_removed} of {result.words} words"
            return Dropped("contaminated", f"{share} stand in paragraphs that repeat evaluation texts")
        return result.document
