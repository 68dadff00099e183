"""A checkpoint as a folder that transformers loads without this project."""

import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from data_prep.durable import complete_folder
from data_prep.schema import TOKENIZER
from pipeline.assembly import model_from_checkpoint
from pipeline.engine import workarounds
from pipeline.engine.checkpoint import check_files, read_manifest
from pipeline.models.hf_folder import silent_transformers

_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def export(checkpoint: Path, out: Path) -> None:
    """Write the model (safetensors), its configuration and its tokenizer to `out`.

    `AutoModelForMaskedLM`, `AutoModel` and `AutoTokenizer` load it with `from_pretrained(out)`, and so does
    `AutoModelForPreTraining`, with BERT's next-sentence head. What the class of transformers has no place for
    is left out, and named on stderr.

    Raises:
        UserError: an altered checkpoint, or an output folder that already holds something.
    """
    workarounds.before_import()  # transformers saves by way of accelerate, which asks DeepSpeed
    manifest = read_manifest(checkpoint)
    check_files(checkpoint, manifest, [TOKENIZER])
    tokens = Tokenizer.from_str((checkpoint / TOKENIZER).read_text())
    with complete_folder(out, "OUT") as folder:
        model, recipe = model_from_checkpoint(checkpoint, manifest)
        with silent_transformers():
            _plain_network(model.network).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokens,
            model_max_length=recipe.sequence_length,
            model_input_names=list(model.input_names),
            **_SPECIALS,
        )
        tokenizer.save_pretrained(folder)


def _plain_network(trained: PreTrainedModel) -> PreTrainedModel:
    """The same parameters in a model as transformers makes it."""
    plain = type(trained)(trained.config)
    missing, left_out = plain.load_state_dict(trained.state_dict(), strict=False)
    assert not missing
    if left_out:
        name = type(trained).__name__
        print(f"pipeline: {name} has no place for {', '.join(left_out)}: left out", file=sys.stderr)
    return plain
