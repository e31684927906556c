"""The exercises: an empty answer is told what is missing, and the solution passes the check."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_structure import NUMBERED, cells, headings, python

from cifake_lib import exercises

FILES = exercises.files()
# Of each exercise a mistake that students make, as a change to the solution, and how it is told.
MISTAKES = {
    "01": ("sum(content_hash in known for content_hash in test)", "len(known & set(test))", "two"),
    "02": ("* side * side", "* side", "10 × 10 places"),
    "03": (".max() / images", ".max()", "divide by the number of images"),
    "04": ("(step + 1)", "step", "first of 9 steps"),
    "05": ("1 - allowed", "allowed", "Of 1,000 scores 1 % may be above"),
    "06": (".astype(float)", "", "convert to float"),
    "07": (
        "np.isin(groups, rng.permutation(names)[: len(names) // 5])",
        "split_frames(groups, rng)",
        "cuts through",
    ),
    "08": ("size=len(sources)", "size=len(sources), replace=False", "with replacement"),
}

every_exercise = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def test_there_is_one_exercise_for_each_numbered_notebook():
    assert [file.name[:2] for file in FILES] == [file.name[:2] for file in NUMBERED]
    for file, notebook in zip(FILES, NUMBERED, strict=True):
        assert f"](../notebooks/{notebook.name})" in cells(file, "markdown")[0].source


@every_exercise
def test_the_template(file):
    titles = [title for level, title in headings(file) if level == "##"]
    assert titles == ["Setup", "What you have", "Your task", "Check", "Solution", "What you saw"]
    assert [level for level, _ in headings(file)].count("#") == 1
    notebook = nbformat.read(file, 4)
    order = [exercises.cell(notebook, tag) for tag in ("answer", "check", "solution")]
    assert [notebook.cells.index(cell) for cell in order] == sorted(
        map(notebook.cells.index, order)
    )
    answer, check, solution = order
    assert "return ..." in answer.source
    assert "..." not in solution.source
    assert solution.metadata.jupyter.source_hidden and solution.metadata.cellView == "form"
    assert check.metadata.jupyter.outputs_hidden
    names = [
        [node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
        for cell in (answer, solution)
    ]
    assert names[0] == names[1]
    (guard,) = [cell.source for cell in cells(NUMBERED[0], "code") if "google.colab" in cell.source]
    assert cells(file, "code")[0].source == guard
    assert notebook.metadata.kernelspec.name == "python3"


@every_exercise
def test_cells_are_short_and_follow_a_sentence(file):
    before = None
    for cell in nbformat.read(file, 4).cells:
        if cell.cell_type == "code":
            check = "check" in cell.metadata.get("tags", [])
            assert len(cell.source.splitlines()) <= (35 if check else 25), cell.source
            assert before == "markdown", f"no sentence before: {cell.source}"
        before = cell.cell_type


@every_exercise
def test_only_the_check_carries_outputs(file):
    check = exercises.cell(nbformat.read(file, 4), "check")
    assert "# NBVAL_CHECK_OUTPUT" in check.source
    for cell in cells(file, "code"):
        kinds = [(output.output_type, output.get("name")) for output in cell.outputs]
        held = cell.execution_count, kinds
        assert held == ((1, [("stream", "stdout")]) if cell.id == check.id else (None, [])), held


@every_exercise
def test_no_path_depends_on_where_the_kernel_starts(file):
    for cell in cells(file, "code"):
        for node in ast.walk(ast.parse(python(cell.source))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r"\.\.?[/\\]|/\w|~|[A-Za-z]:[/\\]", node.value), node.value


def test_the_table_for_teachers_agrees_with_the_notebooks():
    table = (FILES[0].parent / "README.md").read_text(encoding="utf-8")
    for file in FILES:
        first = cells(file, "markdown")[0].source
        (title,) = re.findall(r"^# (.+)$", first, flags=re.MULTILINE)
        (minutes,) = re.findall(r"about (\d+) minutes", first)
        (row,) = [line for line in table.splitlines() if f"]({file.name})" in line]
        assert row.startswith(f"| [{file.name[:2]} {title}](") and f" | {minutes} | " in row


@every_exercise
def test_links_lead_somewhere(file):
    for cell in cells(file, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
            assert (file.parent / target).is_file(), target


@every_exercise
def test_the_check_helps_and_the_solution_passes(file, tmp_path):
    """In one kernel, as a student does it: no answer, a wrong one, the right one."""
    notebook = nbformat.read(file, 4)
    answer, check, solution = (
        exercises.cell(notebook, tag) for tag in ("answer", "check", "solution")
    )
    stored = printed(check)
    folder = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, kernel_name="python3", timeout=300, resources=folder)

    def run(cell):
        client.execute_cell(cell, notebook.cells.index(cell))

    def refused():
        with pytest.raises(CellExecutionError) as error:
            run(check)
        assert error.value.ename == "NotYet"
        # The sentence is all that is shown: no traceback.
        assert check.outputs[-1].traceback == [f"Not yet: {error.value.evalue}"]
        return error.value.evalue

    with client.setup_kernel():
        for cell in notebook.cells[: notebook.cells.index(check)]:
            run(cell)
        assert "still empty. Write it in the answer cell" in refused()
        right, wrong, sentence = MISTAKES[file.name[:2]]
        assert right in solution.source
        answer.source = solution.source.replace(right, wrong)
        run(answer)
        assert sentence in refused()
        answer.source = solution.source
        for cell in notebook.cells[notebook.cells.index(answer) :]:
            run(cell)
    assert printed(check) == stored, "run `python -m cifake_lib.exercises --record`"
    figure = notebook.cells[notebook.cells.index(check) + 2]
    assert any("image/png" in output.get("data", {}) for output in figure.outputs)


def test_copies_for_students_hold_neither_solution_nor_output(tmp_path):
    exercises.main([str(tmp_path / "course")])
    copies = sorted((tmp_path / "course").iterdir())
    assert [copy.name for copy in copies] == [file.name for file in FILES]
    for file, copy in zip(FILES, copies, strict=True):
        solution = exercises.cell(nbformat.read(file, 4), "solution").source
        text = "\n".join(cell.source for cell in nbformat.read(copy, 4).cells)
        assert solution not in text and "## Solution" not in text
        assert not any(cell.outputs for cell in cells(Path(copy), "code"))
