"""The program `data_prep`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from data_prep.errors import UserError, run_program

if TYPE_CHECKING:
    from data_prep.schema import Manifest

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Turn a corpus into tagged, tokenised Arrow shards, a folder per task group.",
    epilog="Example: data_prep text books/ --out shards --num-workers 8",
)

_INPUT, _CLEANING, _TASKS = "Input", "Cleaning", "Tasks"
_SEQUENCES, _SPLITS, _WORK, _REPORT = "Tokens and sequences", "Splits and shards", "Work", "Report"
_MOST_NOTES = 5

NumWorkers = Annotated[int, typer.Option(min=1, help="Processes on this machine.", rich_help_panel=_WORK)]
Steps = Annotated[
    int,
    typer.Option(min=1, help="Steps of training for which epochs are reported.", rich_help_panel=_REPORT),
]
GlobalSize = Annotated[
    int, typer.Option(min=1, help="Sequences of a step (batch.global_size).", rich_help_panel=_REPORT)
]

TaggerName = Annotated[
    str | None,
    typer.Option(
        help="spaCy pipeline, by name or path; en_core_web_sm if not given.", rich_help_panel=_TASKS
    ),
]
TagMapFile = Annotated[
    Path | None,
    typer.Option(
        help="YAML file that says which tags make up which task; the nine parts of speech if not given.",
        rich_help_panel=_TASKS,
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of shards.")]


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Options of every command."""


@app.command(epilog="Example: data_prep text 'books/**/*.jsonl.gz' notes.txt --out shards --num-workers 8")
def text(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, quoted globs, or hub:OWNER/NAME[:CONFIG], a data set of the Hugging Face "
            "hub. Files: .txt (a document each), .jsonl, .csv, .tsv (plain, .gz, .zst, .xz, .bz2), .parquet, "
            ".arrow.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the shards; a preparation that was stopped there goes on.")
    ],
    text_field: Annotated[
        str, typer.Option(help="Field or column that holds the text.", rich_help_panel=_INPUT)
    ] = "text",
    id_field: Annotated[
        str, typer.Option(help="Field or column that names the document.", rich_help_panel=_INPUT)
    ] = "id",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Stop at the first record that cannot be read.", rich_help_panel=_INPUT
        ),
    ] = False,
    normalize: Annotated[
        bool,
        typer.Option(help="Mend encoding and Unicode forms with ftfy.", rich_help_panel=_CLEANING),
    ] = True,
    min_words: Annotated[
        int,
        typer.Option(min=1, help="Fewest words of a document that is kept.", rich_help_panel=_CLEANING),
    ] = 1,
    drop_duplicates: Annotated[
        Literal["near", "exact", "none"],
        typer.Option(
            help="Drop documents of the same text, also near ones (word 5-grams alike by 70 %), or none.",
            rich_help_panel=_CLEANING,
        ),
    ] = "near",
    language: Annotated[
        str | None,
        typer.Option(help="Keep documents in this language alone, such as en.", rich_help_panel=_CLEANING),
    ] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT",
            help="Evaluation set; paragraphs that share 13 words with it are removed. May be repeated.",
            rich_help_panel=_CLEANING,
        ),
    ] = None,
    tagger: TaggerName = None,
    tag_map: TagMapFile = None,
    device: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="Where the tagger runs.", rich_help_panel=_TASKS)
    ] = "cpu",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="tokenizer.json, vocab.txt or their folder; without it one is trained.",
            rich_help_panel=_SEQUENCES,
        ),
    ] = None,
    vocab_size: Annotated[
        int,
        typer.Option(min=64, help="Most pieces of a tokenizer trained here.", rich_help_panel=_SEQUENCES),
    ] = 30_522,
    tokenizer_words: Annotated[
        int,
        typer.Option(min=1_000, help="Most words of text that it is trained on.", rich_help_panel=_SEQUENCES),
    ] = 20_000_000,
    sequence_length: Annotated[
        int, typer.Option(min=16, max=8192, help="Longest sequence, in pieces.", rich_help_panel=_SEQUENCES)
    ] = 128,
    nsp: Annotated[
        bool,
        typer.Option(
            help="Segment pairs with next-sentence labels, or packed sequences without.",
            rich_help_panel=_SEQUENCES,
        ),
    ] = True,
    validation_share: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.4, help="Part of the words held out for validation.", rich_help_panel=_SPLITS
        ),
    ] = 0.05,
    test_share: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.4, help="Part of the words held out for testing.", rich_help_panel=_SPLITS
        ),
    ] = 0.05,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides splits, pairs and task groups.", rich_help_panel=_SPLITS)
    ] = 0,
    block_size: Annotated[
        int,
        typer.Option(
            min=10_000,
            help="Characters that are prepared in one go; next-sentence partners are of the same block.",
            rich_help_panel=_SPLITS,
        ),
    ] = 2_000_000,
    shard_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sequences of a shard; 8,388,608 pieces if not given.", rich_help_panel=_SPLITS
        ),
    ] = None,
    num_workers: NumWorkers = 1,
    part: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Do this part, from 0, of --num-parts, without merging: see data_prep merge.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    num_parts: Annotated[
        int, typer.Option(min=1, help="Parts that share the work.", rich_help_panel=_WORK)
    ] = 1,
    steps: Steps = 100_000,
    global_size: GlobalSize = 256,
) -> None:
    """Clean, tag, tokenise and split text; write a shard folder per task group, validation and test shards.

    The result does not depend on the number of workers or parts, byte for byte. Stopped at any moment, the
    same command goes on.
    """
    from data_prep.corpus.cleaning import CleaningSettings
    from data_prep.passes.job import Settings

    if part is not None and part >= num_parts:
        raise UserError(f"--part {part}: parts are numbered from 0 to {num_parts - 1}; see --num-parts")
    if part is None and num_parts > 1:
        raise UserError(
            f"--num-parts {num_parts}: say which part this is with --part, from 0 to {num_parts - 1}"
        )
    settings = Settings(
        text_field=text_field,
        id_field=id_field,
        cleaning=CleaningSettings(
            normalize=normalize,
            min_words=min_words,
            language=language,
            decontaminate=tuple(decontaminate or ()),
        ),
        drop_duplicates=drop_duplicates,
        tokenizer=str(tokenizer) if tokenizer else None,
        vocab_size=vocab_size,
        tokenizer_words=tokenizer_words,
        sequence_length=sequence_length,
        next_sentence=nsp,
        validation_share=validation_share,
        test_share=test_share,
        tagger=tagger,
        device=device,
        seed=seed,
        strict=strict,
        block_size=block_size,
        shard_rows=shard_rows,
    )
    from data_prep.passes.prepare import Preparation, Share, begin
    from data_prep.progress import Monitor

    begun = begin(inputs, out, settings, tag_map)
    if begun.job.is_complete:
        part = None
    for skipped in begun.skipped[:_MOST_NOTES]:
        _warn(f"passed over: {skipped}")
    if len(begun.skipped) > _MOST_NOTES:
        _warn(f"passed over: {len(begun.skipped) - _MOST_NOTES:,} more files")
    monitor = Monitor(_log(out, "" if part is None else f".part-{part}-of-{num_parts}"))
    preparation = Preparation(begun.job, monitor, num_workers)
    preparation.prepare(Share(part or 0, num_parts))
    if part is None:
        _report(preparation.merge(), steps, global_size)
    else:
        print(f"{out}: part {part} of {num_parts} is done; when all are: data_prep merge {out}")


@app.command(epilog="Example: data_prep merge shards --num-workers 4")
def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of all parts.")],
    num_workers: NumWorkers = 1,
    steps: Steps = 100_000,
    global_size: GlobalSize = 256,
) -> None:
    """Write the shards of a preparation whose parts are done (data_prep text ... --part I --num-parts P)."""
    from data_prep.passes.prepare import merge_parts
    from data_prep.progress import Monitor

    _report(merge_parts(folder, Monitor(_log(folder, ".merge")), num_workers), steps, global_size)


@app.command(epilog="Example: data_prep missing shards --num-parts 16")
def missing(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of all parts.")],
    num_parts: Annotated[int, typer.Option(min=1, help="As given to the parts.")],
) -> None:
    """Print the parts that still have something to do, as sbatch --array takes them; nothing if none has."""
    from data_prep.passes.prepare import missing_parts

    print(",".join(map(str, missing_parts(folder, num_parts))))


@app.command(epilog="Example: data_prep verify shards")
def verify(folder: Folder) -> None:
    """Check every file of a folder of shards: hashes, schema, counts, tokenizer. Exit code 1: one is bad."""
    from data_prep.shards.verify import report_problems

    raise typer.Exit(report_problems(folder))


@app.command(epilog="Example: data_prep inspect shards --task verb --html shards.html")
def inspect(
    folder: Folder,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    task: Annotated[str | None, typer.Option(help="Show sequences of this task.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Sequences to show.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Decides which ones, and what is masked in them.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at, too.")] = None,
    steps: Steps = 100_000,
    global_size: GlobalSize = 256,
) -> None:
    """Show what a folder of shards holds: a table, and sequences with their words coloured by task."""
    from data_prep.shards.inspection import inspect_folder

    inspect_folder(
        folder,
        split=split,
        task=task,
        num_samples=samples,
        seed=seed,
        html=html,
        steps=steps,
        global_size=global_size,
    )


@app.command(
    name="tag-accuracy", epilog="Example: data_prep tag-accuracy en_ewt-ud-dev.conllu --tagger en_core_web_sm"
)
def tag_accuracy(
    gold: Annotated[Path, typer.Argument(metavar="GOLD", help="Words with gold tags, in CoNLL-U.")],
    tagger: TaggerName = None,
    tag_map: TagMapFile = None,
) -> None:
    """Compare the tagger's tasks with those of gold tags: precision, recall, F1, most frequent confusions."""
    from rich.console import Console

    from data_prep.tagging import accuracy
    from data_prep.tagging.tag_map import load_tag_map
    from data_prep.tagging.tagger import Tagger

    found = accuracy.tag_accuracy(gold, Tagger(tagger, load_tag_map(tag_map)))
    accuracy.print_accuracy(found, Console())


@app.command(epilog="Example: data_prep embedded corpus.jsonl")
def embedded(out: Annotated[Path, typer.Argument(metavar="OUT", help="The .jsonl file to write.")]) -> None:
    """Write the English that every Python carries (language reference, docstrings) as a corpus."""
    from data_prep.corpus.embedded import embedded_corpus
    from data_prep.durable import write_durably

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


def _log(folder: Path, suffix: str) -> Path:
    """The log for machines, beside the folder."""
    folder = folder.resolve()  # "." has no name
    return folder.with_name(f"{folder.name}{suffix}.log.jsonl")


def _report(manifest: "Manifest", steps: int, global_size: int) -> None:
    from rich.console import Console

    from data_prep.shards.summary import print_summary, scarce_tasks

    print_summary(manifest, Console(), steps, global_size)
    for source in manifest.sources:
        if not source.documents:
            _warn(f"{source.path}: no document could be read from it; dropped.jsonl says why")
    if manifest.dropped.get("unreadable"):
        number = manifest.dropped["unreadable"]
        _warn(f"{number:,} files are damaged, at least in part; dropped.jsonl names them")
    if manifest.section_words is not None:
        _warn(
            "the corpus has too few documents to hold whole ones out: sections of about "
            f"{manifest.section_words:,} words are split instead, so held-out text comes from documents that "
            "were trained on"
        )
    for warning in scarce_tasks(manifest, steps, global_size):
        _warn(warning)


def _warn(message: str) -> None:
    print(f"data_prep: warning: {message}", file=sys.stderr)


def main() -> None:
    """Entry point."""
    run_program("data_prep", app)


if __name__ == "__main__":
    main()
