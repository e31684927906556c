"""A slider over named steps that says its name and its step to a screen reader."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import traitlets

try:
    import anywidget
except ImportError:
    anywidget = None

STYLE = """
.cifake .cf-steps { margin:0 0 8px; }
.cf-steps label { display:grid; grid-template-columns:74px minmax(60px,1fr) 52px; gap:8px;
  align-items:center; }
.cf-steps input { width:100%; margin:0; accent-color:var(--accent); }
.cf-steps input:focus-visible { outline:3px solid var(--focus); outline-offset:3px;
  border-radius:6px; }
.cf-steps output { text-align:right; font-size:13px; }
"""

if anywidget is not None:

    class _Steps(anywidget.AnyWidget):
        """The browser's own range input; the handle of ipywidgets' slider has no name."""

        _esm = """
        function render({ model, el }) {
          const label = document.createElement("label");
          const name = document.createElement("span");
          const input = document.createElement("input");
          const said = document.createElement("output");
          el.classList.add("cf-steps");
          input.type = "range";
          const draw = () => {
            const words = model.get("words");
            name.textContent = model.get("label");
            input.max = words.length - 1;
            input.value = model.get("value");
            said.textContent = words[model.get("value")];
            input.setAttribute("aria-valuetext", words[model.get("value")]);
          };
          input.addEventListener("input", () => {
            model.set("value", Number(input.value));
            model.save_changes();
          });
          model.on("change:value", draw);
          draw();
          label.append(name, input, said);
          el.append(label);
        }
        export default { render };
        """
        label = traitlets.Unicode().tag(sync=True)
        words = traitlets.List(traitlets.Unicode()).tag(sync=True)
        value = traitlets.Int(0).tag(sync=True)

        @traitlets.validate("value")
        def _within(self, proposal):
            return min(max(proposal["value"], 0), len(self.words) - 1)


def step_slider(label: str, words: Sequence[str], *, value: int = 0) -> widgets.Widget:
    """Return a slider.

    Args:
        label: What it chooses.
        words: What each step is called.
        value: The step at first, from 0.

    Returns:
        A widget whose `value` is the step.
    """
    if anywidget is not None:
        return _Steps(label=label, words=list(words), value=value)
    steps = [(name, step) for step, name in enumerate(words)]
    return widgets.SelectionSlider(options=steps, value=value, description=label)
