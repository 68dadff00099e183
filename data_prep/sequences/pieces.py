"""Word pieces, and which word each of them belongs to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.schema import NO_TASK
from data_prep.tagging.tagger import TaggedParagraph

_NO_WORD = -1


@dataclass(frozen=True)
class EncodedDocument:
    """P pieces of a document: `ids`, `tasks`, `words` (index of the word, -1 for none), each [P].

    `cuts` are the positions where a word starts, so where a segment may start or end; `sentence_starts`
    are those of them where a sentence starts. Both end with P.
    """

    doc_id: str
    ids: NDArray[np.int32]
    tasks: NDArray[np.uint8]
    words: NDArray[np.int64]
    cuts: NDArray[np.int64]
    sentence_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def encode_document(tokenizer: Tokenizer, doc_id: str, paragraphs: list[TaggedParagraph]) -> EncodedDocument:
    """Pieces of a document, tokenised as its raw text is, each with the word and task that it belongs to."""
    # A text may speak of [MASK]; it stays text.
    tokenizer.encode_special_tokens = True
    encodings = tokenizer.encode_batch([p.text for p in paragraphs], add_special_tokens=False)
    unknown = tokenizer.token_to_id("[UNK]")
    ids, tasks, words, sentence_starts = [], [], [], []
    first_word, first_piece = 0, 0
    for paragraph, encoding in zip(paragraphs, encodings, strict=True):
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        word = words_of_pieces(offsets, paragraph.starts, paragraph.ends)
        known = word != _NO_WORD
        starts_word = known & np.diff(word, prepend=_NO_WORD).astype(bool)
        pieces = np.array(encoding.ids, np.int32)
        ids.append(pieces)
        # Nothing can be learned from predicting [UNK], so a word that holds one has no task.
        tagged = known & ~np.isin(word, word[pieces == unknown])
        tasks.append(np.where(tagged, paragraph.tasks[word], NO_TASK).astype(np.uint8))
        words.append(np.where(known, word + first_word, _NO_WORD))
        sentence_starts.append(np.flatnonzero(starts_word & paragraph.sentence_starts[word]) + first_piece)
        first_word += len(paragraph.starts)
        first_piece += len(encoding.ids)
    all_words = _concatenate(words, np.int64)
    cuts = np.flatnonzero((np.diff(all_words, prepend=-2) != 0) | (all_words == _NO_WORD))
    return EncodedDocument(
        doc_id=doc_id,
        ids=_concatenate(ids, np.int32),
        tasks=_concatenate(tasks, np.uint8),
        words=all_words,
        cuts=np.append(cuts, first_piece),
        sentence_starts=np.append(_concatenate(sentence_starts, np.int64), first_piece),
    )


def words_of_pieces(
    offsets: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The word that holds most of each piece's characters, the first on a tie; -1 where none does.

    The tokenizer and the tagger split differently: of `don't` the tagger makes `do` and `n't`, BERT's rule
    `don`, `'` and `t`. The raw text is tokenised as users will tokenise it later, and `don` goes to `do`.

    Args:
        offsets: [P, 2] first and one-past-last character of each piece.
        starts: [W] first character of each word, ascending.
        ends: [W] one past its last character, at most the next start.
    """
    first = np.searchsorted(ends, offsets[:, 0], side="right")
    last = np.searchsorted(starts, offsets[:, 1], side="left") - 1
    words = np.where(first <= last, first, _NO_WORD)
    for piece in np.flatnonzero(first < last):
        candidates = np.arange(first[piece], last[piece] + 1)
        overlap = np.minimum(ends[candidates], offsets[piece, 1])
        overlap -= np.maximum(starts[candidates], offsets[piece, 0])
        words[piece] = candidates[np.argmax(overlap)]
    return words


def _concatenate(arrays: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
