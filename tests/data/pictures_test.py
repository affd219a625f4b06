import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from optnet_jax.data import pictures
from optnet_jax.errors import InputError

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 5, 7
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY, ALPHA = (RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8) for _ in range(2))
SIXTEEN = RNG.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
PALETTE = RNG.integers(0, 256, (4, 3), np.uint8)
INDICES = RNG.integers(0, 4, (HEIGHT, WIDTH), np.uint8)


def loaded(file):
    picture = pictures.load(file)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def on_white(pixels, alpha):
    share = alpha[..., None] / 255
    return share * pixels + (1 - share) * 255


def grey(levels):
    return np.repeat(np.asarray(levels)[..., None], 3, axis=-1)


def paletted(**options):
    image = Image.frombytes("P", (WIDTH, HEIGHT), INDICES.tobytes())
    image.putpalette(PALETTE.tobytes())
    image.info.update(options)
    return image


def cmyk():
    inks = np.concatenate([COLOUR, GREY[..., None]], axis=-1)
    rgb = (255 - COLOUR.astype(float)) * (255 - GREY[..., None].astype(float)) / 255
    return Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes()), rgb


TRANSPARENT = np.array([255, 0, 128, 255], np.uint8)

KINDS = {
    "colour.png": (Image.fromarray(COLOUR), COLOUR),
    "colour.bmp": (Image.fromarray(COLOUR), COLOUR),
    "colour.tif": (Image.fromarray(COLOUR), COLOUR),
    "grey.png": (Image.fromarray(GREY), grey(GREY)),
    "16 bits.png": (Image.fromarray(SIXTEEN), grey(np.rint(SIXTEEN / 257))),
    "16 bits.tif": (Image.fromarray(SIXTEEN), grey(np.rint(SIXTEEN / 257))),
    "one bit.png": (
        Image.fromarray(GREY > 127),
        grey(np.where(GREY > 127, 255, 0)),
    ),
    "palette.png": (paletted(), PALETTE[INDICES]),
    "palette.gif": (paletted(), PALETTE[INDICES]),
    "palette with a clear colour.gif": (
        paletted(transparency=1),
        np.where(INDICES[..., None] == 1, 255, PALETTE[INDICES]),
    ),
    "palette with alpha.png": (
        paletted(transparency=TRANSPARENT.tobytes()),
        on_white(PALETTE[INDICES], TRANSPARENT[INDICES]),
    ),
    "alpha.png": (
        Image.fromarray(np.dstack([COLOUR, ALPHA])),
        on_white(COLOUR, ALPHA),
    ),
    "grey and alpha.png": (
        Image.fromarray(np.dstack([GREY, ALPHA])),
        on_white(grey(GREY), ALPHA),
    ),
    "inks.tif": cmyk(),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_picture_is_what_one_sees(name, tmp_path):
    image, seen = KINDS[name]
    keep = {k: v for k, v in image.info.items() if k == "transparency"}
    image.save(tmp_path / name, **keep)
    np.testing.assert_allclose(loaded(tmp_path / name), seen, atol=1)


def test_sixteen_bits_are_read_also_where_another_program_wrote_them(tmp_path):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in SIXTEEN)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    for kind, body in chunks.items():
        checksum = zlib.crc32(kind + body)
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
    (tmp_path / "grey.png").write_bytes(png)
    expected = grey(np.rint(SIXTEEN / 257))
    np.testing.assert_array_equal(loaded(tmp_path / "grey.png"), expected)


@pytest.mark.parametrize("level", [1, 200, 255])
def test_whole_numbers_that_may_be_of_either_size_are_refused(tmp_path, level):
    dark = Image.fromarray(np.full((HEIGHT, WIDTH), level, np.int32))
    dark.save(tmp_path / "dark.tif")
    for picture in (dark, tmp_path / "dark.tif"):
        with pytest.raises(InputError, match=r"of 8 bits or of 16: save it as either"):
            pictures.load(picture, "dark")
    # A format may tell: that of a PGM whose white is not 255.
    dark.save(tmp_path / "dark.pgm")
    assert (loaded(tmp_path / "dark.pgm") == round(level / 257)).all()
    for image in (Image.fromarray(SIXTEEN.astype(np.int32)), Image.new("I", (5, 7))):
        image.save(tmp_path / "plain.tif")
        expected = grey(np.rint(np.asarray(image) / 257))
        np.testing.assert_array_equal(loaded(tmp_path / "plain.tif"), expected)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_camera_takes_an_upright_picture(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    found = loaded(tmp_path / "a.png")
    np.testing.assert_array_equal(found, TURNS[orientation](COLOUR))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_near_what_was_saved(mode, tmp_path):
    ramp = np.linspace(30, 220, 32).astype(np.uint8)
    image = Image.fromarray(grey(np.tile(ramp, (32, 1)))).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    seen = grey(np.tile(ramp.astype(int), (32, 1)))
    np.testing.assert_allclose(loaded(tmp_path / "a.jpg"), seen, atol=4)


def test_of_an_animation_it_is_the_first_picture(tmp_path):
    first, second = (Image.fromarray(grey(GREY).astype(np.uint8)) for _ in range(2))
    second = second.point(lambda level: 255 - level)
    first.save(
        tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True
    )
    np.testing.assert_array_equal(loaded(tmp_path / "a.webp"), grey(GREY))


def test_what_cannot_be_read_is_named_in_one_line(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.tile(COLOUR, (20, 20, 1))).save(whole)
    wrongs = {
        "text.png": b"no picture",
        "empty.jpg": b"",
        "zeros.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "cut off.jpg": whole.read_bytes()[:2000],
        "signed.tif": None,
        "pipe.png": None,
        "folder.png": None,
    }
    Image.fromarray(SIXTEEN.astype(np.int32) - 40000).save(tmp_path / "signed.tif")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, content in wrongs.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            pictures.load(tmp_path / name)
        message = str(caught.value)
        start = f"{tmp_path / name} is not a readable picture ("
        assert message.startswith(start)
        assert "\n" not in message
        assert message.count(name) == 1
        assert ("(it is empty)" in message) is (name == "empty.jpg")
    with pytest.raises(InputError, match=r"gone.png.*\(No such file or directory\)"):
        pictures.load(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"^image 3 is not .* \(it has no pixels\)"):
        pictures.load(Image.new("L", (0, 8)), "image 3")


def test_a_large_picture_is_made_smaller_and_a_small_one_left_alone():
    small, large = Image.new("RGB", (30, 50)), Image.new("RGB", (300, 500))
    assert pictures.within(small, 30) is small
    assert pictures.within(large, 30).size == (30, 50)
    assert pictures.within(Image.new("RGB", (40, 4000)), 20).size == (20, 2000)
