"""Checkpoints scored on the same held-out words."""

from pathlib import Path

import torch

from data_prep.errors import UserError
from data_prep.progress import progress
from pipeline.assembly import model_from_checkpoint
from pipeline.config import RunConfig
from pipeline.data.shards import Shards
from pipeline.data.text_held_out import HeldOutText
from pipeline.data.unigram import unigram_losses
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.run_folder import find_checkpoint
from pipeline.evaluation import held_out_totals, task_figures
from pipeline.report import CheckpointReport, Comparison


def compare_checkpoints(paths: list[Path], data: Path, split: str) -> Comparison:
    """Score checkpoints (or the newest ones of runs) on a held-out split.

    Raises:
        UserError: no checkpoint at a path, or one trained with another tokenizer than the shards'.
    """
    shards = Shards(data)
    checkpoints = [find_checkpoint(path) for path in paths]
    reports = [
        _report(checkpoint, shards, split)
        for checkpoint in progress(checkpoints, desc="evaluating", unit=" checkpoints", leave=False)
    ]
    held_out = HeldOutText(shards, split, with_nsp=False)
    return Comparison(data, split, held_out.mask_hash, unigram_losses(shards, held_out), reports)


def _report(checkpoint: Path, shards: Shards, split: str) -> CheckpointReport:
    manifest = read_manifest(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, recipe = model_from_checkpoint(checkpoint, manifest)
    if recipe.tokenizer_sha256 != shards.manifest.tokenizer.sha256:
        raise UserError(
            f"{checkpoint}: trained with another tokenizer than that of {shards.folder}; "
            "give --data the shards it was trained on, or some made with --tokenizer from there"
        )
    if recipe.sequence_length < shards.manifest.sequence_length:
        raise UserError(
            f"{checkpoint}: trained on sequences of {recipe.sequence_length} pieces, {shards.folder} has "
            f"some of {shards.manifest.sequence_length}; prepare the text with that --sequence-length"
        )
    if recipe.task_names != shards.task_names:
        raise UserError(f"{checkpoint}: trained on other tasks than those of {shards.folder}")
    config = RunConfig.model_validate(manifest.config)
    with_nsp = config.objective.nsp != "off" and shards.manifest.next_sentence
    held_out = HeldOutText(shards, split, with_nsp=with_nsp)
    model = model.to(device)
    totals = held_out_totals(model.scores, held_out, device)
    figures = task_figures(totals, held_out.term_names)
    return CheckpointReport(
        checkpoint=checkpoint,
        run=config.name,
        step=manifest.step,
        tasks={name: figures[name] for name in recipe.task_names if name in figures},
        others={name: figure for name, figure in figures.items() if name not in recipe.task_names},
    )
