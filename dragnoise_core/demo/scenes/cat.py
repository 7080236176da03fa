"""The head of a cat that turns, tilts, droops its ears and meows."""

from __future__ import annotations

import torch
from torch import Tensor

from .painting import (
    Ball,
    Canvas,
    Spot,
    capsule,
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
    "x": (0.40, 0.60),
    "y": (0.46, 0.54),
    "size": (0.215, 0.255),
    "yaw": (-0.52, 0.52),
    "pitch": (-0.24, 0.26),
    "tilt": (-0.30, 0.30),
    "ear_droop": (0.0, 1.0),
    "mouth_open": (0.0, 1.0),
    "pupil": (0.0, 1.0),
    "fur": (0.0, 1.0),
    "darkness": (0.0, 1.0),
    "iris": (0.0, 1.0),
    "background": (0.0, 1.0),
}
EAR_LONGITUDE = 1.25
KEYPOINTS = ("nose", "left_eye", "right_eye", "left_ear_tip", "right_ear_tip", "chin")


def geometry(p: dict[str, Tensor]) -> tuple[Ball, dict[str, Spot]]:
    """Return the head and the places of its parts."""
    head = Ball(p["x"], p["y"], p["size"], p["size"] * 0.88, p["yaw"], p["pitch"], p["tilt"])
    spots = {
        "nose": head.spot(0.0, -0.20, 1.16),
        "left_eye": head.spot(-0.47, 0.12, 0.98),
        "right_eye": head.spot(0.47, 0.12, 0.98),
        "chin": head.spot(0.0, -0.80 - 0.22 * p["mouth_open"], 1.10),
    }
    for side, sign in (("left", -1), ("right", 1)):
        # The ears stand beside the turning axis, not in front of it: a turn moves them less than the nose.
        latitude = 1.04 - 0.42 * p["ear_droop"]
        spots[side + "_ear_tip"] = head.spot(sign * EAR_LONGITUDE, latitude, 1.66 - 0.10 * p["ear_droop"])
    return head, spots


def keypoints(p: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the places of the named keypoints, [count, 2] in fractions of the picture's side."""
    spots = geometry(p)[1]
    return {name: torch.cat([spots[name].x, spots[name].y], 1).flatten(1) for name in KEYPOINTS}


def paint(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint scenes, back to front. canvas: blank; it is painted over. p: parameters, [count, 1, 1, 1] each."""
    head, spots = geometry(p)
    fur = hsv(0.055 + 0.045 * p["fur"], 0.52 - 0.40 * p["darkness"], 0.90 - 0.42 * p["darkness"])
    cream = mix(fur, torch.ones_like(fur), 0.72)
    paint_background(canvas, p)
    paint_body(canvas, head, fur, cream)
    for side in ("left", "right"):
        paint_ear(canvas, head, spots[side + "_ear_tip"], side, fur)
    paint_head(canvas, head, fur)
    paint_muzzle(canvas, head, spots, p, fur, cream)
    for side in ("left", "right"):
        paint_eye(canvas, head, spots[side + "_eye"], p, fur)


def paint_background(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint the wall and the light on it."""
    hue = 0.25 + 0.65 * p["background"]
    canvas.fill(mix(hsv(hue, 0.22, 0.94), hsv(hue + 0.05, 0.34, 0.76), ramp(canvas.y, 0.0, 1.1)))
    canvas.blend(0.35 * glow(length(canvas.x - 0.3, canvas.y - 0.25), 0.45), hsv(hue, 0.08, 1.0))


def paint_body(canvas: Canvas, head: Ball, fur: Tensor, cream: Tensor) -> None:
    """Paint the body, its bib and the shadow below the head."""
    x, y = canvas.x - head.x, canvas.y - head.y
    body = ellipse(x, y - 2.15 * head.radius_y, head.radius_x * 1.05, head.radius_y * 1.55)
    canvas.paint(body, fur * (0.92 - 0.22 * ramp(x, -0.25, 0.3)))
    bib = ellipse(x - 0.06 * torch.sin(head.yaw), y - 1.55 * head.radius_y, head.radius_x * 0.56, head.radius_y * 0.85)
    canvas.paint(torch.maximum(bib, body), cream * 0.93, softness=0.03)
    shadow = ellipse(x, y - 0.30 * head.radius_y, head.radius_x * 1.0, head.radius_y * 0.95)
    canvas.paint(torch.maximum(shadow, body), fur * 0.55, 0.45, softness=0.08)


def paint_ear(canvas: Canvas, head: Ball, tip: Spot, side: str, fur: Tensor) -> None:
    """Paint an ear from the head to its tip; its inside shows less as it turns away."""
    sign = -1 if side == "left" else 1
    inner, outer = head.spot(sign * EAR_LONGITUDE, 1.34, 0.94), head.spot(sign * EAR_LONGITUDE, 0.42, 0.94)
    corners = [(tip.x, tip.y), (outer.x, outer.y), (inner.x, inner.y)]
    if side == "left":
        corners.reverse()
    unit = head.radius_x
    ear = polygon(canvas.x, canvas.y, corners)
    canvas.paint(ear - 0.035 * unit, fur * 0.88)
    pink = hsv(torch.full_like(head.x, 0.99), 0.34, 0.86)
    facing = ramp(sign * torch.sin(head.yaw), 0.7, -0.3)
    canvas.paint(ear + 0.10 * unit, mix(fur * 0.75, pink, 0.4 + 0.45 * facing), softness=0.02)


def paint_head(canvas: Canvas, head: Ball, fur: Tensor) -> None:
    """Paint skull, cheeks and stripes."""
    x, y = head.upright(canvas)
    skull = ellipse(x, y, head.radius_x, head.radius_y)
    cheeks = ellipse(
        x - 0.10 * head.radius_x * torch.sin(head.yaw),
        y - 0.30 * head.radius_y,
        head.radius_x * 1.06,
        head.radius_y * 0.62,
    )
    outline = smooth_union(skull, cheeks, 0.05)
    away = ((x / head.radius_x) * torch.sin(-head.yaw)).clamp(0, 1)
    canvas.paint(outline, fur * (head.shading(canvas) - 0.20 * away * away))
    # Three stripes run up the forehead and turn with it.
    for longitude in (-0.24, 0.0, 0.24):
        low, high = head.spot(longitude, 0.58), head.spot(1.5 * longitude, 1.02)
        stripe = capsule(canvas.x, canvas.y, low.x, low.y, high.x, high.y, 0.036 * head.radius_x)
        canvas.paint(stripe, fur * 0.62, 0.8, softness=0.012)
    for side in (-1, 1):
        for latitude in (-0.22, 0.02):
            front, back = head.spot(side * 1.02, latitude - 0.04), head.spot(side * 1.42, latitude + 0.04)
            stripe = capsule(canvas.x, canvas.y, front.x, front.y, back.x, back.y, 0.030 * head.radius_x)
            canvas.paint(torch.maximum(stripe, outline), fur * 0.62, 0.7, softness=0.012)


def paint_muzzle(canvas: Canvas, head: Ball, spots: dict[str, Spot], p, fur, cream) -> None:
    """Paint muzzle, nose, mouth and whiskers."""
    unit = head.radius_x
    opening = p["mouth_open"]
    pad_spot = head.spot(0.0, -0.42, 1.06)
    chin_x, chin_y = rotated(canvas.x - spots["chin"].x, canvas.y - spots["chin"].y, -p["tilt"])
    canvas.paint(ellipse(chin_x, chin_y + 0.13 * unit, unit * 0.22, unit * 0.17), cream * 0.92, softness=0.012)
    x, y = head.local(canvas, pad_spot)
    inside = ellipse(x, y - unit * (0.17 + 0.09 * opening), unit * 0.15, unit * (0.05 + 0.15 * opening))
    canvas.paint(inside, hsv(torch.full_like(head.x, 0.985), 0.55, 0.42), ramp(opening, 0.0, 0.25))
    tongue = ellipse(x, y - unit * (0.25 + 0.14 * opening), unit * 0.10, unit * 0.08)
    canvas.paint(torch.maximum(inside, tongue), hsv(torch.full_like(head.x, 0.98), 0.42, 0.88), ramp(opening, 0.1, 0.5))
    pads = torch.minimum(
        ellipse(x + unit * 0.165, y, unit * 0.225, unit * 0.18), ellipse(x - unit * 0.165, y, unit * 0.225, unit * 0.18)
    )
    canvas.paint(pads - 0.006, fur * 0.70, 0.5, softness=0.02)
    canvas.paint(pads, cream * (1.0 - 0.12 * ramp(y, -0.2 * unit, 0.3 * unit)))
    nose_x, nose_y = head.local(canvas, spots["nose"])
    canvas.paint(capsule(nose_x, nose_y, 0.0, 0.0, 0.0, 0.20 * unit, 0.014 * unit), fur * 0.50, 0.9)
    canvas.paint(ellipse(nose_x, nose_y + 0.28 * unit, unit * 0.11, unit * 0.34), cream, 0.35, softness=0.04)
    nose = polygon(nose_x, nose_y, [(-0.095 * unit, -0.055 * unit), (0.095 * unit, -0.055 * unit), (0.0, 0.06 * unit)])
    pink = hsv(0.97 + 0.02 * p["fur"], 0.42, 0.82)
    canvas.paint(nose - 0.028 * unit, pink)
    gleam = ellipse(nose_x + 0.03 * unit, nose_y + 0.035 * unit, 0.05 * unit, 0.022 * unit)
    canvas.paint(gleam, torch.ones_like(pink), 0.55, softness=0.008)
    for side in (-1, 1):
        for rise in (-0.05, 0.08):
            start_x, end_x = side * 0.22 * unit, side * 0.86 * unit
            whisker = capsule(x, y, start_x, 0.3 * rise * unit, end_x, (rise - 0.03) * unit, 0.009 * unit)
            canvas.paint(whisker, torch.ones_like(fur), 0.75)


def paint_eye(canvas: Canvas, head: Ball, spot: Spot, p: dict[str, Tensor], fur: Tensor) -> None:
    """Paint an eye with its pupil and its light."""
    x, y = head.local(canvas, spot)
    unit = head.radius_x
    almond = torch.maximum(length(x, y - unit * 0.07) - unit * 0.235, length(x, y + unit * 0.07) - unit * 0.235)
    canvas.blend(0.30 * glow(length(x, y), unit * 0.30), mix(fur, torch.ones_like(fur), 0.6))
    canvas.paint(almond - 0.014, fur * 0.22)
    iris = hsv(0.12 + 0.32 * p["iris"], 0.46, 0.80)
    canvas.paint(almond, iris * (1.10 - 0.30 * ramp(-y, -0.12 * unit, 0.16 * unit)))
    gaze = x - unit * 0.05 * torch.sin(head.yaw)
    pupil = ellipse(gaze, y, unit * (0.055 + 0.065 * p["pupil"]), unit * 0.160)
    canvas.paint(torch.maximum(almond, pupil), iris * 0.10)
    canvas.paint(length(gaze + 0.055 * unit, y + 0.065 * unit) - 0.042 * unit, torch.ones_like(fur), 0.95)
