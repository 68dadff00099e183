"""The one place that knows which data and which model a run file's backbone means."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from pipeline.config import RunConfig
from pipeline.data.shards import Shards
from pipeline.data.text import UNTAGGED, TextData, loss_terms
from pipeline.engine.checkpoint import CheckpointManifest, load_parameters
from pipeline.models.bert import BertTaskModel, bert_config


class TextRecipe(BaseModel):
    """What a text model is built from beside its configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_names: list[str]
    vocab_size: int
    sequence_length: int
    pad_id: int
    tokenizer_sha256: str
    shards_sha256: str
    """Hash of the shards' manifest: a run does not go on with other data."""


def text_data(config: RunConfig) -> TextData:
    """The training data of a run file."""
    return TextData(
        Shards(config.data.path), config.data, config.masking, config.objective, config.batch, config.seed
    )


def text_recipe(config: RunConfig, shards: Shards) -> TextRecipe:
    """The recipe of a text model for these shards; raises UserError where the vocabulary does not fit."""
    manifest = shards.manifest
    vocab_size = config.model.vocab_size or manifest.vocab_size
    if vocab_size < manifest.vocab_size:
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
    )


def build_model(config: RunConfig, recipe: TextRecipe) -> BertTaskModel:
    """A model with fresh parameters, drawn from torch's generator."""
    terms = loss_terms(recipe.task_names, config.masking, config.objective)
    try:
        bert = bert_config(config.model, recipe.vocab_size, recipe.sequence_length, recipe.pad_id)
    except ValueError as error:
        raise UserError(str(error)) from error
    num_word_terms = len(recipe.task_names) + (UNTAGGED in terms.names)
    return BertTaskModel(bert, num_word_terms, with_nsp=config.objective.nsp != "off")


def model_from_checkpoint(checkpoint: Path, manifest: CheckpointManifest) -> tuple[BertTaskModel, TextRecipe]:
    """The trained model of a checkpoint, in evaluation mode, from its safetensors alone."""
    try:
        recipe = TextRecipe.model_validate(manifest.model)
        config = RunConfig.model_validate(manifest.config)
    except ValidationError as error:
        raise UserError(f"{checkpoint}: written by another version of this program ({error})") from error
    model = build_model(config, recipe)
    load_parameters(checkpoint, manifest, model.network)
    return model.eval(), recipe
