"""What a pipeline run came to: one row a stage, with links to what it made."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifake_lib import runs
from cifake_lib.plan import Plan, Step


@dataclass(frozen=True)
class Outcome:
    """How one step ended.

    Attributes:
        step: The step of the plan.
        status: "complete", "skipped", "failed", "interrupted" or "not run".
        seconds: Wall time.
    """

    step: Step
    status: str
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether there is a complete run."""
        return self.status in ("complete", "skipped")


def write_summary(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Write `summary.json` and `summary.md` into the plan's folder.

    Returns:
        The summary as text for a terminal, with paths relative to the working directory.
    """
    rows = [_row(outcome, plan.folder) for outcome in outcomes]
    record = {"run_id": plan.run_id, "profile": plan.profile, "stages": rows}
    runs.write_json(plan.folder / "summary.json", record)

    title = f"Pipeline run {plan.run_id}, profile {plan.profile}"
    head = ["stage", "status", "seconds", "result"]
    cells = [[row["stage"], row["status"], f"{row['seconds']:.0f}", row["result"]] for row in rows]
    links = [_links(row) for row in rows]
    linked = table([*head, "files"], [[*c, link] for c, link in zip(cells, links, strict=True)])
    file = plan.folder / "summary.md"
    file.write_text(f"# {title}\n\n{linked}\n", encoding="utf-8")

    shown = [f"  {relative(plan.folder / row['html'])}" for row in rows if row["html"]]
    notebooks = ["Executed notebooks:", *shown] if shown else []
    files = "\n".join([*notebooks, f"Links to all files: {relative(file)}"])
    return f"{title}\n\n{table(head, cells)}\n\n{files}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table that also reads well as plain text."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def relative(path: Path, start: Path | None = None) -> str:
    """Write a path relative to a folder, the working directory by default."""
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive on Windows
        return Path(path).as_posix()


def _row(outcome: Outcome, start: Path) -> dict[str, str | float]:
    folder = relative(outcome.step.folder, start)
    return {
        "stage": outcome.step.stage,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 1),
        "result": _result(outcome.step) if outcome.done else "",
        "run_id": outcome.step.run_id,
        "folder": folder if outcome.done else "",
        "notebook": f"{folder}/notebook.ipynb" if outcome.done else "",
        "html": f"{folder}/notebook.html" if outcome.done else "",
    }


def _links(row: dict[str, str | float]) -> str:
    targets = {"run folder": row["folder"], "notebook": row["notebook"], "HTML": row["html"]}
    return " · ".join(f"[{text}]({target})" for text, target in targets.items() if target)


def _result(step: Step) -> str:
    """The accuracy a stage reached, with the split it was measured on."""
    metrics = json.loads((step.folder / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    if step.stage == "evaluation":
        reached = [f"{key} {scores['accuracy']:.3f}" for key, scores in metrics.items()]
        return f"test accuracy: {', '.join(reached)}"
    return f"validation accuracy: {metrics['accuracy']:.3f}" if "accuracy" in metrics else ""
