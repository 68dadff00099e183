"""The docs say what the code does."""

import re
from pathlib import Path

import pytest

from data_prep.tagging.tag_map import load_tag_map
from pipeline.reference import keys_page
from pipeline.run_file import config_keys, load_config

ROOT = Path(__file__).parents[1]


def test_the_page_of_keys_is_the_one_that_the_configuration_makes():
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == keys_page(config_keys()), "run `make docs`"


def test_the_page_about_data_shows_the_tags_of_every_task():
    guide = (ROOT / "docs" / "data_prep.md").read_text()
    for task, tags in load_tag_map().tasks.items():
        assert f"| {task} | {' '.join(tags)} |" in guide


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_run_file_loads(path):
    load_config(path, [])


PAGES = [
    "README.md",
    "ds_configs/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_a_page_names_exist(page):
    path = ROOT / page
    text = path.read_text()
    targets = re.findall(r"\]\((?!http)([^)#]+)", text)
    files = re.findall(r"(?:configs|ds_configs|slurm)/[\w.-]+\.(?:yaml|json|sh)\b", text)
    assert all((path.parent / target).exists() for target in targets)
    assert all((ROOT / name).exists() or (ROOT / "ds_configs" / name).exists() for name in files)
