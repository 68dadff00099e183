"""A checkpoint as a folder that transformers loads without this project."""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import BertForPreTraining, PreTrainedTokenizerFast

from data_prep.durable import complete_folder
from data_prep.schema import TOKENIZER
from pipeline.assembly import model_from_checkpoint
from pipeline.engine import workarounds
from pipeline.engine.checkpoint import check_files, read_manifest

_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def export(checkpoint: Path, out: Path) -> None:
    """Write the model (safetensors), its configuration and its tokenizer to `out`.

    `BertForPreTraining`, `AutoModel` and `AutoTokenizer` load it with `from_pretrained(out)`.

    Raises:
        UserError: an altered checkpoint, or an output folder that already holds something.
    """
    workarounds.before_import()  # transformers saves by way of accelerate, which asks DeepSpeed
    manifest = read_manifest(checkpoint)
    check_files(checkpoint, manifest, [TOKENIZER])
    tokens = Tokenizer.from_str((checkpoint / TOKENIZER).read_text())
    with complete_folder(out, "OUT") as folder:
        model, recipe = model_from_checkpoint(checkpoint, manifest)
        exported = BertForPreTraining(model.network.config)
        exported.load_state_dict(model.network.state_dict())
        exported.save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokens,
            model_max_length=recipe.sequence_length,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **_SPECIALS,
        )
        tokenizer.save_pretrained(folder)
