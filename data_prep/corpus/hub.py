"""Data sets of the Hugging Face hub, streamed through `datasets`; a local copy of one reads alike."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import IterableDataset, load_dataset
from huggingface_hub import HfApi

from data_prep.corpus.inputs import HUB, Source
from data_prep.corpus.records import Wanted, document_of
from data_prep.errors import UserError

if TYPE_CHECKING:
    from data_prep.corpus.documents import Document, Rejected

_NAME = re.compile(rf"{HUB}(?P<path>[^:@]+)(?::(?P<config>[^:@]+))?(?:@(?P<revision>[^:@]+))?")


def find_hub_dataset(name: str) -> Source:
    """The source that `hub:OWNER/NAME[:CONFIG][@REVISION]`, or `hub:FOLDER[:CONFIG]`, stands for.

    The revision, a branch or tag, becomes the commit that it is now, so that every reading is the same.

    Raises:
        UserError: a name of another form, no such data set or revision, or no network.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: not a hub name; write {HUB}OWNER/NAME[:CONFIG][@REVISION]")
    path, config, revision = match["path"], match["config"], match["revision"]
    folder = Path(path)
    if folder.is_dir():
        label, path = folder.name, str(folder.absolute())
    else:
        label, revision = path, _commit(name, path, revision)
    return Source(name=name, label=label, path=path, size=0, format="hub", config=config, revision=revision)


def read_hub(source: Source, wanted: Wanted) -> Iterator["Document | Rejected"]:
    """The documents of the split `train`, named by their id or by `name:row`.

    Raises:
        UserError: the data set cannot be loaded, or breaks off.
    """
    for number, record in enumerate(hub_records(source), start=1):
        where = f"{source.name}, row {number}"
        yield from document_of(record, where, f"{source.label}:{number}", wanted)


def hub_records(source: Source) -> Iterator[dict[str, object]]:
    """The rows of the split `train`; raises UserError."""
    try:
        dataset = load_dataset(
            source.path, source.config, revision=source.revision, split="train", streaming=True
        )
        assert isinstance(dataset, IterableDataset)
        yield from dataset
    except Exception as error:  # `datasets` lets through errors of fsspec, httpx, pyarrow and its own
        raise UserError(
            f"{source.name}: cannot be read ({_brief(error)}); check the name and the network"
        ) from error


def _commit(name: str, path: str, revision: str | None) -> str:
    try:
        commit = HfApi().dataset_info(path, revision=revision).sha
    except Exception as error:  # HfHubHTTPError, HFValidationError, httpx's, OSError
        raise UserError(
            f"{name}: not found on the hub ({_brief(error)}); check the name and the network"
        ) from error
    assert commit is not None
    return commit


def _brief(error: Exception) -> str:
    """The first line of an error that may be a page long."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
