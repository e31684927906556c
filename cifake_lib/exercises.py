"""The exercises: what their notebooks check answers with, and copies of them to hand out.

Each notebook in `exercises/` has three cells that are found by their tag: `answer`, which is empty;
`check`, which says what is wrong with the answer and holds the output of a right one; and
`solution`, hidden, which takes the place of the answer.

    python -m cifake_lib.exercises FOLDER     copies for students, without solutions and outputs
    python -m cifake_lib.exercises --record   solve every exercise and store what its check prints
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from cifake_lib import paths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from nbformat import NotebookNode


class NotYet(AssertionError):
    """An answer is not right yet; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def require(condition: bool, sentence: str) -> None:
    """Raise `NotYet` with a sentence, unless the condition holds."""
    if not condition:
        raise NotYet(sentence)


def written(answer: object, name: str) -> None:
    """Raise `NotYet` if a function still returns the `...` that the empty answer cell has."""
    require(
        answer is not ..., f"{name} is still empty. Write it in the answer cell, and run that cell."
    )


def axes(title: str, *, x: str, y: str, width: float = 7, height: float = 3.6) -> Axes:
    """Return labelled Axes of a new figure, as `plots.label_axes` draws them.

    Args:
        title: above them.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        width: inches.
        height: inches.
    """
    # Not from `plots`, which takes seconds to import what exercises do not draw.
    import matplotlib.pyplot as plt

    ax = plt.subplots(figsize=(width, height), layout="constrained")[1]
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def files() -> list[Path]:
    """Return the notebooks of the exercises, in order."""
    return sorted((paths.project_root() / "exercises").glob("[0-9]*.ipynb"))


def cell(notebook: NotebookNode, tag: str) -> NotebookNode:
    """Return the one cell with a tag: `answer`, `check` or `solution`."""
    (found,) = (each for each in notebook.cells if tag in each.metadata.get("tags", []))
    return found


def for_students(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without the solution, the heading above it, and all outputs."""
    copy = deepcopy(notebook)
    place = copy.cells.index(cell(copy, "solution"))
    del copy.cells[place - 1 : place + 1]
    for each in copy.cells:
        if each.cell_type == "code":
            each.outputs, each.execution_count = [], None
    return copy


def solved(notebook: NotebookNode) -> NotebookNode:
    """Return a copy with the solution in place of the answer."""
    copy = deepcopy(notebook)
    cell(copy, "answer").source = cell(copy, "solution").source
    return copy


def record(file: Path) -> None:
    """Solve an exercise and store what its check prints, which the tests compare."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(file, 4)
    run = NotebookClient(solved(notebook), kernel_name="python3").execute()
    check = cell(notebook, "check")
    check.outputs = cell(run, "check").outputs
    check.execution_count = 1  # nbval takes no output from a cell that was not run
    nbformat.write(notebook, file)


def main(arguments: list[str] | None = None) -> None:
    """Copy the exercises for students, or record what their checks print."""
    import nbformat

    about = "Copy the exercises for students, or record what their checks print."
    parser = argparse.ArgumentParser(prog="python -m cifake_lib.exercises", description=about)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "folder", nargs="?", type=Path, help="for copies without solutions and outputs"
    )
    what.add_argument("--record", action="store_true", help="store what each check prints")
    chosen = parser.parse_args(arguments)
    for file in files():
        if chosen.record:
            record(file)
        else:
            chosen.folder.mkdir(parents=True, exist_ok=True)
            nbformat.write(for_students(nbformat.read(file, 4)), chosen.folder / file.name)
        print(file.name)


if __name__ == "__main__":
    main()
