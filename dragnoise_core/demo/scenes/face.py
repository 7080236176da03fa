"""A portrait whose head turns, nods, smiles and speaks."""

from __future__ import annotations

import torch
from torch import Tensor

from .painting import Ball, Canvas, Spot, capsule, coverage, ellipse, glow, hsv, length, mix, ramp, smooth_union

PARAMETERS = {
    "x": (0.40, 0.60),
    "y": (0.42, 0.50),
    "size": (0.185, 0.225),
    "yaw": (-0.52, 0.52),
    "pitch": (-0.25, 0.28),
    "width": (0.94, 1.06),
    "mouth_open": (0.0, 1.0),
    "smile": (-0.5, 1.0),
    "brow": (-1.0, 1.0),
    "skin": (0.0, 1.0),
    "hair": (0.0, 1.0),
    "hair_length": (0.0, 1.0),
    "iris": (0.0, 1.0),
    "background": (0.0, 1.0),
    "shirt": (0.0, 1.0),
}
KEYPOINTS = ("nose", "left_eye", "right_eye", "mouth", "left_mouth_corner", "right_mouth_corner", "chin")


def geometry(p: dict[str, Tensor]) -> tuple[Ball, dict[str, Spot]]:
    """Return the head and the places of its parts."""
    upright = torch.zeros_like(p["x"])
    head = Ball(p["x"], p["y"], p["size"] * p["width"], p["size"] * 1.26, p["yaw"], p["pitch"], upright)
    mouth_half_width = 0.27 + 0.07 * p["smile"]
    drop = 0.10 * p["mouth_open"]
    corner = -0.50 + 0.09 * p["smile"] - 0.3 * drop
    spots = {
        "nose": head.spot(0.0, -0.17, 1.20),
        "left_eye": head.spot(-0.42, 0.06, 0.98),
        "right_eye": head.spot(0.42, 0.06, 0.98),
        "mouth": head.spot(0.0, -0.54 - 0.5 * drop, 1.04),
        "left_mouth_corner": head.spot(-mouth_half_width, corner, 1.0),
        "right_mouth_corner": head.spot(mouth_half_width, corner, 1.0),
        "chin": head.spot(0.0, -1.10 - drop, 1.06),
    }
    return head, spots


def keypoints(p: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the places of the named keypoints, [count, 2] in fractions of the picture's side."""
    spots = geometry(p)[1]
    return {name: torch.cat([spots[name].x, spots[name].y], 1).flatten(1) for name in KEYPOINTS}


def paint(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint scenes, back to front. canvas: blank; it is painted over. p: parameters, [count, 1, 1, 1] each."""
    head, spots = geometry(p)
    skin = hsv(0.045 + 0.025 * p["skin"], 0.30 + 0.26 * p["skin"], 0.97 - 0.38 * p["skin"])
    hair = hsv(0.035 + 0.07 * p["hair"], 0.62 - 0.12 * p["hair"], 0.22 + 0.56 * p["hair"] ** 1.5)
    paint_background(canvas, p)
    paint_hair_behind(canvas, head, p, hair)
    paint_body(canvas, head, p, skin)
    paint_ears(canvas, head, skin)
    outline = paint_head(canvas, head, spots, skin)
    for side in ("left", "right"):
        paint_eye(canvas, head, spots[side + "_eye"], p, skin)
        paint_brow(canvas, head, side, p, hair)
    paint_nose(canvas, head, spots["nose"], skin)
    paint_mouth(canvas, head, spots, p, skin)
    paint_fringe(canvas, head, hair, skin, outline)


def paint_background(canvas: Canvas, p: dict[str, Tensor]) -> None:
    """Paint the wall and the light on it."""
    hue = p["background"]
    canvas.fill(mix(hsv(hue, 0.20, 0.96), hsv(hue + 0.06, 0.36, 0.80), canvas.y))
    canvas.blend(0.35 * glow(length(canvas.x - 0.35, canvas.y - 0.3), 0.45), hsv(hue, 0.08, 1.0))


def paint_hair_behind(canvas: Canvas, head: Ball, p: dict[str, Tensor], hair: Tensor) -> None:
    """Paint the hair that falls behind head and shoulders."""
    # The back of the head lies behind the turning axis, so it swings the other way a little.
    x, y = canvas.x - head.x + 0.16 * head.radius_x * torch.sin(head.yaw), canvas.y - head.y + 0.12 * head.radius_y
    skull = ellipse(x, y, head.radius_x * 1.20, head.radius_y * 1.12)
    end = head.radius_y * (0.35 + 1.15 * p["hair_length"])
    lengths = capsule(x, y, 0.0, 0.0, 0.0, end, head.radius_x * (0.92 + 0.22 * p["hair_length"]))
    canvas.paint(smooth_union(skull, lengths, 0.06), hair * (0.80 + 0.12 * ramp(-x, -0.2, 0.2)))


def paint_body(canvas: Canvas, head: Ball, p: dict[str, Tensor], skin: Tensor) -> None:
    """Paint shoulders, shirt and neck."""
    x, y = canvas.x - head.x, canvas.y - head.y
    neck_x = x - 0.10 * head.radius_x * torch.sin(head.yaw)
    shoulders = ellipse(x, y - 2.35 * head.radius_y, head.radius_x * 2.05, head.radius_y * 1.02)
    shirt = hsv(p["background"] + 0.38 + 0.24 * p["shirt"], 0.42, 0.66)
    canvas.paint(shoulders, shirt * (1.08 - 0.30 * ramp(x, -0.3, 0.4)))
    neckline = ellipse(x, y - 1.42 * head.radius_y, head.radius_x * 0.62, head.radius_y * 0.30)
    canvas.paint(torch.maximum(shoulders, neckline - 0.012), shirt * 0.80)
    neck = capsule(neck_x, y, 0.0, 0.6 * head.radius_y, 0.0, 1.40 * head.radius_y, head.radius_x * 0.44)
    under_chin = ramp(y, 1.55 * head.radius_y, 0.85 * head.radius_y)
    canvas.paint(smooth_union(neck, neckline, 0.03), skin * (0.97 - 0.20 * under_chin))


def paint_ears(canvas: Canvas, head: Ball, skin: Tensor) -> None:
    """Paint both ears."""
    for side in (-1, 1):
        ear = head.spot(side * 1.50, -0.02, 1.04)
        x, y = canvas.x - ear.x, canvas.y - ear.y
        canvas.paint(ellipse(x, y, head.radius_x * 0.17, head.radius_y * 0.20), skin * 0.90)
        canvas.paint(ellipse(x, y, head.radius_x * 0.09, head.radius_y * 0.12), skin * 0.78, softness=0.01)


def paint_head(canvas: Canvas, head: Ball, spots: dict[str, Spot], skin: Tensor) -> Tensor:
    """Paint skull and jaw and return their outline."""
    x, y = head.upright(canvas)
    skull = ellipse(x, y + 0.10 * head.radius_y, head.radius_x, head.radius_y * 0.94)
    jaw_x, jaw_y = spots["chin"].x - head.x, spots["chin"].y - head.y
    jaw = ellipse(x - 0.75 * jaw_x, y - jaw_y + 0.52 * head.radius_y, head.radius_x * 0.78, head.radius_y * 0.54)
    outline = smooth_union(skull, jaw, 0.07)
    shade = head.shading(canvas)
    # The side that turns away from the front gets darker, as on a solid head.
    away = ((x / head.radius_x) * torch.sin(-head.yaw)).clamp(0, 1)
    canvas.paint(outline, skin * (shade - 0.22 * away * away))
    blush = mix(skin, hsv(torch.full_like(head.x, 0.985), 0.55, 0.90), 0.55)
    for side in (-0.62, 0.62):
        cheek = head.spot(side, -0.36, 0.96)
        cheek_x, cheek_y = head.local(canvas, cheek)
        weight = glow(length(cheek_x, cheek_y), head.radius_x * 0.30) * coverage(outline, 0.03)
        canvas.blend(0.42 * weight, blush)
    return outline


def paint_eye(canvas: Canvas, head: Ball, spot: Spot, p: dict[str, Tensor], skin: Tensor) -> None:
    """Paint an eye in its socket."""
    x, y = head.local(canvas, spot)
    unit = head.radius_x
    canvas.blend(0.30 * glow(length(x, y * 1.2), unit * 0.27), skin * 0.72)
    white = torch.maximum(length(x, y - unit * 0.105) - unit * 0.225, length(x, y + unit * 0.105) - unit * 0.225)
    iris_x = x - unit * 0.05 * torch.sin(head.yaw)
    canvas.paint(torch.maximum(white - 0.011, y + unit * 0.02), skin * 0.30)
    canvas.paint(white, torch.full_like(skin, 0.96) - 0.12 * ramp(-y, 0.0, 0.03))
    iris = hsv(0.06 + 0.52 * p["iris"], 0.50, 0.50)
    canvas.paint(torch.maximum(white, length(iris_x, y) - unit * 0.118), iris)
    canvas.paint(length(iris_x, y) - unit * 0.060, iris * 0.22)
    canvas.paint(length(iris_x + unit * 0.045, y + unit * 0.045) - unit * 0.034, torch.ones_like(skin), 0.9)


def paint_brow(canvas: Canvas, head: Ball, side: str, p: dict[str, Tensor], hair: Tensor) -> None:
    """Paint a brow, arched by the parameter `brow`."""
    sign = -1 if side == "left" else 1
    x, y = head.local(canvas, head.spot(sign * 0.43, 0.33 + 0.05 * p["brow"], 1.0))
    unit = head.radius_x
    arch = y - unit * (0.9 * (x / unit) ** 2 - 0.22 * sign * p["brow"] * x / unit)
    canvas.paint(ellipse(x, arch, unit * 0.23, unit * 0.05), hair * 0.72)


def paint_nose(canvas: Canvas, head: Ball, spot: Spot, skin: Tensor) -> None:
    """Paint the nose: its bridge's shadow, its tip and the light on it."""
    unit = head.radius_x
    bridge = head.spot(0.0, 0.12, 1.0)
    shadow_side = unit * (0.075 - 0.05 * torch.sin(head.yaw))
    shadow = capsule(canvas.x - shadow_side, canvas.y, bridge.x, bridge.y, spot.x, spot.y, unit * 0.05)
    canvas.paint(shadow, skin * 0.80, 0.55, softness=0.022)
    x, y = canvas.x - spot.x, canvas.y - spot.y
    canvas.paint(ellipse(x, y - unit * 0.06, unit * 0.19, unit * 0.115), skin * 0.76, 0.8, softness=0.014)
    canvas.paint(ellipse(x, y - unit * 0.005, unit * 0.150, unit * 0.125), skin * 0.97, softness=0.014)
    highlight = capsule(canvas.x + unit * 0.03, canvas.y, bridge.x, bridge.y, spot.x, spot.y - unit * 0.02, unit * 0.03)
    canvas.paint(highlight, mix(skin, torch.ones_like(skin), 0.45), 0.55, softness=0.014)


def paint_mouth(canvas: Canvas, head: Ball, spots: dict[str, Spot], p: dict[str, Tensor], skin: Tensor) -> None:
    """Paint lips and, as far as the mouth is open, teeth and tongue."""
    left, right = spots["left_mouth_corner"], spots["right_mouth_corner"]
    middle_x, middle_y = spots["mouth"].x, spots["mouth"].y
    # Across the mouth: -1 at the left corner, 0 in the middle, 1 at the right, even when a turn narrows one half.
    across = torch.where(
        canvas.x < middle_x, (canvas.x - middle_x) / (middle_x - left.x), (canvas.x - middle_x) / (right.x - middle_x)
    )
    bow = 1 - across * across
    corner_y = 0.5 * (left.y + right.y)
    opening = head.radius_y * (0.006 + 0.115 * p["mouth_open"])
    line = corner_y + (middle_y - corner_y) * bow
    within = (across.abs() - 1) * 0.5 * (right.x - left.x)

    def lens(upper: Tensor, lower: Tensor) -> Tensor:
        centre, half = line + 0.5 * (lower - upper) * bow, 0.5 * (upper + lower) * bow
        return torch.maximum((canvas.y - centre).abs() - half, within)

    lips = mix(skin * 0.80, hsv(torch.full_like(head.x, 0.985), 0.58, 0.78), 0.62)
    lip = head.radius_y * 0.062
    canvas.paint(lens(opening + lip, opening + lip * 1.35), lips)
    canvas.paint(lens(opening, opening), hsv(torch.full_like(head.x, 0.98), 0.62, 0.30))
    teeth = torch.maximum(lens(opening, opening), canvas.y - (line - opening * 0.35))
    canvas.paint(teeth, torch.full_like(skin, 0.96), p["mouth_open"])
    tongue = ellipse(canvas.x - middle_x, canvas.y - middle_y - opening, 0.3 * (right.x - left.x), opening * 0.75)
    pink = hsv(torch.full_like(head.x, 0.98), 0.52, 0.72)
    canvas.paint(torch.maximum(tongue, lens(opening, opening)), pink, p["mouth_open"])


def paint_fringe(canvas: Canvas, head: Ball, hair: Tensor, skin: Tensor, outline: Tensor) -> None:
    """Paint the hair over the forehead. outline: the head's, as `paint_head` returns it."""
    x, y = head.upright(canvas)
    hairline = head.spot(0.0, 0.62, 1.0)
    across = (x - (hairline.x - head.x)) / head.radius_x
    edge = hairline.y - head.y + head.radius_y * (0.42 * across * across + 0.06 * torch.cos(6 * across + 2.0))
    cap = torch.maximum(outline - 0.022, y - edge)
    crown = ellipse(x, y + 0.16 * head.radius_y, head.radius_x * 1.10, head.radius_y * 1.02)
    distance = torch.maximum(torch.minimum(cap, torch.maximum(crown, y - edge)), y - 0.10 * head.radius_y)
    band = glow(length(across + 0.25, (y + 0.72 * head.radius_y) / head.radius_y * 2.4), 0.55)
    canvas.paint(torch.maximum(distance - 0.012, outline), skin * 0.66, 0.45, softness=0.025)
    canvas.paint(distance, mix(hair * (0.98 - 0.14 * ramp(x, -0.1, 0.2)), torch.ones_like(hair), 0.20 * band))
