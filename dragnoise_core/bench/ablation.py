"""`dragnoise bench ablation`: the paper's own studies on the demo scenes, drag by drag, with tables and a plot."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..configuration import RANGES
from ..demo.loader import load_keypoint_regressor
from ..errors import DragNoiseError
from ..standalone.models import load_model, usable_device
from .ablation_panels import TITLES, panels
from .ablation_replacement import replacement_study
from .ablation_studies import Plan, Row, Subject, block_study, start_study, stop_study, tap_study, variable_study
from .ablation_tables import NOTE, tables
from .output import say, write_text
from .plots import check_matplotlib, save_plot
from .scene_drags import bench_drag
from .speed import machine

STUDIES: dict[str, Callable[[Subject], Iterator[Row]]] = {
    "start": start_study,
    "block": block_study,
    "tap": tap_study,
    "stop": stop_study,
    "replacement": replacement_study,
    "variable": variable_study,
}
RESULTS, PLOT, TABLES = "ablation.json", "ablation.png", "ablation.md"
COMMON = {"variant", "published", "learning_rate", "drag", "way", "distance"}  # what every row has
MOST_DRAGS = 10_000


def run_bench_ablation(options: Namespace) -> None:
    """Run the studies, or read their results; write results, tables and plot; print the tables."""
    if options.plot_only:
        results = read_results(Path(options.plot_only))
        check_matplotlib()
        folder = Path(options.out or Path(options.plot_only).parent)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        results, folder = _run(options)
    text = _text(results)
    save_plot(folder / PLOT, panels(results["rows"]))
    write_text(folder / TABLES, text)
    say(json.dumps(results, indent=2) if options.json else text)


def _run(options: Namespace) -> tuple[dict[str, Any], Path]:
    names, plan = chosen_studies(options.study), chosen_plan(options)
    if not 1 <= options.count <= MOST_DRAGS:
        raise DragNoiseError(f"--count is {options.count}; choose a number from 1 to {MOST_DRAGS}.")
    if not options.minutes > 0:
        raise DragNoiseError(f"--minutes is {options.minutes}; choose a number above 0.")
    device = usable_device(options.device)
    check_matplotlib()
    folder = Path(options.out or "out/ablation")
    folder.mkdir(parents=True, exist_ok=True)
    model, regressor = load_model("demo", str(device)), load_keypoint_regressor(device)
    settings = {"seed": options.seed, "count": options.count, **asdict(plan)}
    results = {"machine": machine(device), "settings": settings, "seconds": 0.0, "drags": 0, "rows": []}
    start = time.perf_counter()
    with tqdm(total=options.count * len(names), desc="ablation", file=sys.stderr) as bar:
        for index in range(options.count):
            subject = Subject(model, regressor, bench_drag(options.seed, index), plan)
            for name in names:
                bar.set_postfix_str(name)
                results["rows"] += STUDIES[name](subject)
                bar.update()
            results["seconds"], results["drags"] = time.perf_counter() - start, index + 1
            # After every drag, so that an interruption leaves something to plot.
            write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")
            each = results["seconds"] / (index + 1)
            if index == 0:
                bar.write(_estimate(each, options), file=sys.stderr)
            if results["seconds"] + each > 60 * options.minutes:
                break
    return results, folder


def _estimate(each: float, options: Namespace) -> str:
    minutes = each * options.count / 60
    text = f"a drag takes about {each:.0f} s: {minutes:.0f} minutes for {options.count}"
    return text if minutes <= options.minutes else f"{text}; stopping after {options.minutes:g}, see --minutes"


def chosen_studies(text: str) -> list[str]:
    """Return the names of the studies in a list with commas, in the order in which they run."""
    wanted = text.split(",")
    for name in wanted:
        if name not in (*STUDIES, "all"):
            raise DragNoiseError(f"there is no study {name!r}; choose from {', '.join(STUDIES)} or all.")
    return [name for name in STUDIES if name in wanted or "all" in wanted]


def chosen_plan(options: Namespace) -> Plan:
    """Return the plan that the options describe. Raises DragNoiseError for numbers that no drag can have."""
    rates = _numbers("learning-rates", options.learning_rates, float, *RANGES["learning_rate"])
    budgets = _numbers("budgets", options.budgets, int, *RANGES["iterations"])
    (iterations,) = _numbers("iterations", str(options.iterations), int, *RANGES["iterations"])
    # With fewer than ten steps some study's share of them would not be a whole number.
    (steps,) = _numbers("steps", str(options.steps), int, 10, 999)
    return Plan(steps, iterations, rates, budgets)


def _numbers(name: str, text: str, kind: type, low: float, high: float) -> tuple:
    try:
        numbers = tuple(sorted({kind(part) for part in text.split(",")}))
    except ValueError as error:
        raise DragNoiseError(f"--{name} is {text!r}; give numbers with commas between them.") from error
    for number in numbers:
        if not low <= number <= high:
            raise DragNoiseError(f"--{name} has {number}; choose values from {low} to {high}.")
    return numbers


def read_results(path: Path) -> dict[str, Any]:
    """Return what a run wrote. Raises DragNoiseError when the file is not an ablation's results."""
    try:
        results = json.loads(path.read_text())
        rows = results["rows"]
        complete = {"machine", "settings", "seconds", "drags"} <= results.keys()
        if not (complete and rows and all(row["study"] in STUDIES and COMMON <= row.keys() for row in rows)):
            raise KeyError("rows")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DragNoiseError(f"{path} does not hold an ablation's results; give the {RESULTS} of a run.") from error
    return results


def _text(results: dict[str, Any]) -> str:
    settings = results["settings"]
    head = (
        f"Drags: {results['drags']} of seed {settings['seed']}, preset paper, no masks; {results['machine']}, "
        f"{results['seconds'] / 60:.1f} minutes.\n{NOTE}\n"
    )
    return "\n".join([head, *(f"## {TITLES[study]}\n\n{table}" for study, table in tables(results["rows"]).items())])
