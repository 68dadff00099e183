"""Files in, documents and rejections out."""

from pathlib import Path

import pytest

from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources


@pytest.fixture
def read(tmp_path):
    """A function that reads a file of the given bytes."""

    def run(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content)
        return [
            item for source in find_sources([str(path)]).sources for item in read_source(source, **options)
        ]

    return run


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real text and evaluation sets beside the project."""
    folder = Path(__file__).parents[3] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: real books and GLUE are read from it")
    return folder.resolve()
