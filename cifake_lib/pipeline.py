"""Run the notebooks in order: a profile and overrides, one progress display, one summary.

    python -m cifake_lib.pipeline --profile sample

Each notebook is executed by papermill and ends up, executed, in the run folder it made.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.engines import papermill_engines
from papermill.exceptions import PapermillExecutionError

from cifake_lib import paths, releases, runs
from cifake_lib.plan import Plan, Step, make_plan
from cifake_lib.profiles import Refused, describe_profiles
from cifake_lib.progress import Progress, ProgressEngine
from cifake_lib.summary import Outcome, relative, table, write_summary

WIDGET = "application/vnd.jupyter.widget-view+json"
# Code hosts show a notebook in the browser only up to a few megabytes.
RELEASED_NOTEBOOK_BYTES = 3_000_000

papermill_engines.register("cifake", ProgressEngine)


class NotebookFailed(RuntimeError):
    """A notebook raised an error; the message names the cell, the error and the file to open."""


def run_plan(plan: Plan) -> list[Outcome]:
    """Run the steps of a plan in order; the first notebook that fails ends the run.

    Prints a line a stage and a summary, which is written to the plan's folder in every case.

    Args:
        plan: What `make_plan` decided.

    Returns:
        One outcome a step.

    Raises:
        Refused: If a data set cannot be read.
    """
    plan.write()
    # papermill adds one cell: the parameters it was given.
    cells = {step.stage: len(nbformat.read(step.notebook, 4).cells) + 1 for step in plan.steps}
    outcomes = {step.stage: Outcome(step, "not run") for step in plan.steps}
    progress = Progress(sum(cells.values()))
    try:
        for step in plan.steps:
            started, status = time.monotonic(), "interrupted"
            try:
                with progress.stage(step.stage, cells=cells[step.stage]):
                    status = _run_step(step, plan.folder, progress)
            finally:
                outcomes[step.stage] = Outcome(step, status, time.monotonic() - started)
            if status == "failed":
                break
    finally:
        progress.close()
        print(f"\n{write_summary(plan, list(outcomes.values()))}", flush=True)
    return list(outcomes.values())


def release(outcomes: Sequence[Outcome]) -> list[Path]:
    """Copy complete runs and their executed notebooks to the released set.

    Args:
        outcomes: What `run_plan` returned, all of them done.

    Returns:
        The released notebooks.

    Raises:
        Refused: If an executed notebook is too large to be shown by a code host.
    """
    folder = paths.released_dir() / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        folder / outcome.step.notebook.name: _for_readers(outcome.step.folder / "notebook.ipynb")
        for outcome in outcomes
    }
    for outcome in outcomes:
        releases.release(runs.find_run(outcome.step.stage, outcome.step.run_id))
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    return list(texts)


def _for_readers(executed: Path) -> str:
    """Return an executed notebook without what is of use only where it was executed.

    Raises:
        Refused: It is too large to be shown by a code host.
    """
    notebook = nbformat.read(executed, 4)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    # Without a kernel progress bars stand where they were drawn first.
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
    root = json.dumps(f"{paths.project_root()}{os.sep}").strip('"')
    text = nbformat.writes(notebook).replace(root, "")
    if len(text) > RELEASED_NOTEBOOK_BYTES:
        raise Refused(
            f"Expected an executed notebook of at most {RELEASED_NOTEBOOK_BYTES / 1e6:.0f} MB, "
            f"received {len(text) / 1e6:.1f} MB in {relative(executed)}."
        )
    return text + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Those after the program's name; `sys.argv` if None.

    Returns:
        The exit code: 0 for success, 1 for a notebook that failed, 2 for a refused request, 130
        for an interruption.
    """
    options = _parser().parse_args(arguments)
    if options.list:
        print(describe_profiles())
        return 0
    # An executed notebook shows results, not TensorFlow's start-up notes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        plan = make_plan(
            options.profile,
            only=options.only,
            start=options.start,
            overrides=options.parameters,
            run_id=options.run_id,
            resume=options.resume,
        )
        if options.dry_run:
            print(_plan_table(plan))
            return 0
        outcomes = run_plan(plan)
        if not all(outcome.done for outcome in outcomes):
            return 1
        if options.release:
            for notebook in release(outcomes):
                print(f"Released {relative(notebook)}")
    except Refused as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command with --resume continues.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cifake_lib.pipeline",
        description="Run the notebooks in order. Profiles are in notebooks/profiles.yaml; --list "
        "says what each is for.",
        epilog="Example: --only baseline_cnn evaluation -p baseline_cnn.epochs=3",
    )
    add = parser.add_argument
    add("--profile", default="sample", help="set of parameters, see --list (default: sample)")
    add("--list", action="store_true", help="list the profiles and the stages they run")
    which = parser.add_mutually_exclusive_group()
    only = "only these stages, whichever the profile runs"
    which.add_argument("--only", nargs="+", default=[], metavar="STAGE", help=only)
    which.add_argument("--from", dest="start", default="", metavar="STAGE", help="start here")
    add("--resume", action="store_true", help="skip what is complete, continue what was cut short")
    add("--dry-run", action="store_true", help="print what would run, and run nothing")
    add("--run-id", default="", help="name of the run folders (default: time and profile)")
    add("--release", action="store_true", help="copy the complete runs to artifacts/released")
    add(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="[STAGE.]NAME=VALUE",
        help="set a notebook's parameter, or that of every notebook that has it",
    )
    return parser


def _plan_table(plan: Plan) -> str:
    rows = []
    for step in plan.steps:
        changed = ", ".join(f"{name}={value!r}" for name, value in step.changed.items())
        rows.append([step.stage, step.action, step.run_id, changed])
    return table(["stage", "action", "run id", "parameters"], rows)


def _run_step(step: Step, folder: Path, progress: Progress) -> str:
    """Run a step unless it is done, say so, and return its status."""
    if step.action == "skip":
        progress.say(f"{step.stage}: complete already, {relative(step.folder)}")
        return "skipped"
    verb = "continues" if step.action == "continue" else "runs"
    progress.say(f"{step.stage}: {step.notebook.name} {verb}")
    try:
        _execute(step, folder / step.notebook.name, progress)
    except NotebookFailed as error:
        progress.say(f"\n{error}")
        return "failed"
    return "complete"


def _execute(step: Step, output: Path, progress: Progress) -> None:
    """Execute a notebook to `output`, then move it into the run folder it made."""
    look = f"The notebook up to there: {relative(output)}"
    try:
        papermill.execute_notebook(
            str(step.notebook),
            str(output),
            step.changed | {"run_id": step.run_id},
            engine_name="cifake",
            progress_bar=False,
            cwd=str(step.notebook.parent),
            progress=progress,
            # Kernels talk over this machine's loopback; their warning about it would cut the bar.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except PapermillExecutionError as error:
        line = error.source.strip().partition("\n")[0]
        raise NotebookFailed(
            f"{step.stage} failed in cell [{error.exec_count}] of {step.notebook.name}\n"
            f"    {line}\n{error.ename}: {error.evalue}\n{look}"
        ) from error
    except DeadKernelError as error:
        raise NotebookFailed(
            f"{step.stage} failed: the kernel of {step.notebook.name} died, perhaps for want of "
            f"memory.\n{look}"
        ) from error
    if not step.complete:
        raise NotebookFailed(
            f"{step.stage} failed: {step.notebook.name} ended without a complete run, expected "
            f"{relative(step.folder / 'manifest.json')}.\n{look}"
        )
    html, _ = HTMLExporter().from_filename(str(output))
    (step.folder / "notebook.html").write_text(html, encoding="utf-8")
    output.replace(step.folder / "notebook.ipynb")


if __name__ == "__main__":
    sys.exit(main())
