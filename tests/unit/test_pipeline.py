"""The pipeline, on two throw-away notebooks: plans and refusals at once, executions in seconds."""

import json
import time

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from cifake_lib import paths, pipeline
from cifake_lib.plan import make_plan
from cifake_lib.profiles import Refused
from cifake_lib.progress import _last_line

# What `start_run` and `finish` leave behind, without the weight of importing them.
MAKE_RUN = """
import json, os
from pathlib import Path
folder = Path(os.environ["CIFAKE_RUNS"]) / STAGE / run_id
folder.mkdir(parents=True, exist_ok=True)
times = len(list(folder.glob("seen*")))
(folder / f"seen{times}").touch()
print("working on", folder)
"""
FINISH_RUN = """
manifest = {"run_id": run_id, "started_utc": run_id, "files": {}, "metrics": {"accuracy": 0.875}}
(folder / "manifest.json").write_text(json.dumps(manifest))
"""


PROGRESS_BAR = """
drawn = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "drawn: 5%"}
display(drawn, raw=True)
"""


def write_notebook(file, stage, parameters, work=""):
    cells = [
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell(f"STAGE = {stage!r}\n{MAKE_RUN}"),
        new_code_cell(work or "1 + 1"),
        new_code_cell(FINISH_RUN),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, file)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two stages, the second of which reads the first one's run."""
    monkeypatch.setenv("CIFAKE_HOME", str(tmp_path))
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    first = 'run_id = ""\nprofile = "sample"\nepochs: int = 5  # passes\nlearning_rate = 0.001\n'
    first += 'augmentation = ["flip"]\nweights = "imagenet"\nshuffle = True'
    write_notebook(notebooks / "01_first.ipynb", "first", first, PROGRESS_BAR)
    second = 'run_id = ""\nfirst_run = ""\nepochs = 2'
    write_notebook(notebooks / "02_second.ipynb", "second", second)
    profiles = {
        "stages": {"first": "01_first", "second": "02_second"},
        "profiles": {
            "sample": {"description": "the default"},
            "smoke": {"defaults": {"epochs": 1}, "second": {"epochs": 3}},
        },
    }
    write_profiles(tmp_path, profiles)
    return tmp_path


def write_profiles(project, profiles):
    (project / "notebooks" / "profiles.yaml").write_text(yaml.safe_dump(profiles, sort_keys=False))


def edit_profiles(project, edit):
    profiles = yaml.safe_load((project / "notebooks" / "profiles.yaml").read_text())
    edit(profiles["profiles"])
    write_profiles(project, profiles)


def parameters(plan):
    return {step.stage: step.parameters for step in plan.steps}


def test_values_come_from_notebook_then_profile_then_stage_then_command_line(project):
    assert parameters(make_plan())["first"]["epochs"] == 5
    smoke = parameters(make_plan("smoke"))
    assert (smoke["first"]["epochs"], smoke["second"]["epochs"]) == (1, 3)
    assert smoke["first"]["profile"] == "smoke"
    both = parameters(make_plan("smoke", overrides=["second.epochs=9", "epochs=7"]))
    assert (both["first"]["epochs"], both["second"]["epochs"]) == (7, 9)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("first.learning_rate=1e-4", "learning_rate", 1e-4),  # plain YAML reads text here
        ("first.learning_rate=1", "learning_rate", 1.0),
        ("first.augmentation=[flip, shift]", "augmentation", ["flip", "shift"]),
        ("first.shuffle=false", "shuffle", False),
        ("first.weights=none", "weights", "none"),
        ("first.weights=2024", "weights", "2024"),
        ("first.weights=a=b", "weights", "a=b"),
    ],
)
def test_override_values_have_the_type_of_the_parameter(project, text, name, value):
    received = parameters(make_plan(overrides=[text]))["first"][name]
    assert received == value
    assert type(received) is type(value)


def test_a_path_holds_in_the_folder_where_the_notebook_runs(project, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for folder, passed in ((project, "mine.h5"), (elsewhere, str(elsewhere / "mine.h5"))):
        (folder / "mine.h5").touch()
        (folder / "imagenet").mkdir()
        monkeypatch.chdir(folder)
        plan = make_plan(overrides=["first.weights=mine.h5"])
        assert parameters(plan)["first"]["weights"] == passed
        monkeypatch.chdir(tmp_path_factory.mktemp("kernel"))
        assert paths.resolve(passed) == folder / "mine.h5"
    monkeypatch.chdir(project)
    plan = make_plan(overrides=["first.weights=imagenet"])
    assert parameters(plan)["first"]["weights"] == "imagenet"


def test_runs_that_start_in_the_same_second_get_names_of_their_own(project):
    names = set()
    for _ in range(5):
        names.add(make_plan().run_id)
        time.sleep(0.002)
    assert len(names) == 5


def test_stages_are_chosen_and_keep_their_order(project):
    assert list(parameters(make_plan(only=["second", "first"]))) == ["first", "second"]
    assert list(parameters(make_plan(start="second"))) == ["second"]


def test_a_later_stage_is_told_the_run_of_an_earlier_one(project):
    assert parameters(make_plan(run_id="mine"))["second"]["first_run"] == "mine"
    assert parameters(make_plan(only=["second"]))["second"]["first_run"] == ""
    for run_id in ("20240101", "20250101"):
        folder = project / "runs" / "first" / run_id
        folder.mkdir(parents=True)
        manifest = {"run_id": run_id, "started_utc": run_id}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert parameters(make_plan(only=["second"]))["second"]["first_run"] == "20250101"
    plan = make_plan(overrides=["second.first_run=20240101"])
    assert parameters(plan)["second"]["first_run"] == "20240101"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"profile": "smok"}, "profile 'smok'; did you mean 'smoke'?"),
        ({"profile": "zzz"}, "known are sample, smoke."),
        ({"only": ["frist"]}, "stage 'frist'; did you mean 'first'?"),
        ({"start": "thrid"}, "stage 'thrid'"),
        ({"overrides": ["first.epoch=3"]}, "'epoch'; did you mean 'epochs'?"),
        ({"overrides": ["frist.epochs=3"]}, "did you mean 'first'?"),
        ({"overrides": ["learning_rat=3"]}, "did you mean 'learning_rate'?"),
        ({"overrides": ["first.epochs=three"]}, "type int (default 5), received 'three'"),
        ({"overrides": ["first.epochs=true"]}, "received True"),
        ({"overrides": ["first.learning_rate=fast"]}, "type float"),
        ({"overrides": ["first.augmentation=[flip"]}, "does not parse as YAML"),
        ({"overrides": ["first.epochs"]}, "Expected -p stage.name=value"),
        ({"overrides": ["first.run_id=x"]}, "set by --run-id"),
        ({"overrides": ["first.epochs=3"], "only": ["second"]}, "stage that this run leaves out"),
        ({"overrides": ["shuffle=false"], "only": ["second"]}, "parameter 'shuffle'"),
        ({"run_id": "../elsewhere"}, "plain folder name"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(project, request_, sentence):
    with pytest.raises(Refused) as refusal:
        make_plan(**request_)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda p: p["smoke"].update(thrid={"epochs": 1}), "stage in profile 'smoke': 'thrid'"),
        (lambda p: p["smoke"]["second"].update(epoch=1), "did you mean 'epochs'?"),
        (lambda p: p["smoke"]["defaults"].update(epoch=1), "did you mean 'epochs'?"),
        (lambda p: p["smoke"]["second"].update(epochs=1.5), "received 1.5"),
        (lambda p: p["smoke"].update(only=["secnd"]), "did you mean 'second'?"),
    ],
)
def test_mistakes_in_profiles_are_refused(project, edit, sentence):
    edit_profiles(project, edit)
    with pytest.raises(Refused) as refusal:
        make_plan("smoke")
    assert sentence in str(refusal.value)


def test_a_profile_may_name_its_stages_and_the_command_line_others(project):
    edit_profiles(project, lambda profiles: profiles["smoke"].update(only=["second"]))
    assert list(parameters(make_plan("smoke"))) == ["second"]
    assert list(parameters(make_plan("smoke", only=["first"]))) == ["first"]
    assert list(parameters(make_plan("sample"))) == ["first", "second"]
    assert list(parameters(make_plan("sample", start="second"))) == ["second"]
    with pytest.raises(Refused, match="does not run the stage 'first', only second; choose"):
        make_plan("smoke", start="first")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_size=16", "first: Expected an image_size from 32 to 320 pixels, received 16."),
        ("image_size=321", "received 321."),
        ("crop=center", "crop out of ('centre', 'squash', 'random'), received 'center'."),
    ],
)
def test_sizes_and_crops_are_refused_before_anything_runs(project, text, sentence):
    parameters = 'run_id = ""\nimage_size = 32\ncrop = "centre"'
    write_notebook(project / "notebooks" / "01_first.ipynb", "first", parameters)
    assert make_plan("sample", overrides=["image_size=320", "crop=random"])
    with pytest.raises(Refused) as refusal:
        make_plan("sample", overrides=[text])
    assert str(refusal.value).endswith(sentence)


def test_the_profiles_are_listed_with_what_they_are_for(project, capsys):
    edit_profiles(project, lambda profiles: profiles["smoke"].update(only=["second"]))
    file = project / "notebooks" / "profiles.yaml"
    file.write_text(file.read_text() + "\nbudget_minutes: {sample: {first: 3}}\n")
    assert pipeline.main(["--list"]) == 0
    sample, smoke = capsys.readouterr().out.split("\n\n")
    assert sample.split("\n") == ["sample", "    the default", "    runs first (3 min), second"]
    assert smoke.split() == ["smoke", "runs", "second"]


def test_refusal_and_dry_run_end_with_their_exit_codes_and_write_nothing(project, capsys):
    assert pipeline.main(["--only", "frist"]) == 2
    assert "did you mean 'first'?" in capsys.readouterr().err
    assert pipeline.main(["--profile", "smoke", "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert "| first " in table and "epochs=1" in table and "epochs=3" in table
    assert not (project / "runs").exists()


def test_a_project_without_notebooks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_HOME", str(tmp_path))
    with pytest.raises(Refused, match="CIFAKE_HOME"):
        make_plan()


def test_run_then_resume_then_change(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert pipeline.main(["--profile", "smoke", "--run-id", "one", "--release"]) == 0
    out = capsys.readouterr().out
    assert "validation accuracy: 0.875" in out
    for stage in ("first", "second"):
        assert f"runs/{stage}/one/notebook.html" in out
        folder = project / "runs" / stage / "one"
        assert {"manifest.json", "notebook.ipynb", "notebook.html"} <= names(folder)
    # The executed copy holds what was passed, and the plan's folder only the plan and summary.
    executed = nbformat.read(project / "runs" / "second" / "one" / "notebook.ipynb", 4)
    assert 'first_run = "one"' in executed.cells[1].source
    plan_folder = project / "runs" / "pipeline" / "one"
    assert names(plan_folder) == {"plan.json", "summary.json", "summary.md"}
    rows = json.loads((plan_folder / "summary.json").read_text())["stages"]
    assert [(row["stage"], row["status"]) for row in rows] == [
        ("first", "complete"),
        ("second", "complete"),
    ]
    for row in rows:
        assert (plan_folder / row["html"]).is_file()
        assert f"]({row['html']})" in (plan_folder / "summary.md").read_text()

    # Released notebooks name no folder of this machine, and show no bar that stands still.
    assert "drawn: 5%" in (project / "runs" / "first" / "one" / "notebook.ipynb").read_text()
    released = project / "released" / "notebooks"
    assert names(released) == {"01_first.ipynb", "02_second.ipynb"}
    text = (released / "01_first.ipynb").read_text()
    assert "working on" in text and str(project) not in text
    outputs = [output for cell in nbformat.reads(text, 4).cells for output in cell.outputs]
    assert outputs and "drawn: 5%" not in str(outputs)
    assert (project / "released" / "first" / "manifest.json").is_file()

    # The same again is refused, skipped with --resume, and run afresh with other parameters.
    assert pipeline.main(["--profile", "smoke", "--run-id", "one"]) == 2
    assert "complete already" in capsys.readouterr().err
    plan = make_plan("smoke", resume=True)
    assert [(step.action, step.run_id) for step in plan.steps] == [("skip", "one")] * 2
    plan = make_plan("smoke", resume=True, run_id="two", overrides=["second.epochs=4"])
    assert [step.action for step in plan.steps] == ["skip", "run"]
    plan = make_plan("smoke", resume=True, run_id="two", overrides=["first.epochs=4"])
    assert [step.action for step in plan.steps] == ["run", "run"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_other_data_is_run_again(project, monkeypatch):
    notebook = project / "notebooks" / "01_first.ipynb"
    write_notebook(notebook, "first", 'run_id = ""\ndata_dir = "sample"')
    content = {"sample": "hash 1"}
    monkeypatch.setattr(
        "cifake_lib.plan._split_hash", lambda of: content[json.loads(of)["data_dir"]]
    )
    assert pipeline.main(["--only", "first"]) == 0
    assert make_plan(only=["first"], resume=True).steps[0].action == "skip"
    content["sample"] = "hash 2"
    assert make_plan(only=["first"], resume=True).steps[0].action == "run"


def test_a_failing_notebook_stops_the_run_and_is_continued(project, capsys):
    second = project / "notebooks" / "02_second.ipynb"
    write_notebook(second, "second", 'run_id = ""\nfirst_run = ""\nepochs = 2', "x = 1\n1 / 0")
    third = project / "notebooks" / "03_third.ipynb"
    write_notebook(third, "third", 'run_id = ""')
    profiles = yaml.safe_load((project / "notebooks" / "profiles.yaml").read_text())
    profiles["stages"]["third"] = "03_third"
    write_profiles(project, profiles)

    assert pipeline.main(["--run-id", "one"]) == 1
    out = capsys.readouterr().out
    assert "second failed in cell [4] of 02_second.ipynb" in out
    assert "    x = 1\n" in out
    assert "ZeroDivisionError: division by zero" in out
    failed = project / "runs" / "pipeline" / "one" / "02_second.ipynb"
    assert str(failed.name) in out
    assert "papermill-error-cell" in failed.read_text()
    rows = json.loads((failed.parent / "summary.json").read_text())["stages"]
    assert [row["status"] for row in rows] == ["complete", "failed", "not run"]
    assert not (project / "runs" / "third").exists()

    # Mended, the same run goes on where it stopped: same run id, nothing done twice.
    write_notebook(second, "second", 'run_id = ""\nfirst_run = ""\nepochs = 2')
    assert pipeline.main(["--resume", "--run-id", "two"]) == 0
    out = capsys.readouterr().out
    assert "first: complete already" in out
    assert "02_second.ipynb continues" in out
    assert {"seen0", "seen1", "manifest.json"} <= names(project / "runs" / "second" / "one")
    assert (project / "runs" / "third" / "two" / "manifest.json").is_file()


def test_a_notebook_that_leaves_no_complete_run_fails(project, capsys):
    notebook = project / "notebooks" / "01_first.ipynb"
    write_notebook(notebook, "first", 'run_id = ""', "FINISHED = True")
    content = nbformat.read(notebook, 4)
    content.cells.pop()
    nbformat.write(content, notebook)
    assert pipeline.main(["--only", "first"]) == 1
    assert "ended without a complete run" in capsys.readouterr().out


def test_a_dead_kernel_is_reported(project, capsys):
    notebook = project / "notebooks" / "01_first.ipynb"
    write_notebook(notebook, "first", 'run_id = ""', "import os\nos._exit(1)")
    assert pipeline.main(["--only", "first"]) == 1
    assert "the kernel of 01_first.ipynb died" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outputs", "line"),
    [
        ([], ""),
        ([new_output("stream", text="epoch 1\nepoch 2\n")], "epoch 2"),
        ([new_output("stream", text="10 %\r20 %")], "20 %"),
        ([new_output("stream", text="x" * 100)], "x" * 59 + "…"),
        (
            [
                new_output("stream", text="before"),
                new_output(
                    "display_data",
                    {"text/html": "<div><p>row</p><progress value='.2'></progress> epoch 3</div>"},
                ),
            ],
            "epoch 3",
        ),
        (
            [
                new_output("stream", text="before"),
                new_output("display_data", {"text/html": "<table></table>"}),
            ],
            "before",
        ),
    ],
)
def test_the_progress_display_repeats_what_a_long_cell_says_last(outputs, line):
    assert _last_line(new_code_cell("work", outputs=outputs)) == line
