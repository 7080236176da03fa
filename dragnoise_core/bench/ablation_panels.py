"""The plots of `dragnoise bench ablation`, a panel for each study."""

from collections.abc import Sequence

from .ablation_replacement import DONORS
from .ablation_studies import VARIABLES, Row
from .ablation_tables import CHOICES, best_rates, column, covered, grouped
from .plots import Line, Panel
from .statistics import Summary, bootstrap, mean_difference, summary

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
DISTANCE, PSNR, SHARE = (
    "distance to the target, pixels of 256",
    "PSNR to the truth, dB over the published",
    "share of the way, %",
)
START = Summary(0.0, 0.0, 0.0, 1)  # nothing done, nothing covered


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for every study that has rows."""
    make = {**dict.fromkeys(CHOICES, choice_panel), "replacement": replacement_panel, "variable": variable_panel}
    return [make[study](own) for study, own in grouped(rows, "study").items()]


def choice_panel(rows: Sequence[Row]) -> Panel:
    """Distance over the variants, and the PSNR that they gain over the published one on the same drags."""
    study, variants = rows[0]["study"], best_rates(grouped(rows, "variant"))
    numbers = all(isinstance(variant, int) for variant in variants)
    x = list(variants) if numbers else list(range(len(variants)))
    place = next(place for place, own in enumerate(variants.values()) if own[0]["published"])
    psnr = [column(own, "truth_psnr") for own in variants.values()]
    lines = [
        Line("distance", x, [summary(column(own, "distance")) for own in variants.values()]),
        Line("PSNR gained", x, [mean_difference(own, psnr[place]) for own in psnr], 1, right=True, dashed=True),
    ]
    ticks = () if numbers else tuple(str(variant).replace(", ", "\n") for variant in variants)
    return Panel(TITLES[study], X_AXES[study], DISTANCE, lines, PSNR, ticks, x[place])


def replacement_panel(rows: Sequence[Row]) -> Panel:
    """How far another picture's bottleneck takes the keypoints, and how much of a picture its own one keeps."""
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
    """Share of the way over the iterations; each variable's best learning rate in full, the others faint."""
    lines = []
    for colour, variable in enumerate(VARIABLES):
        own = [row for row in rows if row["variant"] == variable]
        curves = {
            rate: list(grouped(chosen, "budget").values()) for rate, chosen in grouped(own, "learning_rate").items()
        }
        best = max(curves, key=lambda rate: covered(curves[rate][-1]).mean)  # noqa: B023
        for rate, groups in curves.items():
            x = [0, *(summary(column(group, "iterations")).mean for group in groups)]
            found, tracked = ([START, *(_percent(group, name) for group in groups)] for name in ("distance", "tracked"))
            lines.append(Line(f"{variable}, learning rate {rate}", x, found, colour, faint=rate != best))
            if rate == best:
                lines.append(Line(f"{variable}, by its own tracking", x, tracked, colour, dashed=True, bars=False))
    return Panel(TITLES["variable"], "iterations taken", SHARE, lines, level=50, limits=(-20, 100))


def _percent(rows: Sequence[Row], measure: str = "distance") -> Summary:
    columns = [column(rows, measure), column(rows, "way")]
    return bootstrap(columns, lambda left, way: 100 * (1 - left / way))
