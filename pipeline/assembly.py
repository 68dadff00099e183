"""The one place that knows which data and which model a run file's backbone means."""

from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.initialization import no_init_weights

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.passes.job import Settings
from data_prep.schema import MANIFEST
from data_prep.tagging.tag_map import load_tag_map
from pipeline.config import ModelConfig, RunConfig
from pipeline.data.shards import Shards
from pipeline.data.text import UNTAGGED, TextData, check_next_sentence, loss_terms, task_quotas
from pipeline.data.text_plan import masked_per_sequence, text_inputs, tokens_per_sequence
from pipeline.data.tokenizer_match import refuse_other_tokenizer
from pipeline.engine.checkpoint import CheckpointManifest, load_parameters, read_manifest
from pipeline.models.backbones import BACKBONES
from pipeline.models.text import TextModel
from pipeline.models.warm_start import WarmStart, read_warm_start
from pipeline.plan.loss_shapes import LossShapes
from pipeline.plan.run_plan import PlannedCase
from pipeline.plan.simulation import count_flops
from pipeline.plan.tasks import TaskGroup


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
    warm_start = _warm_start_of(start) if start else _warm_start(config, manifest.sequence_length, shards)
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


def _warm_start_of(checkpoint: Path) -> WarmStart | None:
    """What the run of a checkpoint began with."""
    kept = read_manifest(checkpoint).model.get("warm_start")
    return WarmStart.model_validate(kept) if kept else None


def _warm_start(config: RunConfig, sequence_length: int, shards: Shards | None) -> WarmStart | None:
    """What the folder `model.init_from` decides, if it is given; with shards it must have their tokenizer."""
    folder = config.model.init_from
    if folder is None:
        return None
    # Dimensions alone are asked of it, which no vocabulary changes.
    own_config = partial(_own_network_config, vocab_size=1, sequence_length=sequence_length, pad_id=0)
    found = read_warm_start(folder, config.model, sequence_length, own_config)
    if shards:
        refuse_other_tokenizer(folder, shards)
        found.refuse_sequences_of(shards.manifest, folder)
    return found


def _own_network_config(
    model: ModelConfig, vocab_size: int, sequence_length: int, pad_id: int
) -> PreTrainedConfig:
    """The configuration that a run file's model section alone means."""
    try:
        return BACKBONES[model.backbone].configure(model, vocab_size, sequence_length, pad_id)
    except ValueError as error:
        raise UserError(str(error)) from error


def build_model(config: RunConfig, recipe: TextRecipe) -> TextModel:
    """A model with fresh parameters, drawn from torch's generator."""
    terms = loss_terms(recipe.task_names, config.masking, config.objective)
    own_config = partial(
        _own_network_config,
        vocab_size=recipe.vocab_size,
        sequence_length=recipe.sequence_length,
        pad_id=recipe.pad_id,
    )
    if recipe.warm_start:
        network_config = recipe.warm_start.network_config(config.model, own_config)
    else:
        network_config = own_config(config.model)
    num_word_terms = len(recipe.task_names) + (UNTAGGED in terms.names)
    return BACKBONES[config.model.backbone].model(
        network_config, num_word_terms, with_nsp=config.objective.nsp != "off"
    )


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


def planned_case(config: RunConfig, sequence_length: int | None) -> PlannedCase:
    """Data and model of a run file for a plan; `sequence_length` is for want of shards.

    Raises:
        UserError: shards that do not fit the run file, or a length beside shards that have another.
    """
    if not (config.data.path / MANIFEST).is_file():
        return _case_without_shards(config, sequence_length or Settings().sequence_length)
    shards = Shards(config.data.path)
    manifest = shards.manifest
    if sequence_length not in (None, manifest.sequence_length):
        raise UserError(
            f"--sequence-length {sequence_length}: the sequences in {shards.folder} have "
            f"{manifest.sequence_length} pieces; leave it out"
        )
    check_next_sentence(shards, config.objective)
    return _case_with_shards(config, shards, text_recipe(config, shards))


def _case_with_shards(config: RunConfig, shards: Shards, recipe: TextRecipe) -> PlannedCase:
    manifest = shards.manifest
    quotas = task_quotas(config.data.quota, manifest)
    names = manifest.task_names
    groups = [
        TaskGroup(name, manifest.train_rows(name), tokens_per_sequence(manifest, name), quota)
        for name, quota in zip(names, quotas, strict=True)
    ]
    masked = [masked_per_sequence(manifest, name, config.masking) for name in names]
    shares = [quota / sum(quotas) for quota in quotas]
    return _planned_case(
        config,
        recipe,
        tokens=sum(s * group.tokens_per_sequence for s, group in zip(shares, groups, strict=True)),
        masked=sum(s * number for s, number in zip(shares, masked, strict=True)),
        groups=groups,
    )


def flops_per_token(config: RunConfig, shards: Shards, recipe: TextRecipe) -> float:
    """Of a text model's forward and backward pass, in full sequences of the shards."""
    case = _case_with_shards(config, shards, recipe)
    _, flops = count_flops(case.make)
    return flops / (config.batch.micro_size * case.sequence_length)


def _case_without_shards(config: RunConfig, sequence_length: int) -> PlannedCase:
    """With the tasks and the vocabulary that data_prep has by default, and all sequences full."""
    warm_start = _warm_start(config, sequence_length, None)
    recipe = TextRecipe(
        task_names=list(load_tag_map().tasks),
        vocab_size=warm_start.vocab_size if warm_start else config.model.vocab_size or Settings().vocab_size,
        sequence_length=sequence_length,
        pad_id=0,
        tokenizer_sha256="",
        shards_sha256="",
        warm_start=warm_start,
    )
    masked = config.masking.rate * sequence_length
    return _planned_case(config, recipe, tokens=sequence_length, masked=masked, groups=None)


def _planned_case(
    config: RunConfig, recipe: TextRecipe, *, tokens: float, masked: float, groups: list[TaskGroup] | None
) -> PlannedCase:
    num_sequences = config.batch.micro_size
    num_masked = max(1, round(num_sequences * masked))

    def make(keep_logits: bool) -> tuple[TextModel, dict[str, Tensor]]:
        with no_init_weights():  # drawing them may look at what was drawn, and here are no values
            model = build_model(config, recipe)
        network = model.network
        network.tie_weights()  # which is left out with it
        network.set_output_embeddings(LossShapes(network.get_output_embeddings(), keep_logits=keep_logits))
        return model, text_inputs(num_sequences, recipe.sequence_length, num_masked)

    return PlannedCase(recipe.sequence_length, tokens, num_masked, groups, make)
