"""What the rows of an ablation say, in tables and sentences, also where it contradicts the paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .ablation_replacement import DONORS
from .ablation_studies import VARIABLES, Row
from .statistics import Summary, bootstrap, mean_difference, summary
from .table import markdown_table

# Study: what is varied.
CHOICES = {"start": "start step", "block": "optimised block", "tap": "supervised block", "stop": "free last steps"}
# Measure: unit, digits, which end of the scale is better, how the best is called.
MEASURES = {"distance": ("px", 1, min, "nearest to the targets"), "truth_psnr": ("dB", 2, max, "nearest to the truth")}
HEAD = ("distance, px", "PSNR to truth, dB", "PSNR outside, dB", "iterations")
SHARES = (0.25, 0.5, 0.75)
CLAIMED_RATIO = 0.5
FEWEST_DRAGS = 6  # under this a bootstrap interval says nothing
REPLACEMENT_MEASURES = ("distance", "donor_psnr", "recipient_psnr")
OUTLINE, STRUCTURE = 0, 1  # places of t = 45 and t = 35 of 50 among the replaced steps
NOTE = (
    "Means with 95% bootstrap intervals over the drags. Distance: of the dragged keypoints, by the regressor, to their "
    "targets. The intervals do not account for the best being chosen among several."
)
BY = {"distance": "by the keypoint regressor on the result", "tracked": "by the method's own tracking"}


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


def findings(rows: Sequence[Row]) -> dict[str, tuple[str, list[str]]]:
    """Return the table, in Markdown, and the sentences of every study that has rows."""
    describe = {**dict.fromkeys(CHOICES, choice_findings), "replacement": replacement_findings}
    describe["variable"] = variable_findings
    return {study: describe[study](own) for study, own in grouped(rows, "study").items()}


def best_rates(variants: dict[Any, list[Row]]) -> dict[Any, list[Row]]:
    """Return every variant's rows at the learning rate that comes nearest, where a study tries several."""

    def distance(rows: list[Row]) -> float:
        return summary(column(rows, "distance")).mean

    return {variant: min(grouped(own, "learning_rate").values(), key=distance) for variant, own in variants.items()}


def choice_findings(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Say which variant is best, by distance and by PSNR, and whether the published one is."""
    study, variants = rows[0]["study"], best_rates(grouped(rows, "variant"))
    tried = sorted({row["learning_rate"] for row in rows} - {None})
    lines = []
    for variant, own in variants.items():
        rate = f", learning rate {_rate(own[0]['learning_rate'], tried)}" if tried else ""
        lines.append([f"{variant}{' (published)' if own[0]['published'] else ''}{rate}", *_cells(own)])
    sentences = [f"{CHOICES[study].capitalize()} {_best(variants, measure)}" for measure in MEASURES]
    if tried:
        sentences.append(
            "Every block is at the learning rate that brings it nearest, in proportion to the block's values."
        )
    if study == "stop":
        whole, earlier, *_ = variants.values()
        distance, detail = (mean_difference(column(earlier, name), column(whole, name)) for name in MEASURES)
        sentences.append(
            f"The paper ends the propagation early, for detail: {earlier[0]['variant']} free steps change the distance "
            f"by {distance.text()} px and the PSNR to truth by {detail.text()} dB."
        )
    return markdown_table([CHOICES[study], *HEAD], lines), sentences


def _best(variants: dict[Any, list[Row]], measure: str) -> str:
    """Return the name of the best variant and what it gains over the published one."""
    unit, digits, better, praise = MEASURES[measure]
    published = next(own for own in variants.values() if own[0]["published"])
    best = better(variants, key=lambda variant: summary(column(variants[variant], measure)).mean)
    if variants[best] is published:
        return f"{best} comes {praise}, as published."
    gain = mean_difference(column(variants[best], measure), column(published, measure))
    verdict = "this contradicts the paper" if _is_clear(gain) else _unclear(gain)
    return (
        f"{best} comes {praise}; against the published {published[0]['variant']} {gain.text(digits)} {unit}: {verdict}."
    )


def _is_clear(difference: Summary) -> bool:
    return difference.count >= FEWEST_DRAGS and (difference.low > 0 or difference.high < 0)


def _unclear(difference: Summary) -> str:
    return "no clear difference" if difference.count >= FEWEST_DRAGS else "too few drags to judge"


def _cells(rows: Sequence[Row]) -> list[str]:
    measures = {"distance": 1, "truth_psnr": 2, "outside_psnr": 2}
    cells = [summary(column(rows, name)).text(digits) for name, digits in measures.items()]
    return [*cells, f"{summary(column(rows, 'iterations')).mean:.1f}"]


def replacement_findings(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Say what a bottleneck that is repeated from some step on keeps of its picture, and takes to another one."""
    groups = grouped(rows, "donor", "variant")
    lines = []
    for (donor, step), own in groups.items():
        share = "-" if donor == DONORS[0] else covered(own).text()
        distance, *psnr = (summary(column(own, name)).text(1) for name in REPLACEMENT_MEASURES)
        lines.append([f"{donor}, t = {step}", distance, share, *psnr])
    head = ("donor", "distance to its keypoints, px", "share of the way", "PSNR to donor, dB", "PSNR to recipient, dB")
    steps = list(grouped(rows, "variant"))

    def shares(donor: str) -> str:
        return ", ".join(f"{100 * covered(groups[donor, step]).mean:.0f}% (t = {step})" for step in steps)

    outline, structure = (column(groups["itself", steps[place]], "distance") for place in (OUTLINE, STRUCTURE))
    lost = mean_difference(outline, structure)
    clear = "as the paper says" if lost.mean > 0 else "this contradicts the paper"
    verdict = clear if _is_clear(lost) else _unclear(lost)
    return markdown_table(head, lines), [
        f"A picture's own bottleneck, repeated from t = {steps[OUTLINE]} on, takes its keypoints {lost.text()} px "
        f"farther off than from t = {steps[STRUCTURE]} on: {verdict}.",
        f"The edited picture's bottleneck takes the dragged keypoints this far to their targets: {shares('edited')}.",
        f"Another scene's bottleneck takes all keypoints this far to its own: {shares('other')}.",
    ]


def variable_findings(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Say how many iterations both variables need for a share of the way, each at its best learning rate."""
    table = markdown_table(
        ("variable, learning rate, budget", *HEAD, "share of the way", "by own tracking"),
        [
            [", ".join(map(str, key)), *_cells(own), covered(own).text(), covered(own, "tracked").text()]
            for key, own in grouped(rows, "variant", "learning_rate", "budget").items()
        ],
    )
    sentences = [claim(rows, measure, share) for measure in BY for share in SHARES]
    most = max(column(rows, "budget"))
    longest = [row for row in rows if row["budget"] == most]
    tried = list(grouped(longest, "learning_rate"))
    for variable, own in best_rates(grouped(longest, "variant")).items():
        psnr, outside = (summary(column(own, name)).text() for name in ("truth_psnr", "outside_psnr"))
        taken = summary(column(own, "iterations")).text(1)
        sentences.append(
            f"With up to {most} iterations the {variable} gets farthest at learning rate "
            f"{_rate(own[0]['learning_rate'], tried)}: {100 * covered(own).mean:.0f}% of the way in {taken} "
            f"iterations, PSNR to truth {psnr} dB, outside {outside} dB."
        )
    return table, sentences


def claim(rows: Sequence[Row], measure: str, share: float) -> str:
    """Return whether the paper's claim holds: the bottleneck needs at most half the latent's iterations."""
    variables = [Curves.of([row for row in rows if row["variant"] == name], measure) for name in VARIABLES]
    texts = [f"{name} {curves.text(share)}" for name, curves in zip(VARIABLES, variables, strict=True)]
    ours, theirs = (curves.fewest(share) for curves in variables)
    start = f"{100 * share:.0f}% of the way {BY[measure]}: {'; '.join(texts)}"
    if math.isinf(ours) and math.isinf(theirs):
        return f"{start}: neither gets there, the claim of at most half cannot be judged."
    columns, place = [*variables[0].columns, *variables[1].columns], len(variables[0].columns)

    def needed(means: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return variables[0].needed(share, means[:place]), variables[1].needed(share, means[place:])

    def holds(*means: Tensor) -> Tensor:
        bottleneck, latent = needed(means)
        return (bottleneck.isfinite() & (bottleneck <= CLAIMED_RATIO * latent)).double()

    ratio = ""
    if math.isfinite(ours) and math.isfinite(theirs):
        interval = bootstrap(columns, lambda *means: torch.div(*needed(means)))
        ratio = f"; ratio {ours / theirs:.2f}{_interval(interval)}"
    verdict = bootstrap(columns, holds)
    sure = verdict.count >= FEWEST_DRAGS and verdict.low == verdict.high
    said = "holds" if verdict.mean else "does not hold"
    return f"{start}{ratio}: the claim of at most half {said}{'' if sure else ', but not surely'}."


@dataclass(frozen=True)
class Curves:
    """How far one variable gets with how many iterations, for every learning rate, drag by drag.

    columns: the way, then for every learning rate and every budget, ascending, the iterations and the distance left.
    """

    rates: tuple[float, ...]
    columns: list[list[float]]

    @classmethod
    def of(cls, rows: Sequence[Row], measure: str) -> "Curves":
        """Build from the rows of one variable."""
        groups = grouped(rows, "learning_rate", "budget")
        measures = [column(own, name) for own in groups.values() for name in ("iterations", measure)]
        return cls(tuple(grouped(rows, "learning_rate")), [column(next(iter(groups.values())), "way"), *measures])

    def by_rate(self, share: float, means: Sequence[Tensor]) -> Tensor:
        """Return the iterations needed for `share` of the way at every learning rate, [rates, ...].

        means: of the columns, tensors of one shape. Between two budgets both measures grow evenly, from nothing done
        at the start; infinite where no budget gets there.
        """
        way, *measures = means
        length = len(measures) // len(self.rates)
        found = []
        for first in range(0, len(measures), length):
            iterations, done, needed = torch.zeros_like(way), torch.zeros_like(way), torch.full_like(way, torch.inf)
            for place in range(first, first + length, 2):
                after, reached = measures[place], 1 - measures[place + 1] / way
                crossing = iterations + (share - done) / (reached - done) * (after - iterations)
                needed = torch.where((reached >= share) & needed.isinf(), crossing, needed)
                iterations, done = after, reached
            found.append(needed)
        return torch.stack(found)

    def needed(self, share: float, means: Sequence[Tensor]) -> Tensor:
        """Return the same at the best learning rate, [...]."""
        return self.by_rate(share, means).amin(0)

    def fewest(self, share: float) -> float:
        """Return the iterations needed for `share` of the way at the best learning rate, over all drags."""
        return float(self.needed(share, self._means()))

    def text(self, share: float) -> str:
        """Return that with its interval and the learning rate, or how far this variable gets."""
        needed = self.by_rate(share, self._means())
        best = int(needed.argmin())
        if needed[best].isinf():
            way, *measures = self._means()
            return f"never (at most {100 * float(1 - min(measures[1::2]) / way):.0f}%)"
        interval = bootstrap(self.columns, lambda *means: self.needed(share, means))
        return (
            f"{needed[best]:.1f}{_interval(interval)} iterations at learning rate {_rate(self.rates[best], self.rates)}"
        )

    def _means(self) -> list[Tensor]:
        return [torch.tensor(values, dtype=torch.float64).mean() for values in self.columns]


def _interval(value: Summary) -> str:
    # Without an interval: in some resamples a share of the way is never covered.
    return f" [{value.low:.2f}, {value.high:.2f}]" if value.count else " [open interval]"


def _rate(best: float, tried: Sequence[float]) -> str:
    edge = len(tried) > 1 and best in (min(tried), max(tried))
    return f"{best} (edge of those tried)" if edge else f"{best}"
