"""The tables of `dragnoise bench scenes`, from the rows of its drags."""

from dataclasses import asdict
from typing import Any

import torch

from .speed import machine
from .statistics import Summary, mean_difference, ratio_of_means, summary
from .table import markdown_table

# Name in a row: head of the column, digits.
MEASURES = {
    "distance": ("distance, px", 1),
    "truth_psnr": ("PSNR to truth, dB", 1),
    "truth_ssim": ("SSIM to truth", 3),
    "outside_psnr": ("PSNR outside, dB", 1),
    "changed_sharpness": ("sharpness of the changed part, of the truth's", 2),
    "changed_ssim": ("SSIM of the changed part", 3),
    "changed_colour": ("colour of the changed part, 1/255 off", 1),
    "still_moved": ("still keypoints moved, px", 1),
    "others": ("keypoints not dragged, px off", 1),
    "iterations": ("iterations", 0),
    "seconds": ("seconds", 2),
    "worse_distance": ("farther than nothing, %", 1),
    "worse_psnr": ("lower PSNR than nothing, %", 1),
}
TAGS = ("kind", "size", "pairs", "masked", "motion")
BREAKDOWN = ("distance", "truth_psnr")
REFERENCE = "paper"
# What a method should reach against the reference: statement, which end of the interval decides, limit.
GOALS = {
    "mean distance, ratio": ("at most", 0.22),
    "PSNR to truth, difference in dB": ("at least", 4.0),
    "PSNR outside, difference in dB": ("at least", 5.0),
    "seconds, ratio": ("at most", 1.0),
    "farther from the target than doing nothing, %": ("at most", 1.0),
}
NOTES = """\
Means over the drags with 95% bootstrap intervals. Distance: of the dragged keypoints, where the regressor finds them
in the decoded picture, to their targets. Truth: the picture that the renderer draws for the change; the autoencoder
alone bounds every PSNR. Outside: where the truth leaves the source as it is; row `nothing` shows the bound there.
Changed part: where the truth differs from the source; colours are means over nine pixels a side. Still keypoints:
those that the truth leaves where they are. Farther, lower: the share of drags that ended worse than doing nothing.
Seconds: the inversion, which all methods share, is added to all but `nothing`; decoding and the first call of every
method are not counted.
"""
SHARED = "Seconds were taken with {processes} processes side by side, one thread each: compare them with care.\n"

Row = dict[str, Any]


def scene_report(rows: list[Row], names: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the tables show, ready for JSON.

    rows: one for each drag and method, those of method `nothing` among them. names: the methods, in order.
    """
    by_method = _by_method(rows, names)
    seed = settings["seed"]
    return {
        "machine": machine(torch.device(settings["device"])),
        "settings": settings,
        "drags": len(by_method[names[0]]),
        "methods": {
            name: {measure: asdict(summary([row[measure] for row in found], seed)) for measure in MEASURES}
            for name, found in by_method.items()
        },
        "goals": {
            name: _against(found, by_method[REFERENCE], seed)
            for name, found in by_method.items()
            if REFERENCE in by_method and name not in (REFERENCE, names[0])
        },
        "breakdown": {tag: _broken_down(by_method, tag, seed) for tag in TAGS},
    }


def _by_method(rows: list[Row], names: list[str]) -> dict[str, list[Row]]:
    """Return every method's rows in the order of the drags, with the comparison with doing nothing."""
    baseline = {row["index"]: row for row in rows if row["method"] == names[0]}
    compared = []
    for row in sorted(rows, key=lambda row: row["index"]):
        nothing = baseline[row["index"]]
        worse = {
            "worse_distance": 100.0 * (row["distance"] > nothing["distance"]),
            "worse_psnr": 100.0 * (row["truth_psnr"] < nothing["truth_psnr"]),
        }
        compared.append({**row, **worse})
    return {name: [row for row in compared if row["method"] == name] for name in names}


def _against(found: list[Row], reference: list[Row], seed: int) -> list[dict[str, Any]]:
    def paired(statistic: Any, measure: str) -> Summary:
        both = [(a[measure], b[measure]) for a, b in zip(found, reference, strict=True) if a[measure] is not None]
        return statistic([a for a, _ in both], [b for _, b in both], seed)

    values = (
        paired(ratio_of_means, "distance"),
        paired(mean_difference, "truth_psnr"),
        paired(mean_difference, "outside_psnr"),
        paired(ratio_of_means, "seconds"),
        summary([row["worse_distance"] for row in found], seed),
    )
    lines = []
    for (what, (side, limit)), value in zip(GOALS.items(), values, strict=True):
        end = value.high if side == "at most" else value.low
        kept = [None if x is None else x <= limit if side == "at most" else x >= limit for x in (value.mean, end)]
        lines.append({"what": what, "goal": f"{side} {limit:.3g}", **asdict(value), "kept": kept[0], "sure": kept[1]})
    return lines


def _broken_down(by_method: dict[str, list[Row]], tag: str, seed: int) -> dict[str, Any]:
    values = sorted({row[tag] for found in by_method.values() for row in found})
    return {
        str(value): {
            name: {m: asdict(summary([row[m] for row in found if row[tag] == value], seed)) for m in BREAKDOWN}
            for name, found in by_method.items()
        }
        for value in values
    }


def markdown_report(report: dict[str, Any]) -> str:
    """Return the report as Markdown: the table, the goals, the breakdown, the notes."""
    settings, methods = report["settings"], report["methods"]
    parts = [f"{report['drags']} drags, seed {settings['seed']}; {report['machine']}\n"]
    # One row for each measure: with a column for each the table would be too wide to read.
    rows = [
        [head, *(Summary(**found[measure]).text(digits) for found in methods.values())]
        for measure, (head, digits) in MEASURES.items()
    ]
    parts.append(markdown_table(["", *methods], rows))
    words = {True: "yes", False: "no", None: "-"}
    for name, lines in report["goals"].items():
        rows = []
        for line in lines:
            value = Summary(*(line[key] for key in ("mean", "low", "high", "count")))
            rows.append([line["what"], value.text(), line["goal"], words[line["kept"]], words[line["sure"]]])
        parts.append(markdown_table([f"{name} against {REFERENCE}", "value", "goal", "kept", "whole interval"], rows))
    rows = []
    for tag, values in report["breakdown"].items():
        for value, found in values.items():
            cells = [" / ".join(_short(found[name][measure]["mean"]) for measure in BREAKDOWN) for name in methods]
            rows.append([f"{tag} {value}", str(found[next(iter(methods))][BREAKDOWN[0]]["count"]), *cells])
    parts.append(markdown_table(["distance, px / PSNR to truth, dB", "drags", *methods], rows))
    parts.append(NOTES + (SHARED.format(**settings) if settings["processes"] > 1 else ""))
    return "\n".join(parts)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
