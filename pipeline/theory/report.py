"""The report on the theory: a page, a figure per statement, and every number as JSON."""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_prep.durable import write_durably
from pipeline.theory import proposition_5_1, proposition_5_3, remark_5_2, theorem_3_1, theorem_5_4
from pipeline.theory.statement import Statement


def examine_theory(seed: int, max_steps: int, task_counts: list[int]) -> list[Statement]:
    """Every statement, in the paper's order.

    Args:
        seed: of the random instances and samples.
        max_steps: the largest K of Theorem 3.1.
        task_counts: every T of Theorem 3.1 and Proposition 5.1, ascending, from 2 on.
    """
    return [
        theorem_3_1.examine(max_steps, task_counts),
        proposition_5_1.examine(task_counts, seed),
        remark_5_2.examine(),
        proposition_5_3.examine(seed),
        theorem_5_4.examine(seed),
    ]


def write_report(statements: list[Statement], folder: Path, seed: int) -> None:
    """Write index.html, results.json and a PNG for each statement; a former report is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for statement in statements:
        statement.figure.savefig(folder / f"{statement.name}.png", dpi=150)
    results = {
        statement.name: {
            "claim": statement.wording.claim,
            "verdict": statement.wording.verdict,
            "findings": statement.findings,
            "checks": statement.checks,
            "numbers": statement.numbers,
        }
        for statement in statements
    }
    write_durably(
        folder / "results.json", json.dumps({"seed": seed} | results, indent=1, ensure_ascii=False) + "\n"
    )
    environment = Environment(
        loader=PackageLoader("pipeline.theory", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(statements=statements, seed=seed)
    write_durably(folder / "index.html", page)
