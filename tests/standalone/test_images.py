"""Reading pictures of every kind, and refusing what is none."""

import numpy
import pytest
import torch
from PIL import Image
from png_claiming import png_claiming

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.standalone import images
from dragnoise_core.standalone.images import fit, load_image, load_mask, unfit

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_colours(mode="RGB"):
    """Left half red, right half blue, 40 x 20."""
    picture = Image.new("RGB", (40, 20), RED)
    picture.paste(BLUE, (20, 0, 40, 20))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("P", "gif"), ("RGB", "bmp"), ("RGB", "webp"), ("RGB", "ppm"),
     ("CMYK", "tiff"), ("YCbCr", "jpg"), ("RGB", "tga")],
)  # fmt: skip
def test_colour_modes_come_back_as_they_look(tmp_path, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    two_colours(mode).save(path)
    loaded = load_image(path)
    assert loaded.mode == "RGB" and loaded.size == (40, 20)
    for place, colour in (((5, 10), RED), ((35, 10), BLUE)):
        assert numpy.abs(numpy.subtract(loaded.getpixel(place), colour)).max() <= 8


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_modes(tmp_path, mode):
    Image.linear_gradient("L").convert(mode).save(tmp_path / "grey.png")
    loaded = numpy.asarray(load_image(tmp_path / "grey.png"))
    assert (loaded[0] == 0).all() and (loaded[-1] == 255).all() and (loaded[..., 0] == loaded[..., 2]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    values = numpy.array([[0, 257, 128 * 257, 65535]], dtype=numpy.uint16).repeat(4, 0)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert numpy.asarray(load_image(tmp_path / f"deep.{suffix}"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparent_is_white_in_pictures_and_unchangeable_in_masks(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)
    assert load_mask(tmp_path / "clear.png").max() == 0
    Image.new("RGB", (8, 8), RED).quantize(2).save(tmp_path / "palette.png", transparency=0)
    assert load_image(tmp_path / "palette.png").getpixel((4, 4)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    two_colours().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    loaded = load_image(tmp_path / "turned.jpg")
    assert loaded.size == (20, 40)
    assert loaded.getpixel((10, 5))[0] > 200 and loaded.getpixel((10, 35))[2] > 200


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (9, 9), RED), Image.new("RGB", (9, 9), BLUE)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "two.gif").getpixel((4, 4)) == RED


def test_mask_values(tmp_path):
    two = Image.new("L", (6, 4), 0)
    two.paste(255, (0, 0, 3, 4))
    two.save(tmp_path / "mask.png")
    mask = load_mask(tmp_path / "mask.png")
    assert mask.shape == (4, 6) and mask.dtype == torch.float32
    assert (mask[:, :3] == 1).all() and (mask[:, 3:] == 0).all()


@pytest.mark.parametrize("size", [(333, 217), (4000, 300), (37, 500), (512, 512), (1, 1)])
@pytest.mark.parametrize("native", [256, 512, 1024])
def test_fitted_pictures_have_the_native_area_and_the_same_shape(size, native):
    fitted = fit(Image.new("RGB", size), native)
    assert fitted.width % 8 == 0 and fitted.height % 8 == 0
    assert fitted.width * fitted.height == pytest.approx(native**2, rel=0.1)
    assert fitted.width / fitted.height == pytest.approx(size[0] / size[1], rel=0.1)
    assert unfit(fitted, size).size == size


def test_nothing_is_resampled_without_need():
    picture = two_colours().resize((256, 256))
    assert fit(picture, 256) is picture and unfit(picture, (256, 256)) is picture


def test_very_long_pictures_are_refused():
    with pytest.raises(DragNoiseError, match="1700 x 100; crop"):
        fit(Image.new("RGB", (1700, 100)), 512)


@pytest.mark.parametrize("size", [(60000, 60000), (9000, 9000), (8001, 8000)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, monkeypatch, size):
    (tmp_path / "bomb.png").write_bytes(png_claiming(*size))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DragNoiseError, match="megapixels"):
        load_image(tmp_path / "bomb.png")


def truncated(folder):
    pixels = numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(folder / "whole.png")
    return (folder / "whole.png").read_bytes()[:5000]


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", None])
def test_files_that_are_no_pictures_are_refused(tmp_path, content):
    path = tmp_path / "file.png"
    path.write_bytes(truncated(tmp_path) if content is None else content)
    with pytest.raises(DragNoiseError, match="is damaged" if content is None else "no picture that can be read"):
        load_image(path)


def test_missing_and_huge_files_are_refused(tmp_path, monkeypatch):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(DragNoiseError, match="no picture at"):
            load_image(path)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 2**20)
    (tmp_path / "huge.png").write_bytes(bytes(2**20 + 1))
    with pytest.raises(DragNoiseError, match="larger than"):
        load_image(tmp_path / "huge.png")


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(numpy.zeros((4, 4), dtype=numpy.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DragNoiseError, match="floating point"):
        load_image(tmp_path / "float.tiff")
