"""The WordPiece tokenizer: trained, or taken from a file."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from data_prep.errors import UserError
from data_prep.schema import TOKENIZER, Component

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_LETTERS = 1_000
_MAX_STRING = 1_000


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A lower-cased WordPiece tokenizer with BERT's normalisation, of about `vocab_size` pieces.

    There are fewer where the text has no more, and more where it has so many letters.

    The trainer numbers the letters within words in the random order of a hash map, breaks ties between
    merges by these numbers, and drops letters beyond its limit in that order too. So the letters are chosen
    and numbered here, and the same text gives the same tokenizer.
    """
    tokenizer = _word_piece(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a piece, not a password
    words: Counter[str] = Counter()
    for text in texts:
        normalized = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    alphabet = sorted(sorted(letters, key=lambda letter: (-letters[letter], letter))[:_MAX_LETTERS])
    inner = {letter for word in words for letter in word[1:]}.intersection(alphabet)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*SPECIALS, *(f"##{letter}" for letter in sorted(inner))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(words), trainer)
    model = models.WordPiece(vocab=tokenizer.get_vocab(), unk_token="[UNK]")  # noqa: S106
    tokenizer = _word_piece(model)
    tokenizer.add_special_tokens(list(SPECIALS))
    return _with_template(tokenizer)


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Each word as often as it was counted, in strings so short that the trainer needs little memory."""
    for word, count in words.items():
        at_once = max(_MAX_STRING // len(word), 1)
        whole, rest = divmod(count, at_once)
        yield from [f"{word} " * at_once] * whole
        yield f"{word} " * rest


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer from a `tokenizer.json`, a BERT `vocab.txt`, or a folder that holds either."""
    if path.is_dir():
        found = [path / name for name in (TOKENIZER, "vocab.txt") if (path / name).is_file()]
        if not found:
            raise UserError(f"{path}: holds neither {TOKENIZER} nor vocab.txt; give one of them")
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
        raise UserError(f"{path}: not a tokenizer ({error}); give a tokenizer.json or a vocab.txt") from error
    missing = [special for special in SPECIALS if tokenizer.token_to_id(special) is None]
    if missing:
        raise UserError(f"{path}: the tokenizer lacks {', '.join(missing)}; give one made for BERT")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens(list(SPECIALS))
    return _with_template(tokenizer)


def special_id(tokenizer: Tokenizer, special: str) -> int:
    """The id of a special piece, which every tokenizer here has."""
    found = tokenizer.token_to_id(special)
    assert found is not None, f"{special} was looked for when the tokenizer was loaded"
    return found


def highest_id(tokenizer: Tokenizer) -> int:
    """The largest piece id; a tokenizer taken from elsewhere may leave ids out."""
    return max(tokenizer.get_vocab().values())


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
