"""The evaluation as a table and as JSON."""

from dataclasses import asdict
from typing import Any

from ..statistics import Summary, ratio_of_means, summary
from ..table import markdown_table
from .evaluation import MEASURES, Evaluation


def summarise(evaluation: Evaluation, name: str) -> Summary:
    """Return the mean of a measure with its interval, over pairs or samples; whole samples are resampled."""
    found = [row[name] for row in evaluation.rows if row.get(name) is not None]
    if not MEASURES[name].per_pair:
        return summary(found)
    return ratio_of_means([sum(values) for values in found], [len(values) for values in found])


def as_text(evaluation: Evaluation) -> str:
    """Return a Markdown table of all measures, and below it what could not be measured and why."""
    rows = []
    for name, measure in MEASURES.items():
        found = summarise(evaluation, name)
        if found.count:
            rows.append((measure.title, found.text(measure.digits), str(found.count)))
    text = markdown_table(("measure", "mean [95% interval]", "samples"), rows)
    if summarise(evaluation, "distance").count:
        text += f"\nDIFT by {evaluation.dift}\n"
    for kind, problems in (("not measured", evaluation.unmeasured), ("failed", evaluation.failures)):
        for name, reason in problems.items():
            text += f"\n{kind}: {name}: {reason}\n"
    return text


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything, ready for JSON: means with intervals, what is missing, every sample's measures."""
    measures = {name: {"title": measure.title, **asdict(summarise(evaluation, name))}
                for name, measure in MEASURES.items()}  # fmt: skip
    return {
        "measures": measures,
        "dift": evaluation.dift,
        "unmeasured": evaluation.unmeasured,
        "failures": evaluation.failures,
        "samples": evaluation.rows,
    }
