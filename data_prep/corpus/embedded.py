"""A corpus that every Python carries: the language reference and the docstrings of the standard library.

Only prose is kept. Code, markup and non-words go first, since a tagger calls `%` and `-=` interjections.
"""

import ast
import pydoc_data.topics
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from data_prep.corpus.documents import Document

_MARKUP = re.compile(r":[\w:+.-]+:(?=`)|[`*|]+|(?<=\w)\(\)")
_QUOTED_NAME = re.compile(r"[\"“]([A-Za-z_.]+)[\"”]")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")
_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*['’]?")
_PUNCTUATION = re.compile(r"[\"“”'‘(\[]*(\S*?)[\"“”'’.,;:!?)\]]*")
_MIN_WORDS = 4
_SKIPPED_FOLDERS = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}


def embedded_corpus() -> Iterator[Document]:
    """Documents of English prose: one per topic of the language reference, one per module."""
    seen: set[str] = set()
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        yield from _document(f"topic/{topic}", _paragraphs(text), seen)
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if not _SKIPPED_FOLDERS.intersection(relative.parts):
            paragraphs = (paragraph for text in _docstrings(path) for paragraph in _paragraphs(text))
            yield from _document(f"module/{relative.as_posix()}", paragraphs, seen)


def _document(name: str, paragraphs: Iterator[str], seen: set[str]) -> Iterator[Document]:
    """At most one document: the prose among `paragraphs` that no earlier document held."""
    kept = []
    for paragraph in paragraphs:
        prose = _prose(paragraph)
        if prose and prose not in seen:
            seen.add(prose)
            kept.append(prose)
    if kept:
        yield Document(name, "\n\n".join(kept))


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and test data among the library's files
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=True)
            if docstring:
                yield docstring


def _paragraphs(text: str) -> Iterator[str]:
    """Blocks between blank lines, without code (indented deeper than the prose, or a prompt) and headings."""
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        if not lines or ">>>" in block or "::=" in block:
            continue
        if any(re.fullmatch(r"\s*([*=~^\"#-])\1{2,}\s*", line) for line in lines):
            continue
        yield " ".join(line.strip() for line in lines)


def _prose(paragraph: str) -> str:
    """The sentences of a paragraph that are made of words and ordinary punctuation alone."""
    text = _QUOTED_NAME.sub(r"\1", _MARKUP.sub("", paragraph))
    text = re.sub(r"^(?:[-•]|\(?\w{1,2}[.)])\s+", "", text.strip())
    return " ".join(s for s in _SENTENCE_END.split(text) if _is_prose(s))


def _is_prose(sentence: str) -> bool:
    tokens = sentence.split()
    if len(tokens) < _MIN_WORDS or not sentence[0].isalpha() or sentence[-1] not in ".!?:;":
        return False
    bare = (_PUNCTUATION.fullmatch(token) for token in tokens)
    return all(match is not None and _WORD.fullmatch(match.group(1)) for match in bare)
