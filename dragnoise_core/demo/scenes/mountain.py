"""A mountain landscape under a low or a high sun."""

from __future__ import annotations

import torch
from torch import Tensor

from .painting import Canvas, capsule, coverage, ellipse, glow, hsv, length, mix, polygon, ramp, smooth_union

PARAMETERS = {
    "peak_x": (0.26, 0.74),
    "peak_y": (0.24, 0.46),
    "peak_width": (0.30, 0.46),
    "second_x": (0.10, 0.90),
    "second_y": (0.52, 0.64),
    "sun_x": (0.08, 0.92),
    "sun_y": (0.07, 0.17),
    "sun_size": (0.035, 0.055),
    "cloud_x": (0.10, 0.90),
    "ground_y": (0.74, 0.80),
    "tree_x": (0.10, 0.90),
    "tree_height": (0.14, 0.26),
    "snow": (0.06, 0.14),
    "hue": (0.0, 1.0),
    "day": (0.0, 1.0),
}
KEYPOINTS = ("peak", "second_peak", "sun", "tree_top")
TREE_FOOT = 0.12  # below the horizon of the meadow


def keypoints(p: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the places of the named keypoints, [count, 2] in fractions of the picture's side."""
    places = {
        "peak": (p["peak_x"], p["peak_y"]),
        "second_peak": (p["second_x"], p["second_y"]),
        "sun": (p["sun_x"], p["sun_y"]),
        "tree_top": (p["tree_x"], p["ground_y"] + TREE_FOOT - p["tree_height"]),
    }
    return {name: torch.cat(places[name], 1).flatten(1) for name in KEYPOINTS}


def paint(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint scenes, back to front. canvas: blank; it is painted over. p: parameters, [count, 1, 1, 1] each."""
    paint_sky(canvas, p)
    haze = sky_low(p)
    paint_far_range(canvas, p, haze)
    rock = hsv(0.58 + 0.12 * p["hue"], 0.30, 0.58)
    paint_mountain(canvas, p["peak_x"], p["peak_y"], p["peak_width"], p, mix(rock, haze, 0.12), p["snow"])
    second = hsv(0.50 + 0.14 * p["hue"], 0.36, 0.44)
    paint_mountain(canvas, p["second_x"], p["second_y"], 0.26 + 0.1 * p["peak_width"], p, mix(second, haze, 0.06), None)
    paint_meadow(canvas, p)
    paint_tree(canvas, p["tree_x"], p["ground_y"] + TREE_FOOT, p["tree_height"])


def sky_low(p: dict[str, Tensor]) -> Tensor:
    """Return the sky's colour at the horizon: warm early in the day, pale blue at noon."""
    return mix(hsv(0.07 + 0.02 * p["hue"], 0.34, 0.99), hsv(0.54 + 0.03 * p["hue"], 0.16, 0.98), p["day"])


def paint_sky(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint the sky, the sun and two clouds."""
    top = mix(hsv(0.66 + 0.06 * p["hue"], 0.42, 0.72), hsv(0.575 + 0.02 * p["hue"], 0.56, 0.88), p["day"])
    canvas.fill(mix(top, sky_low(p), ramp(canvas.y, 0.0, 0.70)))
    away = length(canvas.x - p["sun_x"], canvas.y - p["sun_y"])
    warm = hsv(0.105 + 0.02 * p["day"], 0.32, 1.0)
    canvas.blend(0.60 * glow(away, 3.4 * p["sun_size"]), mix(warm, torch.ones_like(warm), 0.2))
    canvas.paint(away - p["sun_size"], mix(warm, torch.ones_like(warm), 0.45))
    white = mix(sky_low(p), torch.ones_like(warm), 0.65)
    for offset_x, offset_y, width in ((0.0, 0.30, 0.11), (0.46, 0.22, 0.09)):
        x = (canvas.x - p["cloud_x"] - offset_x + 0.5) % 1.3 - 0.5
        y = canvas.y - offset_y
        puff = smooth_union(ellipse(x, y, width, 0.020), ellipse(x - 0.02, y + 0.016, 0.5 * width, 0.026), 0.02)
        canvas.paint(puff, white, 0.75, softness=0.025)


def paint_far_range(canvas: Canvas, p: dict[str, Tensor], haze: Tensor) -> None:
    """Paint the range at the horizon. haze: the colour it fades into."""
    x = canvas.x + 0.3 * p["hue"]
    ridge = 0.60 - 0.045 * torch.sin(6.0 * x + 1.0) - 0.03 * torch.sin(13.0 * x)
    far = hsv(0.60 + 0.06 * p["hue"], 0.28, 0.78)
    canvas.paint(ridge - canvas.y, mix(far, haze, ramp(canvas.y, 0.52, 0.80) * 0.7 + 0.15))


def paint_mountain(canvas: Canvas, peak_x, peak_y, width, p, colour: Tensor, snow: Tensor | None) -> None:
    """Paint one mountain with a lit and a shaded face. snow: how far its cap reaches down; None for no cap."""
    base = p["ground_y"] + 0.04
    x, below = canvas.x - peak_x, canvas.y - peak_y
    height = base - peak_y
    slope = height / width
    # Slopes flatten towards the foot, and a gentle ripple keeps them from looking ruled; both vanish at the peak.
    reach = x.abs() / width
    ripple = 0.016 * torch.sin(24 * x + 9 * p["hue"]) * ramp(reach, 0.05, 0.5)
    ridge = x.abs() * slope * (1.18 - 0.18 * reach.clamp(0, 1)) + ripple
    outline = (ridge - below) / torch.sqrt(1 + slope * slope)
    # The lit and the dark face meet along a crest that winds down from the peak.
    crest = 0.030 * torch.sin(13 * below) * ramp(below, 0.0, 0.2) + 0.16 * below
    dark = ramp(x - crest, -0.008, 0.008 + 0.05 * below.clamp(0, 1))
    down = ramp(below, 0.0, 0.5)
    lit = mix(colour * 1.22, colour * 1.05, down)
    shaded = mix(colour * 0.74, colour * 0.88, down)
    canvas.paint(outline, mix(lit, shaded, dark))
    if snow is not None:
        edge = snow * (1 + 0.32 * torch.sin(46 * x + 1.0) * ramp(x.abs(), 0.0, 0.03)) + 0.35 * ramp(x, 0.0, 0.3) * snow
        white = mix(torch.full_like(colour, 0.985), hsv(torch.full_like(p["hue"], 0.60), 0.16, 0.82), dark)
        canvas.paint(torch.maximum(outline, (below - edge) * 0.8), white)


def paint_meadow(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint the meadow in two strips, the nearer one darker."""
    hue = 0.235 + 0.08 * p["hue"]
    for depth, (rise, turn, shift) in enumerate(((0.0, 7.0, 0.0), (0.085, 5.0, 2.0))):
        edge = p["ground_y"] + rise + 0.014 * torch.sin(turn * canvas.x + 6 * p["hue"] + shift)
        far, near = hsv(hue, 0.42, 0.72 - 0.08 * depth), hsv(hue + 0.04, 0.52, 0.50 - 0.08 * depth)
        canvas.paint(edge - canvas.y, mix(far, near, ramp(canvas.y - edge, 0.0, 0.18)))


def paint_tree(canvas: Canvas, x, foot, height) -> None:
    """Paint a fir with its shadow. x, foot: where it stands."""
    across = canvas.x - x
    shadow = ellipse(across - 0.05, canvas.y - foot, 0.085, 0.014)
    canvas.paint(shadow, hsv(torch.full_like(x, 0.33), 0.60, 0.26), 0.45, softness=0.02)
    trunk = capsule(canvas.x, canvas.y, x, foot - 0.05, x, foot - 0.006, 0.010)
    canvas.paint(trunk, hsv(torch.full_like(x, 0.07), 0.55, 0.36))
    needles = hsv(torch.full_like(x, 0.385), 0.58, 0.40)
    top = foot - height
    for start, end, spread in ((0.42, 0.88, 0.30), (0.20, 0.64, 0.24), (0.0, 0.40, 0.17)):
        y0, y1, half = top + start * height, top + end * height, spread * height
        tier = polygon(canvas.x, canvas.y, [(x, y0), (x + half, y1), (x - half, y1)])
        light = 1.16 - 0.42 * ramp(across, -half, half) - 0.22 * coverage(canvas.y - y0 - 0.3 * (y1 - y0), 0.05)
        canvas.paint(tier, needles * light)
