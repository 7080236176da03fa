"""Drawing primitives of the demo scenes: signed distances, colours and a canvas that paints a batch at once.

Lengths are fractions of the picture's side, x right and y down, angles are radians. Geometry arguments are tensors
that broadcast to [count, 1, height, width], colours to [count, 3, height, width] with values in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EDGE_PIXELS = 1.6  # width of the ramp that smooths every edge; thinner ramps alias, wider ones look blurred


class Canvas:
    """A batch of square pictures being painted, with the coordinates of their pixel centres."""

    def __init__(self, count: int, size: int, device: torch.device | str = "cpu"):
        centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
        self.x = centres.view(1, 1, 1, size)
        self.y = centres.view(1, 1, size, 1)
        self.pixel = 1 / size
        self.image = torch.zeros(count, 3, size, size, device=device)

    def fill(self, colour: Tensor) -> None:
        """Cover the whole picture with `colour`."""
        self.image = colour.expand_as(self.image).clone()

    def paint(self, distance: Tensor, colour: Tensor, opacity: Tensor | float = 1.0, softness: float = 0.0) -> None:
        """Paint where the signed `distance` is negative; `softness` widens the edge for shadows and glows."""
        self.blend(coverage(distance, softness + EDGE_PIXELS * self.pixel) * opacity, colour)

    def blend(self, weight: Tensor, colour: Tensor) -> None:
        """Mix `colour` over the picture with the given weight in [0, 1]."""
        self.image = torch.lerp(self.image, colour, weight)

    def finished(self) -> Tensor:
        return self.image.clamp(0, 1)


def coverage(distance: Tensor, width: float) -> Tensor:
    """Return 1 inside, 0 outside, and a smooth step of the given width between."""
    inside = (0.5 - distance / width).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def ramp(value: Tensor, start: Tensor | float, end: Tensor | float) -> Tensor:
    """Return 0 before `start`, 1 after `end`, and a smooth step between."""
    t = ((value - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def glow(distance: Tensor, radius: Tensor | float) -> Tensor:
    """Return a soft bell of the given radius, 1 at distance 0."""
    return torch.exp(-((distance / radius) ** 2))


def rotated(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vector (x, y) turned by `angle`, clockwise on screen for positive angles."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return cosine * x - sine * y, sine * x + cosine * y


def length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y + 1e-12)


def ellipse(x: Tensor, y: Tensor, radius_x: Tensor | float, radius_y: Tensor | float) -> Tensor:
    """Return the first-order signed distance to an axis-parallel ellipse around the origin."""
    scaled_x, scaled_y = x / radius_x, y / radius_y
    value = length(scaled_x, scaled_y)
    return value * (value - 1) / length(scaled_x / radius_x, scaled_y / radius_y)


def capsule(x: Tensor, y: Tensor, x0, y0, x1, y1, radius: Tensor | float) -> Tensor:
    """Return the signed distance to the segment (x0, y0)-(x1, y1) thickened by `radius`."""
    along_x, along_y = x1 - x0, y1 - y0
    t = (((x - x0) * along_x + (y - y0) * along_y) / (along_x * along_x + along_y * along_y + 1e-9)).clamp(0, 1)
    return length(x - x0 - t * along_x, y - y0 - t * along_y) - radius


def polygon(x: Tensor, y: Tensor, corners: list[tuple]) -> Tensor:
    """Return a bound of the signed distance to a convex polygon, its corners in clockwise order on screen."""
    sides = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        edge_x, edge_y = x1 - x0, y1 - y0
        sides.append(((x - x0) * edge_y - (y - y0) * edge_x) / ((edge_x * edge_x + edge_y * edge_y) ** 0.5 + 1e-9))
    distance = sides[0]
    for side in sides[1:]:
        distance = torch.maximum(distance, side)
    return distance


def smooth_union(first: Tensor, second: Tensor, blend: float) -> Tensor:
    """Return the union of two shapes, its seam rounded over the length `blend`."""
    overlap = (0.5 + 0.5 * (second - first) / blend).clamp(0, 1)
    return torch.lerp(second, first, overlap) - blend * overlap * (1 - overlap)


def hsv(hue: Tensor, saturation: Tensor | float, value: Tensor | float) -> Tensor:
    """Return the colour, [..., 3, ., .], of a hue (in turns, wraps), saturation and value in [0, 1]."""
    saturation, value = torch.as_tensor(saturation), torch.as_tensor(value)
    channels = []
    for offset in (5, 3, 1):
        sector = (offset + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1))
    return torch.cat(torch.broadcast_tensors(*channels), dim=1)


def mix(first: Tensor, second: Tensor, weight: Tensor | float) -> Tensor:
    return first + (second - first) * weight


@dataclass
class Spot:
    """A place on a turned ball: where it is seen, and how narrow (0 to 1) the turn makes what is drawn there."""

    x: Tensor
    y: Tensor
    narrow_x: Tensor
    narrow_y: Tensor


@dataclass
class Ball:
    """An ellipsoid head seen from far away; features sit at a longitude and latitude of its surface.

    Positive yaw turns the front to the right of the picture, positive pitch down, positive roll tilts clockwise.
    """

    x: Tensor
    y: Tensor
    radius_x: Tensor
    radius_y: Tensor
    yaw: Tensor
    pitch: Tensor
    roll: Tensor

    def spot(self, longitude: float | Tensor, latitude: float | Tensor, lift: float | Tensor = 1.0) -> Spot:
        """Return a surface point in orthographic projection; with `lift` above 1 it stands out, as a nose does."""
        longitude = longitude + self.yaw
        latitude = torch.as_tensor(latitude, dtype=torch.float32)
        right, up = torch.cos(latitude) * torch.sin(longitude), torch.sin(latitude)
        front = torch.cos(latitude) * torch.cos(longitude)
        down = -up * torch.cos(self.pitch) + front * torch.sin(self.pitch)
        x, y = rotated(right * lift * self.radius_x, down * lift * self.radius_y, self.roll)
        narrow_y = torch.sqrt((1 - down * down).clamp(min=0.04))
        return Spot(self.x + x, self.y + y, torch.cos(longitude).clamp(min=0.2), narrow_y)

    def local(self, canvas: Canvas, spot: Spot) -> tuple[Tensor, Tensor]:
        """Return pixel coordinates around the spot, upright with the head, widened where the turn narrows them."""
        x, y = rotated(canvas.x - spot.x, canvas.y - spot.y, -self.roll)
        return x / spot.narrow_x, y / spot.narrow_y

    def upright(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        """Return pixel coordinates around the head's centre, upright with the head."""
        return rotated(canvas.x - self.x, canvas.y - self.y, -self.roll)

    def shading(self, canvas: Canvas, light: tuple[float, float, float] = (-0.45, -0.6, 0.66)) -> Tensor:
        """Return the brightness, around 1, of a matte ball lit from the upper left."""
        x, y = (canvas.x - self.x) / (1.25 * self.radius_x), (canvas.y - self.y) / (1.25 * self.radius_y)
        z = torch.sqrt((1 - x * x - y * y).clamp(min=0.02))
        facing = (x * light[0] + y * light[1] + z * light[2]) / math.sqrt(sum(value * value for value in light))
        return 0.84 + 0.22 * facing
