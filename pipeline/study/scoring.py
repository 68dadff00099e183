"""A run's final checkpoint on the held-out splits, document by document: what it is compared by.

`python -m pipeline.study.scoring RUN SETTINGS` does it in a process of its own, as training has one.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from data_prep.durable import sha256_file, write_durably
from data_prep.errors import UserError, run_program
from data_prep.schema import MANIFEST
from pipeline.assembly import model_from_checkpoint
from pipeline.data.shards import Shards
from pipeline.data.text_held_out import HeldOutText
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.preflight import installed
from pipeline.engine.run_folder import find_checkpoint
from pipeline.evaluation import held_out_totals
from pipeline.study.result import RESULT, SPLITS, SUMS, Result, ScoreSettings


def score_run(run_dir: Path, identity: str, settings: ScoreSettings) -> None:
    """Score the newest checkpoint of a run, and write its result.

    Args:
        run_dir: the run, which took its last step.
        identity: hash of what it was made of.
        settings: what it is scored on.

    Raises:
        UserError: the checkpoint and the held-out data do not have one tokenizer.
    """
    checkpoint = find_checkpoint(run_dir)
    shards = Shards(settings.data)
    manifest = read_manifest(checkpoint)
    model, recipe = model_from_checkpoint(checkpoint, manifest)
    if recipe.tokenizer_sha256 != shards.manifest.tokenizer.sha256:
        raise UserError(
            f"{checkpoint}: trained with another tokenizer than that of {settings.data}; prepare one of the "
            "two with --tokenizer of the other"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    sums, mask_hashes = {}, {}
    for split in SPLITS:
        held_out = HeldOutText(
            shards, split, with_nsp=False, num_samples=settings.num_samples, num_masks=settings.num_masks
        )
        totals = held_out_totals(model.scores, held_out, device)
        mask_hashes[split] = held_out.mask_hash
        for name in ("losses", "correct", "counts"):
            sums[f"{split}.{name}"] = np.ascontiguousarray(getattr(totals, name))
    write_durably(run_dir / SUMS, save(sums))
    result = Result(
        identity=identity,
        settings=settings,
        data_sha256=sha256_file(settings.data / MANIFEST),
        mask_sha256=mask_hashes,
        task_names=shards.task_names,
        step=manifest.step,
        program=installed(),
        sums_sha256=sha256_file(run_dir / SUMS),
    )
    write_durably(run_dir / RESULT, result.model_dump_json(indent=1) + "\n")


def main(run_dir: str, identity: str, settings: str) -> None:
    """Entry point."""
    score_run(Path(run_dir), identity, ScoreSettings.model_validate_json(settings))


if __name__ == "__main__":
    run_program("pipeline study", lambda arguments, **_: main(*arguments))
