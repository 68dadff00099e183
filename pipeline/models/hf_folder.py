"""What a Hugging Face folder holds: its safetensors and its configuration, with nothing of it run.

No pickle is opened, no code that comes with a model is imported, nothing is downloaded.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging

from data_prep.errors import UserError

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TO_SAFETENSORS = (
    'python -c "import pathlib, torch; from safetensors.torch import save_file; save_file({name: t.clone() '
    "for f in pathlib.Path('FOLDER').glob('pytorch_model*.bin') for name, t in torch.load(f, "
    "weights_only=True).items()}, 'FOLDER/model.safetensors')\""
)
"""Keeps all names as they are: transformers' own save_pretrained would add what a head lacks, at random."""


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder; raises UserError where it is none, or has none."""
    where = f"model.init_from: {folder}"
    if not folder.is_dir():
        raise UserError(
            f"{where}: no such folder, and a run downloads nothing; download it first: "
            f"hf download {folder} --local-dir FOLDER"
        )
    if not (folder / CONFIG).is_file():
        is_ours = (folder / "manifest.json").is_file() or (folder / "checkpoints").is_dir()
        export = f"export it first: pipeline export {folder} FOLDER"
        raise UserError(f"{where}: has no {CONFIG}; {export if is_ours else 'name a Hugging Face folder'}")
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if (folder / _INDEX).is_file():
        return _indexed_files(folder)
    if any(folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"{where}: its weights are pickled (pytorch_model.bin), and opening a pickle can run any "
            "program; convert them once, which opens tensors only: "
            f"{_TO_SAFETENSORS.replace('FOLDER', str(folder))}"
        )
    raise UserError(f"{where}: has neither {_WEIGHTS} nor {_INDEX}; download or export it again")


def refuse_damaged_weights(folder: Path) -> None:
    """Raise UserError where safetensors are cut short or something else; no tensor is read."""
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"model.init_from: {path}: {error}; download or export it again") from error


def _indexed_files(folder: Path) -> list[Path]:
    path = folder / _INDEX
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"model.init_from: {path}: not an index of safetensors; download it again") from error
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise UserError(f"model.init_from: {folder / absent[0]} is missing; download the folder again")
    return [folder / name for name in names]


def read_config(folder: Path, backbone: str) -> PreTrainedConfig:
    """The folder's configuration; raises UserError where it is not of an encoder that is trained here."""
    path = folder / CONFIG
    try:
        given = json.loads(path.read_bytes())
        model_type = given.get("model_type")
    except (ValueError, AttributeError) as error:
        raise UserError(f"model.init_from: {path}: not a JSON object; download or export it again") from error
    if model_type != backbone:
        raise UserError(
            f"model.init_from: {path}: model_type is {json.dumps(model_type)}, model.backbone is {backbone}; "
            "name a folder of that architecture, or another model.backbone"
        )
    if given.get("quantization_config"):
        raise UserError(
            f"model.init_from: {path}: quantization_config is set; only weights that are not quantized are "
            "trained here, so name the folder that this one was made from"
        )
    try:
        with silent_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (StrictDataclassError, OSError, ValueError, TypeError) as error:
        raise UserError(f"model.init_from: {path}: {error}; download or export it again") from error
    if not config.tie_word_embeddings:
        raise UserError(
            f"model.init_from: {path}: tie_word_embeddings is false; only models whose output layer shares "
            "the weights of the embedding are trained here"
        )
    if getattr(config, "is_decoder", False):
        raise UserError(f"model.init_from: {path}: is_decoder is true; only encoders are trained here")
    return config


@contextmanager
def silent_transformers() -> Iterator[None]:
    """Without transformers' tables and bars: what they say is said in one line here."""
    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()
