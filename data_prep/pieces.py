"""Word pieces: the tokenizer, and which word each piece belongs to."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from data_prep.errors import UserError
from data_prep.schema import NO_TASK, TOKENIZER, Component
from data_prep.tagging import TaggedParagraph

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NO_WORD_YET = -1


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


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A lower-cased WordPiece tokenizer with BERT's normalisation, of at most `vocab_size` pieces."""
    tokenizer = _word_piece(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a piece, not a password
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIALS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_template(tokenizer)


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer from a `tokenizer.json`, a BERT `vocab.txt`, or a folder that holds either."""
    if path.is_dir():
        found = [path / name for name in (TOKENIZER, "vocab.txt") if (path / name).is_file()]
        if not found:
            raise UserError(f"{path}: holds neither {TOKENIZER} nor vocab.txt")
        path = found[0]
    if not path.is_file():
        raise UserError(f"{path}: no such tokenizer; give a tokenizer.json, a vocab.txt or their folder")
    try:
        if path.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(path))
        else:
            model = models.WordPiece.from_file(str(path), unk_token="[UNK]")  # noqa: S106
            tokenizer = _word_piece(model)
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path}: not a tokenizer ({error})") from error
    missing = [special for special in SPECIALS if tokenizer.token_to_id(special) is None]
    if missing:
        raise UserError(f"{path}: the tokenizer lacks {', '.join(missing)}")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer if path.suffix == ".json" else _with_template(tokenizer)


def tokenizer_component(tokenizer: Tokenizer) -> Component:
    """The tokenizer's identity; its hash is that of the `tokenizer.json` in the shards' folder."""
    content = tokenizer_json(tokenizer)
    return Component(
        name=type(tokenizer.model).__name__,
        version=tokenizers.__version__,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """The content of `tokenizer.json`."""
    return tokenizer.to_str(pretty=True).encode()


def encode_document(tokenizer: Tokenizer, doc_id: str, paragraphs: list[TaggedParagraph]) -> EncodedDocument:
    """Pieces of a document, tokenised as its raw text is, each with the word and task that it belongs to."""
    encodings = tokenizer.encode_batch([p.text for p in paragraphs], add_special_tokens=False)
    ids, tasks, words, sentence_starts = [], [], [], []
    first_word, first_piece = 0, 0
    for paragraph, encoding in zip(paragraphs, encodings, strict=True):
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        word = words_of_pieces(offsets, paragraph.starts, paragraph.ends)
        known = word != _NO_WORD_YET
        starts_word = known & np.diff(word, prepend=_NO_WORD_YET).astype(bool)
        ids.append(np.array(encoding.ids, np.int32))
        tasks.append(np.where(known, paragraph.tasks[word], NO_TASK).astype(np.uint8))
        words.append(np.where(known, word + first_word, _NO_WORD_YET))
        sentence_starts.append(np.flatnonzero(starts_word & paragraph.sentence_starts[word]) + first_piece)
        first_word += len(paragraph.starts)
        first_piece += len(encoding.ids)
    all_words = _concatenate(words, np.int64)
    cuts = np.flatnonzero((np.diff(all_words, prepend=-2) != 0) | (all_words == _NO_WORD_YET))
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
    words = np.where(first <= last, first, _NO_WORD_YET)
    for piece in np.flatnonzero(first < last):
        candidates = np.arange(first[piece], last[piece] + 1)
        overlap = np.minimum(ends[candidates], offsets[piece, 1])
        overlap -= np.maximum(starts[candidates], offsets[piece, 0])
        words[piece] = candidates[np.argmax(overlap)]
    return words


def _word_piece(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _with_template(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(special, tokenizer.token_to_id(special)) for special in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _concatenate(arrays: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
