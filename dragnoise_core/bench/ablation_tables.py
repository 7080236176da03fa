"""What the rows of an ablation say, as a table for every study."""

from collections.abc import Sequence
from typing import Any

from .ablation_replacement import DONORS
from .ablation_studies import Row
from .statistics import Summary, bootstrap, summary
from .table import markdown_table

# Study: what is varied.
CHOICES = {"start": "start step", "block": "optimised block", "tap": "supervised block", "stop": "free last steps"}
HEAD = ("distance, px", "PSNR to truth, dB", "PSNR outside, dB", "iterations")
NOTE = (
    "Means with 95% bootstrap intervals over the drags. Distance: of the dragged keypoints, by the regressor, to their "
    "targets. Of several learning rates the best is shown; the intervals do not account for that choice."
)


def grouped(rows: Sequence[Row], *names: str) -> dict[Any, list[Row]]:
    """Return the rows by the values of `names`, tuples if there are several, in order of appearance."""
    groups: dict = {}
    for row in rows:
        groups.setdefault(row[names[0]] if len(names) == 1 else tuple(row[name] for name in names), []).append(row)
    return groups


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return one measure of all rows."""
    return [row[name] for row in rows]


def covered(rows: Sequence[Row], measure: str = "distance") -> Summary:
    """Return what share of the way was covered: 1 - mean distance / mean way."""
    return bootstrap([column(rows, measure), column(rows, "way")], lambda left, way: 1 - left / way)


def best_rates(variants: dict[Any, list[Row]]) -> dict[Any, list[Row]]:
    """Return every variant's rows at the learning rate that comes nearest, where a study tries several."""

    def distance(rows: list[Row]) -> float:
        return summary(column(rows, "distance")).mean

    return {variant: min(grouped(own, "learning_rate").values(), key=distance) for variant, own in variants.items()}


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Return the table of every study that has rows, in Markdown."""
    make = {**dict.fromkeys(CHOICES, choice_table), "replacement": replacement_table, "variable": variable_table}
    return {study: make[study](own) for study, own in grouped(rows, "study").items()}


def choice_table(rows: Sequence[Row]) -> str:
    """Return a row for every variant, the published one marked, each at its best learning rate."""
    lines = []
    for variant, own in best_rates(grouped(rows, "variant")).items():
        rate = own[0]["learning_rate"]
        name = f"{variant}{' (published)' if own[0]['published'] else ''}{f', learning rate {rate}' if rate else ''}"
        lines.append([name, *_cells(own)])
    return markdown_table([CHOICES[rows[0]["study"]], *HEAD], lines)


def replacement_table(rows: Sequence[Row]) -> str:
    """Return how much of a picture a bottleneck keeps, and takes to another one, when repeated from some step on."""
    lines = []
    for (donor, step), own in grouped(rows, "donor", "variant").items():
        share = "-" if donor == DONORS[0] else covered(own).text()
        distance, *psnr = (summary(column(own, name)).text(1) for name in ("distance", "donor_psnr", "recipient_psnr"))
        lines.append([f"{donor}, t = {step}", distance, share, *psnr])
    head = ("donor", "distance to its keypoints, px", "share of the way", "PSNR to donor, dB", "PSNR to recipient, dB")
    return markdown_table(head, lines)


def variable_table(rows: Sequence[Row]) -> str:
    """Return how far both variables get, by learning rate and budget."""
    return markdown_table(
        ("variable, learning rate, budget", *HEAD, "share of the way", "by own tracking"),
        [
            [", ".join(map(str, key)), *_cells(own), covered(own).text(), covered(own, "tracked").text()]
            for key, own in grouped(rows, "variant", "learning_rate", "budget").items()
        ],
    )


def _cells(rows: Sequence[Row]) -> list[str]:
    measures = {"distance": 1, "truth_psnr": 2, "outside_psnr": 2}
    cells = [summary(column(rows, name)).text(digits) for name, digits in measures.items()]
    return [*cells, f"{summary(column(rows, 'iterations')).mean:.1f}"]
