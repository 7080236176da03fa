"""Drawing over pictures: the right colours in the right places, on any size, and files that appear whole."""

import numpy
import pytest
import torch
from PIL import Image

from dragnoise_core import drawing
from dragnoise_core.drawing import contact_sheet, draw_drag, save_gif, save_picture, to_picture, to_tensor
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints


def grey(width, height):
    return Image.new("RGB", (width, height), (128, 128, 128))


def centroid(picture, colour):
    """Centre, in pixels with centres at +0.5, of what is nearly `colour`."""
    near = (numpy.abs(numpy.asarray(picture).astype(int) - colour) < 40).all(-1)
    rows, columns = near.nonzero()
    return columns.mean() + 0.5, rows.mean() + 0.5


@pytest.mark.parametrize("size", [(512, 512), (333, 217), (64, 48)])
def test_dots_are_centred_on_their_points(size):
    handle, target = (size[0] * 0.3, size[1] * 0.4), (size[0] * 0.7, size[1] * 0.6)
    drawn = draw_drag(grey(*size), DragPoints.from_pairs([(handle, target)], *size))
    assert centroid(drawn, drawing.HANDLE) == pytest.approx(handle, abs=0.6)
    assert centroid(drawn, drawing.TARGET) == pytest.approx(target, abs=0.6)


def test_points_of_another_size_are_scaled():
    points = DragPoints.from_pairs([((100, 100), (300, 300))], 400, 400)
    assert centroid(draw_drag(grey(200, 100), points), drawing.HANDLE) == pytest.approx((50, 25), abs=0.6)


def test_with_a_path_the_handle_is_drawn_where_the_path_ends():
    points = DragPoints.from_pairs([((40, 40), (200, 40))], 256, 256)
    path = torch.tensor([[[40.0, 40.0]], [[80.0, 120.0]], [[120.0, 180.0]]])
    drawn = draw_drag(grey(256, 256), points, path=path)
    assert centroid(drawn, drawing.HANDLE) == pytest.approx((120, 180), abs=0.6)
    assert drawn.getpixel((80, 120)) == drawing.PATH


def test_a_reach_is_a_ring_and_a_pin_a_mark_where_they_are():
    points = DragPoints.from_pairs([((100, 100), (110, 100))], 256, 256, [60], [(220, 40)])
    drawn = draw_drag(grey(256, 256), points)
    changed = (numpy.asarray(drawn) != 128).any(-1)
    rows, columns = changed.nonzero()
    radius = numpy.hypot(columns + 0.5 - 100, rows + 0.5 - 100)
    angles = numpy.degrees(numpy.arctan2(rows - 99.5, columns - 99.5))[numpy.abs(radius - 60) < 1].astype(int)
    assert len(set(angles)) > 350, "the ring is closed"
    assert not ((radius > 24) & (radius < 56)).any() and not ((radius > 64) & (radius < 120)).any()
    assert centroid(drawn, drawing.PIN) == pytest.approx((220, 40), abs=0.6)


@pytest.mark.parametrize("reach", [0.01, 700, 65536])
def test_any_reach_can_be_drawn(reach):
    points = DragPoints.from_pairs([((32, 24), (40, 24))], 64, 48, [reach])
    assert draw_drag(grey(64, 48), points).size == (64, 48)


def test_only_what_the_mask_names_is_tinted():
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    points = DragPoints.from_pairs([((5, 5), (6, 6))], 64, 64)
    plain, tinted = (numpy.asarray(draw_drag(grey(64, 64), points, mask=m)) for m in (None, mask))
    changed = (plain != tinted).any(-1)
    assert changed[:26, 30:].all() and not changed[38:].any()


@pytest.mark.parametrize("corner", [(0, 0), (64, 0), (0, 48), (64, 48)])
def test_points_on_the_border_and_crowds_can_be_drawn(corner):
    pairs = [(corner, (32.0, 24.0))] * 64
    drawn = draw_drag(grey(64, 48), DragPoints.from_pairs(pairs, 64, 48))
    assert drawn.size == (64, 48) and drawn != grey(64, 48)


def test_the_picture_itself_stays_as_it_is():
    picture = grey(64, 64)
    draw_drag(picture, DragPoints.from_pairs([((10, 10), (50, 50))], 64, 64), mask=torch.ones(4, 4))
    assert picture == grey(64, 64)


def test_tensor_and_picture_are_inverses():
    pixels = numpy.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=numpy.uint8)
    picture = Image.fromarray(pixels)
    tensor = to_tensor(picture)
    assert tensor.shape == (1, 3, 7, 5) and tensor[0, 2, 6, 4] == pixels[6, 4, 2] / numpy.float32(255)
    assert to_picture(tensor) == picture
    assert to_picture(torch.tensor([-1.0, 0.5, 2.0]).reshape(3, 1, 1)).getpixel((0, 0)) == (0, 128, 255)


def test_contact_sheet_shows_every_picture_without_distortion():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    wide = [Image.new("RGB", (80, 40), colour) for colour in colours]
    sheet = numpy.asarray(contact_sheet([wide[:2], wide[2:]], ("one", "two"), side=64))
    for colour in colours:
        assert (sheet == colour).all(-1).sum() == 64 * 32


def test_gif_holds_every_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), (value, 0, 0)) for value in (0, 100, 200)]
    save_gif(frames, tmp_path / "frames.gif")
    with Image.open(tmp_path / "frames.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        gif.seek(2)
        assert abs(gif.convert("RGB").getpixel((5, 5))[0] - 200) < 8


def test_marks_keep_their_colours_in_a_colourful_gif(tmp_path):
    pixels = numpy.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
    picture = Image.fromarray(pixels).resize((256, 256), Image.BICUBIC)
    frame = draw_drag(picture, DragPoints.from_pairs([((60, 60), (200, 180))], 256, 256))
    save_gif([frame] * 20, tmp_path / "marks.gif")
    with Image.open(tmp_path / "marks.gif") as gif:
        shown = gif.convert("RGB")
    for place, colour in (((60, 60), drawing.HANDLE), ((200, 180), drawing.TARGET)):
        assert numpy.abs(numpy.subtract(shown.getpixel(place), colour)).max() < 30


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_the_suffix_decides_the_format(tmp_path, suffix):
    save_picture(grey(16, 8), tmp_path / f"picture.{suffix}")
    with Image.open(tmp_path / f"picture.{suffix}") as picture:
        assert picture.size == (16, 8) and picture.format.lower().startswith(suffix[:2])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def fail(self, file, *arguments, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(DragNoiseError, match="disk full"):
        save_picture(grey(4, 4), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "words"), [("a.xyz", "end it in"), ("a", "end it in"), ("none/a.png", "cannot")])
def test_impossible_outputs_are_refused(tmp_path, name, words):
    with pytest.raises(DragNoiseError, match=words):
        save_picture(grey(4, 4), tmp_path / name)
