"""`pipeline doctor`: run the checks, show what they find."""

import json
import multiprocessing
import os
import platform
import sys
from pathlib import Path

from rich.console import Console

from data_prep.durable import write_durably
from pipeline.doctor.checks import all_checks, run_checks
from pipeline.doctor.table import as_dict, findings_table, verdict


def examine_machine(out_dir: Path, json_file: Path | None) -> int:
    """Run all checks and print their findings.

    Args:
        out_dir: folder that runs go to.
        json_file: where to write the findings too.

    Returns:
        The exit code: 1 where something is broken that pre-training on this machine cannot do without.
    """
    console = Console()
    with console.status("") as status:
        outcomes = list(run_checks(all_checks(out_dir), lambda check: status.update(f"trying {check.name}")))
    console.print(f"{platform.node()}, {platform.system()} {platform.release()}", highlight=False)
    console.print(findings_table(outcomes))
    console.print(verdict(outcomes), highlight=False)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        content = {"host": platform.node(), **as_dict(outcomes)}
        write_durably(json_file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    exit_code = int(any(outcome.fails for outcome in outcomes))
    if multiprocessing.active_children():
        # Not even SIGKILL ends one that hangs in a driver or a file system, and Python would wait for it.
        sys.stdout.flush()
        os._exit(exit_code)
    return exit_code
