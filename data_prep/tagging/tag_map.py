"""Which words belong to which task: Penn Treebank tags to the nine parts of speech."""

from data_prep.schema import NO_TASK

TASK_TAGS: dict[str, tuple[str, ...]] = {
    "verb": ("VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "MD"),
    "noun": ("NN", "NNS", "NNP", "NNPS"),
    "adjective": ("JJ", "JJR", "JJS"),
    "determiner": ("DT", "PDT", "WDT"),
    "adverb": ("RB", "RBR", "RBS", "WRB"),
    "pronoun": ("PRP", "PRP$", "WP", "WP$", "EX"),
    "preposition": ("IN", "TO", "RP"),
    "conjunction": ("CC",),
    "interjection": ("UH",),
}
"""Tags per task. The order fixes the task ids in the shards."""

TASK_NAMES = tuple(TASK_TAGS)
_TASK_OF_TAG = {tag: task_id for task_id, tags in enumerate(TASK_TAGS.values()) for tag in tags}


def task_of_tag(tag: str) -> int:
    """Task id of a fine-grained tag (`token.tag_`), or NO_TASK."""
    return _TASK_OF_TAG.get(tag, NO_TASK)
