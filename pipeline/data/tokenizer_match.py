"""Whether the tokenizer of a Hugging Face folder gives the pieces and ids that the shards hold."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.schema import TOKENIZER
from data_prep.sequences.tokenizer import SPECIALS, load_tokenizer
from pipeline.data.shards import Shards

_DECISIVE = ("normalizer", "pre_tokenizer", "model", "added_tokens")
"""Parts of a tokenizer.json that decide pieces and ids. Templates, padding, truncation and decoder do not."""
_VOCABULARY = "vocab.txt"
_NO_TOKENIZER = (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError)
"""What transformers raises where a folder's files are malformed, or ask for a package that is not here."""
_WRITE_JSON = (
    'write its tokenizer.json (python -c "from transformers import AutoTokenizer; AutoTokenizer.'
    "from_pretrained('FOLDER').save_pretrained('FOLDER')\") and "
)


def refuse_other_tokenizer(folder: Path, shards: Shards) -> None:
    """Compare by what tokenizers do, not by how their files are written.

    Raises:
        UserError: the folder has no tokenizer, or one that gives other pieces or ids.
    """
    difference = tokenizer_difference(_tokenizer_of(folder), shards.tokenizer)
    if difference:
        first = "" if (folder / TOKENIZER).is_file() else _WRITE_JSON.replace("FOLDER", str(folder))
        raise UserError(
            f"model.init_from: {folder} has another tokenizer than {shards.folder}: {difference}; {first}"
            f"prepare the text with it: data_prep text INPUT --tokenizer {folder} --out OUT"
        )


def tokenizer_difference(theirs: Tokenizer, ours: Tokenizer) -> str | None:
    """The first piece or setting in which two tokenizers differ, in words, or None."""
    pieces = [{number: piece for piece, number in each.get_vocab().items()} for each in (theirs, ours)]
    for number in sorted(pieces[0].keys() | pieces[1].keys()):
        there, here = (vocabulary.get(number) for vocabulary in pieces)
        if there != here:
            return f"piece {number} is {_shown(there)} there and {_shown(here)} here"
    return _first_difference(_settings(theirs), _settings(ours), "")


def _tokenizer_of(folder: Path) -> Tokenizer:
    """As data_prep takes it from a tokenizer.json; from a vocab.txt as transformers makes it."""
    if (folder / TOKENIZER).is_file():
        return load_tokenizer(folder / TOKENIZER)
    if not (folder / _VOCABULARY).is_file():
        raise UserError(
            f"model.init_from: {folder} has neither {TOKENIZER} nor {_VOCABULARY}, so that nobody can tell "
            "whether its pieces are those of the shards; add the tokenizer that the model was trained with"
        )
    from transformers import AutoTokenizer

    # It knows from tokenizer_config.json whether letters are lower-cased, which a list of pieces cannot say.
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        rules: Tokenizer = tokenizer.backend_tokenizer
    except _NO_TOKENIZER as error:
        raise UserError(
            f"model.init_from: {folder}: {_VOCABULARY} and tokenizer_config.json make no tokenizer "
            f"({type(error).__name__}: {error}); download or export it again"
        ) from error
    rules.add_special_tokens(list(SPECIALS))
    return rules


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    written = json.loads(tokenizer.to_str())
    written["model"].pop("vocab")
    normalizer = written["normalizer"]
    if normalizer and normalizer["type"] == "BertNormalizer":
        given = normalizer.pop("strip_accents")
        normalizer["strip_accents"] = normalizer["lowercase"] if given is None else given
    return {part: written[part] for part in _DECISIVE}


def _first_difference(there: Any, here: Any, place: str) -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = list(dict.fromkeys([*there, *here]))
        pairs = [(f"{place}.{key}".lstrip("."), there.get(key), here.get(key)) for key in keys]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{place}[{i}]", *both) for i, both in enumerate(zip(there, here, strict=True))]
    else:
        return None if there == here else f"{place} is {_shown(there)} there and {_shown(here)} here"
    return next(filter(None, (_first_difference(t, h, where) for where, t, h in pairs)), None)


def _shown(value: Any) -> str:
    """A value as JSON, not too long of it."""
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
