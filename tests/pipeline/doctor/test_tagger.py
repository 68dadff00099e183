"""The tagger's model where it is missing or damaged."""

import sys

from pipeline.doctor import tagger
from pipeline.doctor.finding import State


def test_without_a_model_the_line_says_how_it_is_installed(monkeypatch):
    monkeypatch.setattr(sys, "path", [])  # where spaCy looks for the package
    finding = tagger.examine()
    assert finding.state is State.BROKEN
    assert finding.found.startswith("en_core_web_sm: no such spaCy pipeline")
    assert finding.mend.startswith("pip install --no-deps -r requirements-tagger.txt")


def test_a_damaged_model_is_told_apart_from_a_missing_one(package):
    error = "[E053] Could not read config file"
    package("en_core_web_sm", f"def load(**_): raise OSError({error!r})", summary="its files are gone")
    finding = tagger.examine()
    assert finding.state is State.BROKEN
    assert finding.found.startswith(f"en_core_web_sm: spaCy cannot load this ({error})")
    assert "requirements-tagger.txt" in finding.mend
