"""The one place that knows which data and which model a run file's backbone means."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedConfig

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from pipeline.config import ModelConfig, RunConfig
from pipeline.data.interface import LossTerms
from pipeline.data.shards import Shards
from pipeline.data.text import TextData
from pipeline.data.text_terms import loss_terms
from pipeline.data.tokenizer_match import refuse_other_tokenizer
from pipeline.data.word_tasks import word_tasks
from pipeline.engine.checkpoint import CheckpointManifest, load_parameters, read_manifest
from pipeline.models.backbones import BACKBONES
from pipeline.models.hf_folder import refuse_damaged_weights
from pipeline.models.text import TextModel
from pipeline.models.warm_start import WarmStart, read_warm_start


class TextRecipe(BaseModel):
    """What a text model is built from beside its configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_names: list[str]
    """Of the shards, by which the model is judged."""
    vocab_size: int
    sequence_length: int
    pad_id: int
    tokenizer_sha256: str
    shards_sha256: str
    """Hash of the shards' manifest: a run does not go on with other data."""
    warm_start: WarmStart | None
    """Of a run that began with `model.init_from`."""


def text_data(config: RunConfig) -> TextData:
    """The training data of a run file."""
    return TextData(
        Shards(config.data.path), config.data, config.masking, config.objective, config.batch, config.seed
    )


def text_recipe(config: RunConfig, shards: Shards, start: Path | None = None) -> TextRecipe:
    """The recipe of a text model for these shards.

    A run that goes on from the checkpoint `start` does not look at the folder `model.init_from` again.

    Raises:
        UserError: the vocabulary, or the folder of the first parameters, does not fit.
    """
    manifest = shards.manifest
    warm_start = _kept_warm_start(start) if start else warm_start_of(config, manifest.sequence_length, shards)
    vocab_size = warm_start.vocab_size if warm_start else config.model.vocab_size or manifest.vocab_size
    if vocab_size < manifest.vocab_size and not warm_start:
        raise UserError(
            f"model.vocab_size {vocab_size} is smaller than the {manifest.vocab_size} pieces of the "
            f"tokenizer in {shards.folder}; leave it out"
        )
    return TextRecipe(
        task_names=manifest.task_names,
        vocab_size=vocab_size,
        sequence_length=manifest.sequence_length,
        pad_id=shards.pad_id,
        tokenizer_sha256=manifest.tokenizer.sha256,
        shards_sha256=sha256_file(shards.folder / MANIFEST),
        warm_start=warm_start,
    )


def _kept_warm_start(checkpoint: Path) -> WarmStart | None:
    """What the run of a checkpoint began with."""
    kept = read_manifest(checkpoint).model.get("warm_start")
    return WarmStart.model_validate(kept) if kept else None


def warm_start_of(config: RunConfig, sequence_length: int, shards: Shards | None) -> WarmStart | None:
    """What the folder `model.init_from` decides, if it is given; with shards it must have their tokenizer.

    Raises:
        UserError: the folder cannot be trained, or fits neither the run file nor the shards.
    """
    folder = config.model.init_from
    if folder is None:
        return None
    # Dimensions alone are asked of it, which no vocabulary changes.
    own_config = _own_config(vocab_size=1, sequence_length=sequence_length, pad_id=0)
    found = read_warm_start(folder, config.model, sequence_length, own_config)
    if shards:
        refuse_other_tokenizer(folder, shards)
        found.refuse_sequences_of(shards.manifest, folder)
    refuse_damaged_weights(folder)
    return found


def _own_config(
    vocab_size: int, sequence_length: int, pad_id: int
) -> Callable[[ModelConfig], PreTrainedConfig]:
    """What makes the configuration that a run file's model section alone means."""

    def own_config(model: ModelConfig) -> PreTrainedConfig:
        try:
            return BACKBONES[model.backbone].configure(model, vocab_size, sequence_length, pad_id)
        except ValueError as error:
            raise UserError(str(error)) from error

    return own_config


def training_terms(config: RunConfig, shards: Shards) -> LossTerms:
    """The loss terms of a run.

    Raises:
        UserError: `data.tasks` does not fit the shards, or `objective.tasks` names a task that is not there.
    """
    return loss_terms(word_tasks(config.data, shards).names, config.masking, config.objective)


def build_model(config: RunConfig, recipe: TextRecipe, terms: LossTerms | None = None) -> TextModel:
    """A model with fresh parameters, drawn from torch's generator.

    Neither they nor scores depend on the loss `terms` of training, which are those of the shards' tasks if
    not given.
    """
    with_nsp = config.objective.nsp != "off"
    if terms:
        num_word_terms = len(terms) - with_nsp
    else:
        num_word_terms = len(recipe.task_names) + (config.masking.policy == "random")
    own_config = _own_config(recipe.vocab_size, recipe.sequence_length, recipe.pad_id)
    if recipe.warm_start:
        network_config = recipe.warm_start.network_config(config.model, own_config)
    else:
        network_config = own_config(config.model)
    return BACKBONES[config.model.backbone].model(network_config, num_word_terms, with_nsp=with_nsp)


def model_from_checkpoint(checkpoint: Path, manifest: CheckpointManifest) -> tuple[TextModel, TextRecipe]:
    """The trained model of a checkpoint, in evaluation mode, from its safetensors alone."""
    try:
        recipe = TextRecipe.model_validate(manifest.model)
        config = RunConfig.model_validate(manifest.config)
    except ValidationError as error:
        raise UserError(f"{checkpoint}: written by another version of this program ({error})") from error
    model = build_model(config, recipe)
    load_parameters(checkpoint, manifest, model.network)
    return model.eval(), recipe
