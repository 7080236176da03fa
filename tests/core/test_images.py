"""Reading pictures of every kind, and refusing what is none."""

import io
import struct

import numpy
import pytest
import torch
from icc_profiles import D50, DISPLAY_P3, cmyk_profile, grey_profile, rgb_profile
from PIL import Image, ImageCms, ImageOps
from png_claiming import png_claiming

from dragnoise_core import images
from dragnoise_core.drawing import save_picture
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.images import fit, load_image, load_mask, unfit

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


def test_transparent_is_white_in_pictures_and_may_change_in_masks(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)
    assert load_mask(tmp_path / "clear.png").min() == 1
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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_masks_of_the_hosts_mask_editor_are_read_by_their_transparency(tmp_path, mode):
    picture = two_colours("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((40, 20)))
    picture = picture.convert("LA") if mode == "LA" else picture
    if mode == "PA":
        picture = picture.quantize(8)
    picture.save(tmp_path / "painted.png")
    mask = load_mask(tmp_path / "painted.png")
    assert mask[0].mean() > 0.8 and mask[-1].mean() < 0.2


def test_masks_of_sixteen_bits_keep_their_values(tmp_path):
    values = numpy.array([[0, 1, 255, 256, 300, 32768, 65535]], dtype=numpy.uint16).repeat(2, 0)
    for suffix in ("png", "tiff"):
        Image.fromarray(values).save(tmp_path / f"mask.{suffix}")
        torch.testing.assert_close(load_mask(tmp_path / f"mask.{suffix}"), torch.from_numpy(values / 65535).float())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_what_the_library_makes_of_them(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = two_colours()
    corner.paste((0, 255, 0), (0, 0, 8, 8))
    corner.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        wanted = numpy.asarray(ImageOps.exif_transpose(picture))
    assert (numpy.asarray(load_image(tmp_path / "turned.png")) == wanted).all()


def broken_exif(kind):
    """EXIF blocks that stop Pillow's own turning or reading."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    if kind == "description is a fraction":
        # Two entries: the orientation, and an ImageDescription of type RATIONAL, whose value lies outside the block.
        entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x010E, 5, 1, 38)
        block = b"II*\x00" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<II", 1, 26)
        return b"Exif\x00\x00" + block
    return {"cut short": whole[: len(whole) // 2], "noise": b"Exif\x00\x00" + b"\xff" * 40, "empty": b"Exif\x00\x00"}[
        kind
    ]


@pytest.mark.parametrize("kind", ["description is a fraction", "cut short", "noise", "empty"])
def test_a_broken_exif_block_does_not_stop_a_whole_picture(tmp_path, kind, recwarn):
    two_colours().save(tmp_path / "picture.jpg", exif=broken_exif(kind), quality=95)
    loaded = load_image(tmp_path / "picture.jpg")
    assert loaded.size == ((20, 40) if kind == "description is a fraction" else (40, 20))
    assert not recwarn.list


def lab(picture, profile):
    """A picture in CIE Lab by the profile that goes with it, for colour differences."""
    to = ImageCms.createProfile("LAB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("sRGB")
    pixels = numpy.asarray(ImageCms.profileToProfile(picture, source, to, outputMode="LAB")).astype(float)
    pixels[..., 1:] = (pixels[..., 1:] + 128) % 256 - 128  # a and b are signed
    return pixels * (100 / 255, 1, 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_an_rgb_profile_goes_with_the_picture_from_file_to_file(tmp_path, suffix):
    profile, picture = rgb_profile(DISPLAY_P3), two_colours()
    picture.save(tmp_path / "p3.png", icc_profile=profile)
    loaded = load_image(tmp_path / "p3.png")
    assert loaded.tobytes() == picture.tobytes()
    save_picture(loaded, tmp_path / f"out.{suffix}")
    with Image.open(tmp_path / f"out.{suffix}") as written:
        assert written.info["icc_profile"] == profile


def test_formats_without_profiles_get_srgb(tmp_path):
    profile, picture = rgb_profile(DISPLAY_P3), Image.new("RGB", (8, 8), (180, 120, 90))
    picture.save(tmp_path / "p3.png", icc_profile=profile)
    save_picture(load_image(tmp_path / "p3.png"), tmp_path / "out.bmp")
    written = Image.open(tmp_path / "out.bmp")
    assert numpy.abs(lab(written, None) - lab(picture, profile)).max() < 2
    assert written.getpixel((0, 0)) != picture.getpixel((0, 0))


def test_a_grey_profile_is_converted_by_its_curve(tmp_path):
    # Grey of gamma 1: half the light. In sRGB half the light is 188.
    for mode, value in (("L", 128), ("LA", (128, 255))):
        Image.new(mode, (4, 4), value).save(tmp_path / "grey.png", icc_profile=grey_profile(1.0))
        loaded = load_image(tmp_path / "grey.png")
        assert numpy.abs(numpy.subtract(loaded.getpixel((0, 0)), 188)).max() <= 1 and not loaded.info


def test_a_grey_picture_with_an_rgb_profile_keeps_it(tmp_path):
    Image.new("L", (4, 4), 100).save(tmp_path / "grey.png", icc_profile=rgb_profile(DISPLAY_P3))
    loaded = load_image(tmp_path / "grey.png")
    assert loaded.getpixel((0, 0)) == (100, 100, 100) and loaded.info["icc_profile"] == rgb_profile(DISPLAY_P3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P"])
@pytest.mark.parametrize("profile", [b"no profile", b"", rgb_profile(DISPLAY_P3)[:200], grey_profile(2.2)])
def test_a_profile_that_cannot_be_used_is_left_out(tmp_path, mode, profile):
    picture = two_colours(mode)
    picture.save(tmp_path / "picture.tiff", icc_profile=profile)
    loaded = load_image(tmp_path / "picture.tiff")
    assert loaded.mode == "RGB" and not loaded.info
    if mode != "L":  # which the grey profile fits
        assert loaded.getpixel((5, 5)) == picture.convert("RGB").getpixel((5, 5))


def test_lab_pictures_are_converted(tmp_path):
    source = two_colours()
    to = ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(source, ImageCms.createProfile("sRGB"), to, outputMode="LAB").save(tmp_path / "lab.tiff")
    difference = numpy.subtract(load_image(tmp_path / "lab.tiff").getpixel((5, 5)), source.getpixel((5, 5)))
    assert numpy.abs(difference).max() < 12  # eight bits of Lab are coarse


def test_grey_of_more_than_16_bits_is_refused_rather_than_cut(tmp_path):
    Image.fromarray(numpy.full((4, 4), 70000, numpy.int32)).save(tmp_path / "deep.tiff")
    for load in (load_image, load_mask):
        with pytest.raises(DragNoiseError, match="16 bits"):
            load(tmp_path / "deep.tiff")


INKS = {(1, 0, 0, 0): (62, -20, -20), (0, 1, 0, 0): (55, 45, 0), (0, 0, 1, 0): (90, -5, 60), (0, 0, 0, 1): (12, 0, 0)}


def seen(light, a, b):
    """Return the sRGB colour, [3] in 0 to 255, of L*a*b* under D50 (CIE 15; IEC 61966-2-1, adapted by Bradford)."""
    height = (light + 16) / 116
    roots = numpy.array([height + a / 500, height, height - b / 200])
    xyz = numpy.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * D50
    to_rgb = [[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]
    linear = (numpy.array(to_rgb) @ xyz).clip(0, 1)
    return numpy.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize("suffix", ["tiff", "jpg"])
def test_printers_inks_are_converted_by_their_own_profile(tmp_path, suffix):
    profile = cmyk_profile(lambda inks: INKS.get(inks, (100, 0, 0) if not any(inks) else (30, 0, 0)))
    for inks, look in {(0, 0, 0, 0): (100, 0, 0), **INKS}.items():
        picture = Image.new("CMYK", (16, 16), tuple(255 * ink for ink in inks))
        picture.save(tmp_path / f"inks.{suffix}", icc_profile=profile)
        loaded = load_image(tmp_path / f"inks.{suffix}")
        assert "icc_profile" not in loaded.info
        numpy.testing.assert_allclose(loaded.getpixel((8, 8)), seen(*look), atol=3)
