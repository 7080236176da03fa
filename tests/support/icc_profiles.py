"""Small colour profiles (ICC.1:2001, version 2): primaries or grey with a gamma, or inks by their corners."""

import itertools
import struct
from collections.abc import Callable

# The primaries of Display P3 seen from D50, the profile connection space's white: red, green, blue in XYZ.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries, gamma: float = 2.2) -> bytes:
    """Return a display profile of these primaries."""
    tags = {f"{name}XYZ": _xyz(place) for name, place in zip("rgb", primaries, strict=True)}
    return _profile("RGB ", tags | {f"{name}TRC": _curve(gamma) for name in "rgb"})


def grey_profile(gamma: float) -> bytes:
    """Return a profile of grey."""
    return _profile("GRAY", {"kTRC": _curve(gamma)})


def cmyk_profile(look: Callable[[tuple[int, ...]], tuple[float, float, float]]) -> bytes:
    """Return a profile of four inks. look: the L*a*b* of a corner, (c, m, y, k), each 0 or 1; linear between them."""
    corners = (look(inks) for inks in itertools.product((0, 1), repeat=4))
    table = b"".join(bytes((round(light * 2.55), round(a) + 128, round(b) + 128)) for light, a, b in corners)
    straight = bytes(range(256))
    identity = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    content = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + straight * 4 + table + straight * 3
    return _profile("CMYK", {"A2B0": content}, b"prtr", b"Lab ")


def _profile(space: str, tags: dict[str, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    text = b"for tests\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {"desc": description, "cprt": b"text" + bytes(4) + text, "wtpt": _xyz(D50), **tags}
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", name.encode(), offset + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", offset + len(data), bytes(4), 0x02100000, kind, space.encode(), connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + data


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
