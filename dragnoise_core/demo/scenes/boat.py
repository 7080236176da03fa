"""A sailing boat on the sea."""

from __future__ import annotations

import torch
from torch import Tensor

from .painting import (
    Canvas,
    capsule,
    coverage,
    ellipse,
    glow,
    hsv,
    length,
    mix,
    polygon,
    ramp,
    rotated,
    smooth_union,
)

PARAMETERS = {
    "x": (0.38, 0.62),
    "waterline": (0.70, 0.78),
    "heel": (-0.28, 0.28),
    "hull_length": (0.36, 0.50),
    "mast_height": (0.38, 0.52),
    "sail_width": (0.13, 0.21),
    "sail_fullness": (0.0, 1.0),
    "horizon": (0.56, 0.64),
    "sun_x": (0.08, 0.92),
    "sun_y": (0.08, 0.30),
    "sun_size": (0.035, 0.055),
    "cloud_x": (0.10, 0.90),
    "hull": (0.0, 1.0),
    "sail": (0.0, 1.0),
    "day": (0.0, 1.0),
    "sea": (0.0, 1.0),
}
KEYPOINTS = ("mast_top", "bow", "stern", "boom_end")
DECK = 0.055  # height of the deck above the waterline
BOOM = 0.050  # height of the boom above the deck


def on_board(p: dict[str, Tensor], right: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a point of the boat, which heels about the middle of its waterline, is in the picture."""
    x, y = rotated(right, -up, p["heel"])
    return p["x"] + x, p["waterline"] + y


def places(p: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each keypoint as (x, y), [count, 1, 1, 1] each, in fractions of the picture's side."""
    half, still = 0.5 * p["hull_length"], torch.zeros_like(p["x"])
    deck = still + DECK
    return {
        "mast_top": on_board(p, still, deck + p["mast_height"]),
        "bow": on_board(p, half, deck + 0.022),
        "stern": on_board(p, -0.94 * half, deck - 0.010),
        "boom_end": on_board(p, -p["sail_width"], deck + BOOM),
    }


def keypoints(p: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the places of the named keypoints, [count, 2] in fractions of the picture's side."""
    return {name: torch.cat(place, 1).flatten(1) for name, place in places(p).items()}


def paint(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint scenes, back to front. canvas: blank; it is painted over. p: parameters, [count, 1, 1, 1] each."""
    warm = mix(hsv(0.075 + 0.02 * p["sail"], 0.38, 1.0), hsv(0.13 + 0.01 * p["sail"], 0.20, 1.0), p["day"])
    paint_sky(canvas, p, warm)
    paint_sea(canvas, p, warm)
    # Boat coordinates: right along the deck and up along the mast, whatever the heel.
    right, down = rotated(canvas.x - p["x"], canvas.y - p["waterline"], -p["heel"])
    paint_reflection(canvas, p)
    paint_sails(canvas, p, right, -down, warm)
    paint_hull(canvas, p, right, -down)
    paint_bow_wave(canvas, p)


def paint_sky(canvas: Canvas, p: dict[str, Tensor], warm: Tensor) -> None:
    """Paint the sky, the sun and three clouds. warm: the sun's colour, [count, 3, 1, 1]."""
    top = mix(hsv(0.68 + 0.05 * p["sea"], 0.40, 0.70), hsv(0.565 + 0.02 * p["sea"], 0.52, 0.92), p["day"])
    low = mix(warm, hsv(0.53 + 0.02 * p["sea"], 0.14, 1.0), 0.75 * p["day"])
    canvas.fill(mix(top, low, ramp(canvas.y, 0.0, 0.62)))
    away = length(canvas.x - p["sun_x"], canvas.y - p["sun_y"])
    canvas.blend(0.60 * glow(away, 3.4 * p["sun_size"]), warm)
    canvas.paint(away - p["sun_size"], mix(warm, torch.ones_like(warm), 0.5))
    for offset_x, y0, width in ((0.0, 0.36, 0.12), (0.55, 0.27, 0.09), (0.80, 0.45, 0.14)):
        x, y = (canvas.x - p["cloud_x"] - offset_x + 0.5) % 1.4 - 0.5, canvas.y - y0
        puff = smooth_union(ellipse(x, y, width, 0.018), ellipse(x + 0.03, y - 0.012, 0.5 * width, 0.024), 0.02)
        canvas.paint(puff, mix(low, torch.ones_like(low), 0.6), 0.75, softness=0.025)


def paint_sea(canvas: Canvas, p: dict[str, Tensor], warm: Tensor) -> None:
    """Paint the far islands, the water with its swell, and the glitter below the sun."""
    below = canvas.y - p["horizon"]
    island_x = canvas.x - 1 + p["cloud_x"]
    island = p["horizon"] - 0.045 * glow(island_x, 0.16) - 0.03 * glow(island_x - 0.22, 0.10)
    canvas.paint(torch.maximum(island - canvas.y, below), mix(hsv(0.60 + 0.04 * p["sea"], 0.28, 0.70), warm, 0.2))
    hue = 0.50 + 0.09 * p["sea"]
    water = mix(hsv(hue, 0.36, 0.84), hsv(hue + 0.03, 0.68, 0.46), ramp(below, 0.0, 0.42))
    water = mix(water, warm, 0.30 * (1 - p["day"]) * ramp(below, 0.25, 0.0))
    canvas.paint(-below, water)
    inside = coverage(-below, 0.006)
    # Swell: broad bands that widen towards the viewer.
    for depth, wave, phase in ((0.05, 19.0, 0.0), (0.12, 13.0, 2.0), (0.21, 9.0, 4.0), (0.32, 7.0, 1.0)):
        crest = below - depth - 0.006 * torch.sin(wave * canvas.x + phase + 9 * p["sea"])
        canvas.blend(0.22 * inside * glow(crest, 0.010 + 0.05 * depth), mix(water, torch.ones_like(water), 0.55))
    glitter = glow(canvas.x - p["sun_x"], 0.055 + 0.12 * below.clamp(0, 1)) * ramp(below, 0.40, 0.0)
    canvas.blend(0.50 * inside * glitter, mix(warm, torch.ones_like(warm), 0.4))


def paint_reflection(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint what the water mirrors of hull and sails."""
    x, y = canvas.x - p["x"] + 0.15 * p["heel"], canvas.y - p["waterline"]
    dark = hsv(0.56 + 0.05 * p["sea"], 0.60, 0.30)
    canvas.paint(ellipse(x, y - 0.045, 0.50 * p["hull_length"], 0.040), dark, 0.55, softness=0.04)
    pale = mix(hsv(0.52 + 0.05 * p["sea"], 0.2, 0.9), torch.ones_like(dark), 0.4)
    canvas.paint(ellipse(x + 0.03, y - 0.12, 0.42 * p["sail_width"], 0.10), pale, 0.30, softness=0.12)


def paint_sails(canvas: Canvas, p: dict[str, Tensor], right: Tensor, up: Tensor, warm: Tensor) -> None:
    """Paint mainsail, jib, mast and boom. right, up: every pixel in the boat's own coordinates."""
    top, boom = DECK + p["mast_height"], DECK + BOOM
    rise = ((up - boom) / (top - boom)).clamp(0, 1)
    white = mix(torch.full_like(warm, 0.985), warm, 0.15)
    stripe = hsv(0.52 + 0.54 * p["sail"], 0.50, 0.80)
    # Mainsail, behind the mast: its leech bulges with the fullness of the sail.
    bulge = 0.36 * p["sail_fullness"] * p["sail_width"] * torch.sin(torch.pi * rise)
    leech = (-p["sail_width"] * (1 - rise) - bulge - right) * 0.9
    main = torch.maximum(torch.maximum(leech, right + 0.012), torch.maximum(boom - up, up - top + 0.02))
    belly = ((-right) / (p["sail_width"] + 1e-6)).clamp(0, 1.4)
    fold = 1.02 - (0.10 + 0.16 * p["sail_fullness"]) * ramp(belly, 1.2, 0.0)
    canvas.paint(main, white * fold)
    band = (rise - 0.66).abs() * (top - boom) - 0.020
    canvas.paint(torch.maximum(main, band), stripe * fold)
    # Jib, from the bow to the upper mast.
    foot, tack = 0.020, 0.46 * p["hull_length"]
    head = DECK + 0.84 * p["mast_height"]
    jib = polygon(right, up, [(foot, boom), (tack, boom - 0.030), (0.016, head)])
    swell = 0.10 * p["sail_fullness"] * p["sail_width"]
    canvas.paint(jib - 0.5 * swell, white * (0.90 + 0.10 * ramp(right, 0.0, 0.2)))
    wood = hsv(torch.full_like(top, 0.075), 0.50, 0.42)
    canvas.paint(capsule(right, up, 0.0, DECK, 0.0, top, 0.0075), wood)
    canvas.paint(capsule(right, up, 0.0, boom - 0.006, -p["sail_width"], boom - 0.006, 0.0065), wood)


def paint_hull(canvas: Canvas, p: dict[str, Tensor], right: Tensor, up: Tensor) -> None:
    """Paint hull and cabin. right, up: every pixel in the boat's own coordinates."""
    half = 0.5 * p["hull_length"]
    along = right / half
    sheer = DECK + 0.022 * along.clamp(-0.5, 1.1) * along.abs()
    keel = -0.034 + 0.075 * along.clamp(-0.2, 2.0) ** 2 - 0.02 * along
    stem = right - half * (0.82 + 0.18 * (up + 0.03) / (DECK + 0.05))
    transom = -0.94 * half - right + 0.12 * (DECK - up)
    hull = torch.maximum(torch.maximum(up - sheer, keel - up), torch.maximum(stem * 0.9, transom))
    colour = hsv(0.50 + 0.54 * p["hull"], 0.56, 0.64)
    lower = ramp(up, 0.05, -0.03)
    canvas.paint(hull, colour * (1.12 - 0.40 * lower))
    canvas.paint(torch.maximum(hull, (up - sheer + 0.009).abs() - 0.0075), torch.full_like(colour, 0.95))
    canvas.paint(torch.maximum(hull, up - 0.004), colour * 0.45)
    cabin = polygon(
        right,
        up,
        [
            (-0.30 * half, DECK - 0.004),
            (0.26 * half, DECK - 0.004),
            (0.16 * half, DECK + 0.030),
            (-0.26 * half, DECK + 0.030),
        ],
    )
    canvas.paint(cabin - 0.004, torch.full_like(colour, 0.93) - 0.10 * ramp(right, -0.05, 0.08))


def paint_bow_wave(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint the foam along the waterline."""
    x, y = canvas.x - p["x"] + 0.02 * p["heel"], canvas.y - p["waterline"]
    foam = torch.ones_like(p["x"])
    crest = 0.006 * torch.sin(40 * x + 8 * p["sea"])
    wash = ellipse(x, y - 0.020 - crest, 0.56 * p["hull_length"], 0.012)
    canvas.paint(wash, foam, 0.60, softness=0.022)
    body = ellipse(x - 0.02, y - 0.045 - crest, 0.50 * p["hull_length"], 0.016)
    canvas.paint(body, hsv(0.53 + 0.06 * p["sea"], 0.50, 0.62), 0.55, softness=0.03)
