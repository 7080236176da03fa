"""Panels of lines with error bars, as one picture. The only module that imports matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DragNoiseError
from .statistics import Summary

WIDTH, ROW_HEIGHT, DPI = 12.0, 4.0, 100  # inches, inches, pixels an inch: 1200 pixels wide, as a README is
COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """Values over x with their intervals as error bars; values without a mean are left out.

    right: on the right axis. bars: whether there are error bars. faint: thin, without bars and name.
    """

    name: str
    x: Sequence[float]
    values: Sequence[Summary]
    colour: int = 0
    right: bool = False
    dashed: bool = False
    bars: bool = True
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes. ticks: names of x = 0, 1, ... instead of numbers.

    published: x of a dotted line, what the paper has. level: y of a dotted line. limits: of y, where values beyond
    them do not matter.
    """

    title: str
    x_axis: str
    y_axis: str
    lines: Sequence[Line]
    right_axis: str | None = None
    ticks: Sequence[str] = field(default_factory=tuple)
    published: float | None = None
    level: float | None = None
    limits: tuple[float, float] | None = None


def check_matplotlib() -> None:
    """Raise DragNoiseError when the plots cannot be drawn: before the work, not after it."""
    _figure(1, 1)


def save_plot(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the panels in rows of three and write them as PNG. Raises DragNoiseError without matplotlib."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(WIDTH * columns / COLUMNS if rows == 1 else WIDTH, ROW_HEIGHT * rows)
    for number, panel in enumerate(panels, 1):
        _draw(figure.add_subplot(rows, columns, number), panel)
    figure.savefig(path, format="png", dpi=DPI)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise DragNoiseError(
            f"the package {error.name} is missing, which draws the plots; pip install 'dragnoise[bench]'."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def _draw(left: Any, panel: Panel) -> None:
    right = left.twinx() if panel.right_axis else None
    left.set(title=panel.title, xlabel=panel.x_axis, ylabel=panel.y_axis)
    if right:
        right.set_ylabel(panel.right_axis)
    if panel.ticks:
        left.set_xticks(range(len(panel.ticks)), panel.ticks, fontsize=8)
        left.margins(x=0.12)
    if panel.published is not None:
        left.axvline(panel.published, color="grey", linestyle=":", zorder=0, label="published")
    if panel.level is not None:
        left.axhline(panel.level, color="grey", linestyle=":", zorder=0)
    for line in panel.lines:
        _draw_line(right if line.right else left, line)
    handles, names = left.get_legend_handles_labels()
    if right:
        more_handles, more_names = right.get_legend_handles_labels()
        handles, names = handles + more_handles, names + more_names
    left.grid(alpha=0.3)
    if panel.limits:
        left.set_ylim(panel.limits)
        left.legend(fontsize=8)
        return
    # Room above the lines, for the legend.
    for axes in filter(None, (left, right)):
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + (0.1 + 0.07 * len(handles)) * (high - low))
    (right or left).legend(handles, names, fontsize=8, loc="upper center")


def _draw_line(axes: Any, line: Line) -> None:
    shown = [(x, value) for x, value in zip(line.x, line.values, strict=True) if value.count]
    if not shown:
        return
    x = [place for place, _ in shown]
    means = [value.mean for _, value in shown]
    style = {"color": f"C{line.colour}", "linestyle": "--" if line.dashed else "-"}
    if line.faint:
        axes.plot(x, means, linewidth=0.8, alpha=0.4, **style)
        return
    # A percentile interval need not contain the mean; matplotlib refuses bars of negative length.
    below = [max(0.0, value.mean - value.low) for _, value in shown]
    above = [max(0.0, value.high - value.mean) for _, value in shown]
    bars = [below, above] if line.bars else None
    axes.errorbar(x, means, yerr=bars, label=line.name, marker="o", markersize=4, capsize=3, **style)
