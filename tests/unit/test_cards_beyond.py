"""What the cards say of notebook 06 is what its released files say."""

import pytest

from cifake_lib import runs
from cifake_lib.cards_beyond import beyond_sections


@pytest.fixture
def released():
    return runs.find_run("robustness", released=True)


def model(key, run_id):
    return runs.Run(key, None, {"run_id": run_id})


def measured(released, *keys):
    """The models of a run, all or these."""
    upstream = released.manifest["upstream"]
    return [model(key, upstream[key]) for key in keys or upstream]


def text(parts):
    return "\n".join(parts)


def test_each_way_of_delivery_has_its_flips(released):
    table = released.read_csv("deliveries.csv").set_index(["model", "delivery"])
    row = table.loc[("resnet50", "messenger")]
    sections = beyond_sections("resnet50", *measured(released, "resnet50"))
    (line,) = [x for x in text(sections["On the way to you"]).splitlines() if "Messenger" in x]
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells[1:] == [
        f"{100 * row[name]:.0f} %" for name in ("flipped", "real_flipped", "fake_flipped")
    ]


def test_the_scope_check_is_on_the_cards_of_what_it_guards(released):
    known = released.read_csv("scope.csv").set_index("kind").loc["known"]
    for key in ("resnet50", "ensemble"):
        shown = text(beyond_sections(key, *measured(released))["Scope"])
        assert f"{100 * known['outside']:.0f} %" in shown
        assert f"{100 * known['accuracy_inside']:.1f} %" in shown
    assert beyond_sections("baseline_cnn", *measured(released))["Scope"] == []


def test_maps_stand_beside_a_random_one(released):
    shown = text(beyond_sections("tuned_cnn", *measured(released))["Explanations"])
    table = released.read_csv("explanations.csv")
    own = table[table["model"] == "tuned_cnn"].set_index("method")
    assert f"{own.loc['grad_cam', 'rank_correlation']:.2f}" in shown
    assert "Random" in shown
    # The ensemble has no map of its own.
    assert beyond_sections("ensemble", *measured(released))["Explanations"] == []


def test_results_of_other_models_are_not_shown():
    assert beyond_sections("resnet50", model("resnet50", "another")) == {}


def test_of_the_ensemble_only_what_just_its_models_gave_is_shown(released):
    assert beyond_sections("ensemble", *measured(released, "resnet50")) == {}
    assert beyond_sections("ensemble", *measured(released))


def test_without_notebook_06_there_are_no_such_sections(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path))
    assert beyond_sections("resnet50", model("resnet50", "any")) == {}
