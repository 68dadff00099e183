"""Continued pre-training: a Hugging Face folder decides the architecture and gives the first parameters.

Reading them is left to transformers, which knows the names that parameters had under other heads and in other
years. What it found is checked here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import Manifest
from pipeline.config import ModelConfig
from pipeline.models.backbones import BACKBONES
from pipeline.models.hf_folder import CONFIG, read_config, silent_transformers, weight_files

_DIMENSIONS = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
"""What `model.size` stands for: keys of a run file's model section, and what transformers calls them."""
_NO_ARCHITECTURE = (
    *("architectures", "dtype", "transformers_version", "_name_or_path"),
    *("id2label", "label2id", "problem_type"),
    *("output_attentions", "output_hidden_states", "return_dict"),
)
"""What a config.json says of its file, of a fine-tuned head, and of what a model is to hand out."""
_NO_NETWORK = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What values that mean nothing raise, each where torch or transformers first meets it."""
_NUM_NAMED = 6


class WarmStart(BaseModel):
    """What a run that began with a folder must know when the folder is gone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_sha256: str
    network: dict[str, Any]
    """The folder's architecture, in transformers' names; without dropout, which is the run file's."""

    def refuse_sequences_of(self, shards: Manifest, folder: Path) -> None:
        """Raise UserError where sequences hold pieces or segments that have no row in an embedding."""
        where = f"model.init_from: {folder / CONFIG}"
        if self.vocab_size < shards.vocab_size:
            raise UserError(
                f"{where}: vocab_size is {self.vocab_size}, its tokenizer has {shards.vocab_size} pieces; "
                "name a folder whose files belong together"
            )
        if shards.next_sentence and self.network.get("type_vocab_size", 2) < 2:
            raise UserError(
                f"{where}: type_vocab_size is {self.network['type_vocab_size']}, the shards hold pairs of "
                "segments; prepare the text with --no-nsp"
            )

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, which may be more than the tokenizer has pieces."""
        return self.network["vocab_size"]

    def network_config(self, model: ModelConfig, own_config: Callable[[ModelConfig], Any]) -> Any:
        """The configuration that a model section alone means, with the folder's architecture."""
        config = own_config(model.model_copy(update={"size": "base", **dict.fromkeys(_DIMENSIONS)}))
        config.update(self.network)
        return config


@dataclass(frozen=True)
class LoadedFolder:
    """What became of a folder's parameters; modules by name."""

    folder: Path
    initialised: list[str]
    """Modules of the network that the folder lacks."""
    unused: list[str]
    """Modules of the folder that the network lacks."""

    def __str__(self) -> str:
        notes = [f"starting from {self.folder}"]
        if self.initialised:
            notes.append(f"not in it, so initialised with the seed: {_few(self.initialised)}")
        if self.unused:
            notes.append(f"in it, but not used: {_few(self.unused)}")
        return "; ".join(notes)


def read_warm_start(
    folder: Path,
    model: ModelConfig,
    sequence_length: int,
    own_config: Callable[[ModelConfig], PreTrainedConfig],
) -> WarmStart:
    """What a folder decides about a run, from its config.json and the hash of its weights.

    `own_config` makes the configuration that a model section alone means.

    Raises:
        UserError: no such folder, not safetensors, another architecture or none, fewer positions than
            sequences have pieces, or other dimensions than those that the run file gives.
    """
    files = weight_files(folder)
    theirs = read_config(folder, model.backbone)
    _refuse_what_is_no_network(folder, theirs, model.backbone)
    if theirs.max_position_embeddings < sequence_length:
        raise UserError(
            f"model.init_from: {folder / CONFIG}: max_position_embeddings is "
            f"{theirs.max_position_embeddings}, sequences have {sequence_length} pieces; prepare the text "
            "with a lower --sequence-length"
        )
    _refuse_other_dimensions(folder, theirs, model, own_config)
    return WarmStart(
        weights_sha256=_sha256(files),
        network={
            key: value
            for key, value in json.loads(theirs.to_json_string(use_diff=False)).items()
            if key not in _NO_ARCHITECTURE and "dropout" not in key
        },
    )


def load_folder(network: PreTrainedModel, folder: Path) -> LoadedFolder:
    """Copy a folder's parameters into a fresh network, whose other parameters stay as they are.

    Raises:
        UserError: the files are damaged, or do not hold the whole encoder that config.json describes.
    """
    try:
        with silent_transformers():
            result: Any = type(network).from_pretrained(
                folder,
                config=deepcopy(network.config),
                attn_implementation="eager",  # it is never run
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"model.init_from: {folder}: {error}; download or export it again") from error
    loaded, report = result
    _refuse_other_encoder(folder, network.base_model_prefix, report)
    source = dict(loaded.named_parameters())
    absent = []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in source and name not in report["missing_keys"]:
                parameter.copy_(source[name])
            else:
                absent.append(name)
    return LoadedFolder(folder, _modules(absent), _modules(sorted(report["unexpected_keys"])))


def _refuse_what_is_no_network(folder: Path, theirs: PreTrainedConfig, backbone: str) -> None:
    """Raise UserError where no network can be built as config.json says; nothing is allocated."""
    try:
        with torch.device("meta"), silent_transformers():
            BACKBONES[backbone].model(theirs, num_word_terms=1, with_nsp=True)
    except _NO_NETWORK as error:
        raise UserError(
            f"model.init_from: {folder / CONFIG}: describes no network that can be built "
            f"({type(error).__name__}: {error}); download or export it again"
        ) from error


def _refuse_other_dimensions(
    folder: Path,
    theirs: PreTrainedConfig,
    model: ModelConfig,
    own_config: Callable[[ModelConfig], PreTrainedConfig],
) -> None:
    """Raise UserError where the run file gives a dimension that the folder has otherwise."""
    for key, name in {**_DIMENSIONS, "vocab_size": "vocab_size"}.items():
        given, found = getattr(model, key), getattr(theirs, name)
        if given not in (None, found):
            raise UserError(
                f"model.{key} is {given}, but {folder / CONFIG} (model.init_from) has {found}; leave it out, "
                f"or set model.{key}=null"
            )
    if not model.size:
        return
    asked = own_config(model)
    for name in _DIMENSIONS.values():
        if getattr(asked, name) != getattr(theirs, name):
            raise UserError(
                f"model.size {model.size} has {name} {getattr(asked, name)}, but {folder / CONFIG} "
                f"(model.init_from) has {getattr(theirs, name)}; leave it out, or set model.size=null"
            )


def _refuse_other_encoder(folder: Path, encoder: str, report: dict[str, Any]) -> None:
    """Raise UserError where files and config.json disagree about more than heads."""

    def of_encoder(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if name.startswith(f"{encoder}.") and ".pooler." not in name)

    missing, unexpected = of_encoder(report["missing_keys"]), of_encoder(report["unexpected_keys"])
    if report["mismatched_keys"]:
        name, in_file, in_model = sorted(report["mismatched_keys"])[0]
        what = f"{name} has shape {list(in_file)}, by {CONFIG} it has {list(in_model)}"
    elif missing:
        what = f"{missing[0]} is missing ({len(missing)} such), which {CONFIG} asks for"
    elif unexpected:
        what = f"{unexpected[0]} ({len(unexpected)} such) has no place in what {CONFIG} describes"
    else:
        return
    raise UserError(f"model.init_from: {folder}: {what}; name a folder whose files belong together")


def _sha256(files: list[Path]) -> str:
    """Of the one file, or over the hashes of several."""
    hashes = [sha256_file(path) for path in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _modules(parameters: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in parameters))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more
