"""The notebooks keep to one template, so that a reader who knows one knows them all."""

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest
import yaml

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
NUMBERED = [file for file in FILES if file.name[0].isdigit()]
PROFILES = yaml.safe_load((NOTEBOOKS / "profiles.yaml").read_text(encoding="utf-8"))

every_notebook = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
numbered_notebook = pytest.mark.parametrize("file", NUMBERED, ids=lambda file: file.stem)


def cells(file, kind):
    notebook = nbformat.read(file, 4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def python(source):
    """A cell's source without the lines only IPython understands."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("%"))


def headings(file):
    found = []
    for cell in cells(file, "markdown"):
        prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
        found += re.findall(r"^(#+) (.+)$", prose, flags=re.MULTILINE)
    return found


def parameter_cell(file):
    tagged = [c for c in cells(file, "code") if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1, f"expected one cell tagged parameters, received {len(tagged)}"
    return tagged[0]


def parameters(file):
    """Name to default value; fails on anything but literal assignments."""
    values = {}
    for statement in ast.parse(parameter_cell(file).source).body:
        assert isinstance(statement, (ast.Assign, ast.AnnAssign)), ast.unparse(statement)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        (target,) = targets
        values[target.id] = ast.literal_eval(statement.value)
    return values


def test_there_are_eight_numbered_notebooks_and_a_dashboard():
    assert [file.name[:2] for file in NUMBERED] == [f"0{number}" for number in range(1, 9)]
    assert NOTEBOOKS / "dashboard.ipynb" in FILES


@every_notebook
def test_one_first_level_heading_in_the_first_cell(file):
    first = nbformat.read(file, 4).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert [level for level, _ in headings(file)].count("#") == 1


@every_notebook
def test_code_cells_are_short_and_define_nothing(file):
    lengths = []
    for cell in cells(file, "code"):
        lengths.append(len(cell.source.splitlines()))
        # The list of parameters has a line for each, and nothing to follow from line to line.
        listed = "parameters" in cell.metadata.get("tags", [])
        assert lengths[-1] <= (35 if listed else 25), cell.source
        for node in ast.walk(ast.parse(python(cell.source))):
            defines = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            assert not defines, f"belongs in the library: {cell.source}"
    assert statistics.median(lengths) <= 5


@every_notebook
def test_sources_carry_no_outputs(file):
    for cell in cells(file, "code"):
        assert cell.outputs == []
        assert cell.execution_count is None


@every_notebook
def test_no_path_depends_on_where_the_kernel_starts(file):
    for cell in cells(file, "code"):
        for node in ast.walk(ast.parse(python(cell.source))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                path = re.match(r"\.\.?[/\\]|/\w|~|[A-Za-z]:[/\\]", node.value)
                # Colab's own folder, behind the guard, is the one path that is the same everywhere.
                assert not path or node.value.startswith("/content"), node.value


def test_every_notebook_has_the_same_colab_guard():
    guards = {
        file.stem: [cell.source for cell in cells(file, "code") if "google.colab" in cell.source]
        for file in FILES
    }
    (guard,) = guards[NUMBERED[0].stem]
    assert "git clone" in guard
    assert guards == {file.stem: [guard] for file in FILES}


@every_notebook
def test_the_kernel_is_the_one_every_jupyter_has(file):
    assert nbformat.read(file, 4).metadata.kernelspec.name == "python3"


@numbered_notebook
def test_sections_of_the_template_in_order(file):
    titles = [title.strip() for level, title in headings(file) if level == "##"]
    required = ["Overview", "Setup", "Parameters", "What you saw"]
    assert [title for title in titles if title in required] == required
    assert titles[0] == "Overview"
    assert titles[-1] == "What you saw"


@numbered_notebook
def test_parameters_are_literals_that_say_what_they_mean(file):
    known = parameters(file)
    assert {"data_dir", "profile", "run_id", "seed", "max_images"} <= set(known)
    assert (known["data_dir"], known["profile"], known["run_id"]) == ("sample", "sample", "")
    for line in parameter_cell(file).source.splitlines():
        if re.match(r"\w+(: .+)? = ", line):
            assert "# " in line, f"no comment: {line}"


@numbered_notebook
def test_every_code_cell_follows_a_sentence(file):
    before = None
    for cell in nbformat.read(file, 4).cells:
        if cell.cell_type == "code":
            assert before == "markdown", f"no sentence before: {cell.source}"
        before = cell.cell_type


@numbered_notebook
def test_the_last_cell_links_to_the_next_notebook(file):
    following = dict(zip(NUMBERED, [*NUMBERED[1:], NOTEBOOKS / "dashboard.ipynb"], strict=True))
    last = nbformat.read(file, 4).cells[-1]
    assert last.cell_type == "markdown"
    assert f"]({following[file].name})" in last.source


def test_profiles_know_the_notebooks_and_their_parameters():
    assert list(PROFILES["stages"].values()) == [file.stem for file in NUMBERED]
    assert {"smoke", "sample", "full"} <= set(PROFILES["profiles"])
    known = {
        stage: parameters(NOTEBOOKS / f"{name}.ipynb") for stage, name in PROFILES["stages"].items()
    }
    everywhere = {name for names in known.values() for name in names}
    for profile, blocks in PROFILES["profiles"].items():
        assert blocks["description"], profile
        for stage, values in blocks.items():
            if stage in ("description", "only"):
                continue
            names = everywhere if stage == "defaults" else known[stage]
            assert set(values) <= set(names), f"{profile}.{stage}"
