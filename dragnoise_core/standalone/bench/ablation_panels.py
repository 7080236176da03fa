"""The plots of `dragnoise bench ablation`, a panel for each study."""

from collections.abc import Sequence

from .ablation_findings import CHOICES, column, covered, grouped
from .ablation_replacement import DONORS
from .ablation_studies import VARIABLES, Row
from .plots import Line, Panel
from .statistics import Summary, bootstrap, summary

TITLES = {
    "start": "Start step of the drag",
    "block": "Optimised block",
    "tap": "Supervised block",
    "stop": "End of the propagation",
    "replacement": "Replaced middle block",
    "variable": "Optimised variable",
}
X_AXES = {
    "start": "denoising steps left at the drag",
    "block": "output of",
    "tap": "features of",
    "stop": "last steps without the edit",
}
DISTANCE, PSNR, SHARE = "distance to the target, pixels of 256", "PSNR to the truth, dB", "share of the way, %"


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for every study that has rows."""
    make = {**dict.fromkeys(CHOICES, choice_panel), "replacement": replacement_panel, "variable": variable_panel}
    return [make[study](own) for study, own in grouped(rows, "study").items()]


def choice_panel(rows: Sequence[Row]) -> Panel:
    """Distance and PSNR to the truth over the variants."""
    study, variants = rows[0]["study"], grouped(rows, "variant")
    numbers = all(isinstance(variant, int) for variant in variants)
    x = list(variants) if numbers else list(range(len(variants)))
    lines = [
        Line("distance", x, [summary(column(own, "distance")) for own in variants.values()]),
        Line("PSNR", x, [summary(column(own, "truth_psnr")) for own in variants.values()], 1, right=True, dashed=True),
    ]
    published = next(place for place, own in zip(x, variants.values(), strict=True) if own[0]["published"])
    ticks = () if numbers else tuple(str(variant).replace(", ", "\n") for variant in variants)
    return Panel(TITLES[study], X_AXES[study], DISTANCE, lines, PSNR, ticks, published)


def replacement_panel(rows: Sequence[Row]) -> Panel:
    """How far another picture's bottleneck takes the keypoints, and what a picture's own one keeps of it."""
    own, *others = (grouped([row for row in rows if row["donor"] == donor], "variant") for donor in DONORS)
    lines = [
        Line(f"to the {donor} picture's keypoints", list(steps), [_percent(group) for group in steps.values()], colour)
        for colour, (donor, steps) in enumerate(zip(DONORS[1:], others, strict=True))
    ]
    kept = [summary(column(group, "recipient_psnr")) for group in own.values()]
    lines.append(Line("its own: PSNR to itself", list(own), kept, len(lines), right=True, dashed=True))
    return Panel(
        TITLES["replacement"], "steps left with the donor's bottleneck", SHARE, lines, "PSNR to the picture itself, dB"
    )


def variable_panel(rows: Sequence[Row]) -> Panel:
    """Share of the way over the iterations; every variable at the learning rate that gets farthest, the rest faint."""
    lines = []
    for colour, variable in enumerate(VARIABLES):
        own = [row for row in rows if row["variant"] == variable]
        curves = {
            rate: list(grouped(chosen, "budget").values()) for rate, chosen in grouped(own, "learning_rate").items()
        }
        best = max(curves, key=lambda rate: covered(curves[rate][-1]).mean)  # noqa: B023
        for rate, groups in curves.items():
            x = [summary(column(group, "iterations")).mean for group in groups]
            name = f"{variable}, learning rate {rate}"
            lines.append(Line(name, x, [_percent(group) for group in groups], colour, faint=rate != best))
            if rate == best:
                tracked = [_percent(group, "tracked") for group in groups]
                lines.append(Line(f"{variable}, by its own tracking", x, tracked, colour, dashed=True))
    return Panel(TITLES["variable"], "iterations taken", SHARE, lines, level=50)


def _percent(rows: Sequence[Row], measure: str = "distance") -> Summary:
    columns = [column(rows, measure), column(rows, "way")]
    return bootstrap(columns, lambda left, way: 100 * (1 - left / way))
