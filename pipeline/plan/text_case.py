"""What a run file means for a plan: its text model and a micro-batch of typical sequences, without data."""

from torch import Tensor
from transformers.initialization import no_init_weights

from data_prep.errors import UserError
from data_prep.passes.job import Settings
from data_prep.schema import MANIFEST
from data_prep.tagging.tag_map import load_tag_map
from pipeline.assembly import TextRecipe, build_model, text_recipe, training_terms, warm_start_of
from pipeline.config import RunConfig
from pipeline.data.interface import LossTerms
from pipeline.data.shards import Shards
from pipeline.data.task_file import read_task_file
from pipeline.data.text import check_next_sentence, task_quotas
from pipeline.data.text_plan import masked_per_sequence, text_inputs, tokens_per_sequence
from pipeline.data.text_terms import loss_terms
from pipeline.models.text import TextModel
from pipeline.plan.loss_shapes import LossShapes
from pipeline.plan.run_plan import PlannedCase
from pipeline.plan.simulation import count_flops
from pipeline.plan.tasks import TaskGroup


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


def flops_per_token(config: RunConfig, shards: Shards, recipe: TextRecipe) -> float:
    """Of a text model's forward and backward pass, in full sequences of the shards."""
    case = _case_with_shards(config, shards, recipe)
    _, flops = count_flops(case.make)
    return flops / (config.batch.micro_size * case.sequence_length)


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
    return _case(
        config,
        recipe,
        training_terms(config, shards),
        tokens=sum(s * group.tokens_per_sequence for s, group in zip(shares, groups, strict=True)),
        masked=sum(s * number for s, number in zip(shares, masked, strict=True)),
        groups=groups,
    )


def _case_without_shards(config: RunConfig, sequence_length: int) -> PlannedCase:
    """With the tasks and the vocabulary that data_prep has by default, and all sequences full."""
    warm_start = warm_start_of(config, sequence_length, None)
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
    tasks = read_task_file(config.data.tasks).task_names if config.data.tasks else recipe.task_names
    terms = loss_terms(tasks, config.masking, config.objective)
    return _case(config, recipe, terms, tokens=sequence_length, masked=masked, groups=None)


def _case(
    config: RunConfig,
    recipe: TextRecipe,
    terms: LossTerms,
    *,
    tokens: float,
    masked: float,
    groups: list[TaskGroup] | None,
) -> PlannedCase:
    num_sequences = config.batch.micro_size
    num_masked = max(1, round(num_sequences * masked))

    def make(keep_logits: bool) -> tuple[TextModel, dict[str, Tensor]]:
        with no_init_weights():  # drawing them may look at what was drawn, and here are no values
            model = build_model(config, recipe, terms)
        network = model.network
        network.tie_weights()  # which is left out with it
        network.set_output_embeddings(LossShapes(network.get_output_embeddings(), keep_logits=keep_logits))
        return model, text_inputs(num_sequences, recipe.sequence_length, num_masked)

    tasks = tuple(terms.task_indices)
    return PlannedCase(recipe.sequence_length, tokens, num_masked, groups, tasks, make)
