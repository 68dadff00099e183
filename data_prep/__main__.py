"""The program `data_prep`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from data_prep.corpus.documents import Corpus
from data_prep.corpus.embedded import embedded_corpus
from data_prep.durable import write_durably
from data_prep.errors import UserError, run_program
from data_prep.passes.prepare import Prepared, Settings, prepare_text

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Turn a corpus into tagged, tokenised Arrow shards, a folder per task group.",
    epilog="Example: data_prep text books/*.txt --out shards",
)


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Options of every command."""


@app.command(epilog="Example: data_prep text books.jsonl.gz notes.txt --out shards --sequence-length 128")
def text(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT", help=".txt (one document a file) or .jsonl (one a line), plain or .gz."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards; it must not hold anything yet.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="tokenizer.json, vocab.txt or their folder; without it one is trained."),
    ] = None,
    vocab_size: Annotated[
        int, typer.Option(min=64, help="Most pieces of a tokenizer trained here.")
    ] = 30_522,
    sequence_length: Annotated[
        int, typer.Option(min=16, max=8192, help="Longest sequence, in pieces.")
    ] = 128,
    validation_share: Annotated[
        float, typer.Option(min=0.001, max=0.4, help="Part of the words held out for validation.")
    ] = 0.05,
    test_share: Annotated[
        float, typer.Option(min=0.001, max=0.4, help="Part of the words held out for testing.")
    ] = 0.05,
    tagger: Annotated[
        str | None, typer.Option(help="spaCy pipeline, by name or path; en_core_web_sm if not given.")
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of a .jsonl line that holds the text.")] = "text",
    id_field: Annotated[str, typer.Option(help="Field of a .jsonl line that names the document.")] = "id",
    seed: Annotated[int, typer.Option(min=0, help="Decides splits, pairs and task groups.")] = 0,
) -> None:
    """Tag, tokenise and split text; write a shard folder per task group, validation and test shards."""
    settings = Settings(
        vocab_size=vocab_size,
        sequence_length=sequence_length,
        shares={"test": test_share, "validation": validation_share},
        seed=seed,
        tokenizer=tokenizer,
        tagger=tagger,
    )
    prepared = prepare_text(Corpus(tuple(inputs), text_field, id_field), out, settings)
    for warning in prepared.warnings:
        print(f"data_prep: warning: {warning}", file=sys.stderr)
    _print_summary(prepared, out)


@app.command(epilog="Example: data_prep embedded corpus.jsonl")
def embedded(out: Annotated[Path, typer.Argument(metavar="OUT", help="The .jsonl file to write.")]) -> None:
    """Write the English that every Python carries (language reference, docstrings) as a corpus."""
    if out.suffix != ".jsonl":
        raise UserError(f"{out}: the corpus is written as .jsonl; name the file so")
    if out.exists():
        raise UserError(f"{out}: exists already; name another file, or remove this one")
    documents = list(embedded_corpus())
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": item.doc_id, "text": item.text}, ensure_ascii=False) for item in documents)
    write_durably(out, "".join(f"{line}\n" for line in lines))
    words = sum(len(item.text.split()) for item in documents)
    print(f"{out}: {len(documents):,} documents, {words:,} words")


def _print_summary(prepared: Prepared, out: Path) -> None:
    manifest = prepared.manifest
    table = Table("task", title=f"Training shards of {out}", title_justify="left")
    for column in ("sequences", "words to mask", "words in all groups", "tokens"):
        table.add_column(column, justify="right")
    train = [shard for shard in manifest.shards if shard.split == "train"]
    for task in manifest.task_names:
        table.add_row(
            task,
            f"{manifest.train_rows(task):,}",
            f"{manifest.train_words(task):,}",
            f"{sum(shard.task_words[task] for shard in train):,}",
            f"{sum(shard.tokens for shard in train if shard.task == task):,}",
        )
    console = Console()
    console.print(table)
    rows, tokens = sum(s.rows for s in manifest.shards), sum(s.tokens for s in manifest.shards)
    held_out = [f"{sum(s.rows for s in manifest.shards_of(x)):,} {x}" for x in ("validation", "test")]
    padding = 1 - tokens / (rows * manifest.sequence_length) if rows else 0
    console.print(
        f"Held out: {' and '.join(held_out)} sequences. Vocabulary: {manifest.vocab_size:,} pieces. "
        f"Padding at length {manifest.sequence_length}: {padding:.1%}. "
        f"Left out, without a word of any task: {prepared.num_without_task:,} training sequences.",
        highlight=False,
    )


def main() -> None:
    """Entry point."""
    run_program("data_prep", app)


if __name__ == "__main__":
    main()
