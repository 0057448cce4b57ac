"""Every kind of image that the web serves, and what becomes of those that are none."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.stages.decode import Decode, DecodeOptions, _reason

SIDE = 32


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise over a gradient, so that every wrong pixel shows."""
    noise = np.random.default_rng(seed).integers(0, 64, (height, width, 3))
    ramp = np.linspace(0, 191, width)[None, :, None]
    return Image.fromarray((noise + ramp).astype(np.uint8))


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (2 * SIDE, 2 * SIDE), left)
    image.paste(right, (SIDE, 0, 2 * SIDE, 2 * SIDE))
    return image


def decode(images: list[bytes | None], statuses: list[str] | None = None, errors=None, **options) -> pa.Table:
    batch = pa.table(
        {
            "image": pa.array(images, pa.large_binary()),
            "status": pa.array(statuses or ["ok"] * len(images), pa.string()),
            "error": pa.array(errors or [None] * len(images), pa.string()),
        }
    )
    stage = Decode(DecodeOptions(**{"size": SIDE, **options}))
    made = stage(batch)
    assert made.schema.equals(stage.provides)
    assert made.num_rows == batch.num_rows
    made.validate(full=True)
    return made


def one(data: bytes | None, status: str = "ok", error: str | None = None, **options) -> dict:
    return decode([data], [status], [error], **options).to_pylist()[0]


def pixels_of(data: bytes, **options) -> np.ndarray:
    row = one(data, **options)
    assert row["status"] == "ok", row["error"]
    side = options.get("size", SIDE)
    return np.frombuffer(row["pixels"], np.uint8).reshape(side, side, 3)


def left_and_right(data: bytes) -> tuple[list[int], list[int]]:
    pixels = pixels_of(data)
    return pixels[SIDE // 2, 2].tolist(), pixels[SIDE // 2, -3].tolist()


# Pixels.


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_open_clips_own(mode: str, interpolation: str) -> None:
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(
        size=SIDE, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation, resize_mode=mode, fill_color=7
    )
    transform = image_transform_v2(config, is_train=False)
    shapes = [
        (32, 32),
        (33, 32),
        (32, 47),
        (300, 201),
        (201, 300),
        (31, 7),
        (5, 9),
        (1, 1),
        (641, 427),
        (64, 63),
        (900, 40),
    ]
    for number, (width, height) in enumerate(shapes):
        image = picture(width, height, number)
        expected = (transform(image) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        found = pixels_of(encoded(image), resize_mode=mode, interpolation=interpolation, fill_color=7)
        np.testing.assert_array_equal(found, expected, err_msg=f"{width} x {height}")


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000), (30_000, 3)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_thread_of_an_image_takes_no_gigabytes(shape: tuple[int, int], mode: str) -> None:
    started = time.monotonic()
    found = pixels_of(encoded(Image.new("RGB", shape, (9, 8, 7))), size=224, resize_mode=mode)
    assert time.monotonic() - started < 2
    assert found[112, 112].tolist() == [9, 8, 7] or mode == "longest"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(kind: str) -> None:
    left, right = left_and_right(encoded(halves((250, 0, 0), (0, 0, 250)), kind))
    np.testing.assert_allclose(left, (250, 0, 0), atol=12)
    np.testing.assert_allclose(right, (0, 0, 250), atol=12)


def test_cmyk_as_pillow_reads_it() -> None:
    image = halves((0, 255, 255, 0), (255, 255, 0, 0), "CMYK")
    for kind in ("JPEG", "TIFF"):
        left, right = left_and_right(encoded(image, kind))
        np.testing.assert_allclose(left, (255, 0, 0), atol=12)
        np.testing.assert_allclose(right, (0, 0, 255), atol=12)


def test_adobe_cmyk_is_not_inverted() -> None:
    data = encoded(Image.new("CMYK", (64, 64), (0, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data, "Pillow writes the Adobe marker, with inverted values, for CMYK"
    assert pixels_of(data).min() > 240


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.full((64, 64), 0x4000, np.uint16)
    values[:, 32:] = 0xC000
    left, right = left_and_right(encoded(Image.fromarray(values), kind))
    assert (left, right) == ([64] * 3, [191] * 3)


def png_of_16_bit_rgb(colour: tuple[int, int, int]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\x00" + struct.pack(">3H", *colour) * 40
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 40)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_rgb() -> None:
    assert pixels_of(png_of_16_bit_rgb((0xFFFF, 0x8000, 0x0100)))[3, 3].tolist() == [255, 128, 1]


def test_float_and_32_bit_grey_are_scaled_by_their_own_range() -> None:
    for values in (np.array([[-1.5, 2.5]], np.float32), np.array([[-100_000, 300_000]], np.int32)):
        data = encoded(Image.fromarray(values.repeat(40, 0).repeat(20, 1)), "TIFF")
        assert left_and_right(data) == ([0] * 3, [255] * 3)
    assert pixels_of(encoded(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF")).max() == 0


def test_transparency_shows_white() -> None:
    rgba = halves((255, 0, 0, 255), (0, 0, 0, 0), "RGBA")
    assert left_and_right(encoded(rgba)) == ([255, 0, 0], [255] * 3)
    assert left_and_right(encoded(rgba, "WEBP", lossless=True)) == ([255, 0, 0], [255] * 3)
    assert left_and_right(encoded(halves((9, 255), (0, 0), "LA"))) == ([9] * 3, [255] * 3)
    assert pixels_of(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 127))))[9, 9].tolist() == [128] * 3


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (32, 0, 64, 64))
    assert left_and_right(encoded(image)) == ([255, 0, 0], [0, 0, 255])
    for kind in ("PNG", "GIF"):
        assert left_and_right(encoded(image, kind, transparency=1)) == ([255, 0, 0], [255] * 3)
    assert left_and_right(encoded(Image.new("1", (64, 64), 1))) == ([255] * 3, [255] * 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((255, 255, 255), (0, 0, 0), (90, 90, 90))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert pixels_of(data).min() > 250


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.new("RGB", (96, 64), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 48, 32))
    image.paste((0, 0, 255), (48, 32, 96, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = encoded(image, kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    expected = pixels_of(encoded(upright))
    np.testing.assert_array_equal(pixels_of(data), expected)
    row = one(data)
    assert (row["width"], row["height"]) == upright.size


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(
        Image.new("RGB", (40, 40), (10, 20, 30)), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xffgarbage"
    )
    np.testing.assert_allclose(pixels_of(data)[5, 5], (10, 20, 30), atol=4)


# Decoding large JPEGs smaller.


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_fast_makes_nearly_the_same_picture_of_a_large_jpeg(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    left = Image.new("RGB", (503, 389), (255, 255, 255))
    left.paste(picture(250, 190).resize((250, 380)), (0, 0))
    left.paste((0, 0, 255), (300, 200, 503, 389))
    data = encoded(left, "JPEG", quality=95, exif=exif)
    exact, fast = (pixels_of(data, resize_mode=mode, mode=how) for how in ("exact", "fast"))
    assert not np.array_equal(exact, fast), "the decoder has not made it smaller"
    assert np.abs(exact.astype(int) - fast).mean() < 4
    told = ("width", "height", "status")
    assert [one(data, mode="fast")[name] for name in told] == [one(data)[name] for name in told]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_fast_changes_no_other_format(kind: str) -> None:
    data = encoded(picture(500, 400), kind)
    np.testing.assert_array_equal(pixels_of(data, mode="fast"), pixels_of(data))


@pytest.mark.parametrize("size", [(2 * SIDE - 1, 300), (SIDE, SIDE), (7, 5)])
def test_fast_leaves_alone_what_would_become_too_small(size: tuple[int, int]) -> None:
    data = encoded(picture(*size), "JPEG")
    np.testing.assert_array_equal(pixels_of(data, mode="fast"), pixels_of(data))


def test_fast_tells_a_broken_jpeg_from_a_large_one() -> None:
    data = encoded(picture(500, 400), "JPEG", quality=95)
    assert one(data[: len(data) // 2], mode="fast")["status"] == "corrupt_image"
    assert one(data, mode="fast", max_pixels=500 * 400 - 1)["status"] == "image_too_large"


# Images that are none.


def huge_png(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def test_a_huge_image_is_refused_from_its_header() -> None:
    started = time.monotonic()
    row = one(huge_png(30_000, 20_000))
    assert time.monotonic() - started < 0.2
    assert (row["status"], row["pixels"]) == ("image_too_large", None)
    assert (row["width"], row["height"]) == (30_000, 20_000)
    for part in ("30000 x 20000", "600000000", "input.max_image_pixels = 200000000"):
        assert part in row["error"]


def test_the_pixel_limit_is_the_users() -> None:
    data = encoded(picture(40, 50))
    assert one(data, max_pixels=2000)["status"] == "ok"
    assert one(data, max_pixels=1999)["status"] == "image_too_large"
    # 190 megapixels: more than twice Pillow's own limit, which is not asked.
    assert one(encoded(Image.new("1", (190_000, 1000))), max_pixels=190_000_000)["status"] == "ok"


def bomb(chunk_name: bytes, prefix: bytes) -> bytes:
    data = encoded(picture(40, 40))
    body = prefix + zlib.compress(bytes(300_000_000), 9)
    chunk = struct.pack(">I", len(body)) + chunk_name + body + struct.pack(">I", zlib.crc32(chunk_name + body))
    return data[:33] + chunk + data[33:]


def test_a_decompression_bomb_in_a_chunk_does_not_go_off() -> None:
    import resource

    bombs = [bomb(b"zTXt", b"Comment\x00\x00"), bomb(b"iCCP", b"icc\x00\x00"), bomb(b"iTXt", b"C\x00\x01\x00\x00\x00")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = decode(bombs)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000, "kilobytes"
    assert set(made.column("status").to_pylist()) <= {"ok", "corrupt_image"}


SOUND = encoded(picture(60, 50), "JPEG")
CORRUPT = {
    "no bytes": b"",
    "text": b"<html>404 not found</html>",
    "other format": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "only magic": b"\xff\xd8\xff",
    "truncated jpeg": SOUND[: len(SOUND) // 2],
    "truncated header": SOUND[:30],
    "truncated png": encoded(picture(60, 50))[:2000],
    "truncated webp": encoded(picture(60, 50), "WEBP")[:500],
    "truncated gif": encoded(picture(60, 50), "GIF")[:900],
    "truncated bmp": encoded(picture(60, 50), "BMP")[:900],
    "truncated tiff": encoded(picture(60, 50), "TIFF")[:900],
    "zero sized": huge_png(0, 0),
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_corrupt_images_are_told_apart_not_raised(kind: str) -> None:
    row = one(CORRUPT[kind])
    assert (row["status"], row["pixels"]) == ("corrupt_image", None)
    assert 0 < len(row["error"]) <= 200
    assert "0x" not in row["error"], "a memory address changes from run to run"
    assert row == one(CORRUPT[kind])


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(0)
    sound = [encoded(picture(50, 40), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    damaged = []
    for _ in range(40):
        for data in sound:
            changed = bytearray(data)
            for place in random.integers(0, len(data), 8):
                changed[place] = random.integers(0, 256)
            damaged.append(bytes(changed))
    made = decode(damaged)
    statuses = set(made.column("status").to_pylist())
    assert statuses <= {"ok", "corrupt_image", "image_too_large"}
    assert {"ok", "corrupt_image"} <= statuses


def test_a_size_that_no_int32_holds_is_unknown() -> None:
    row = one(huge_png(2**32 - 3, 7))
    assert (row["status"], row["width"], row["height"]) == ("image_too_large", None, 7)
    assert "4294967293 x 7" in row["error"]


def test_reasons_are_short_and_the_same_on_every_run() -> None:
    assert _reason(OSError("bad <BytesIO object at 0x7F3a>\nin a loop")) == "OSError: bad <BytesIO object> in a loop"
    assert len(_reason(ValueError("x" * 999))) == 200
    assert _reason(MemoryError()) == "MemoryError"


def test_the_name_of_a_format_does_not_matter_but_the_content_does() -> None:
    rows = decode([SOUND, encoded(picture(60, 50))]).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok"]


# Rows.


def test_every_row_keeps_its_place() -> None:
    good = encoded(Image.new("RGB", (40, 40), (1, 2, 3)))
    made = decode([None, good, b"bad", good])
    assert made.column("status").to_pylist() == ["missing_image", "ok", "corrupt_image", "ok"]
    assert made.column("pixels").is_valid().to_pylist() == [False, True, False, True]
    assert set(made.column("pixels")[3].as_py()) == {1, 2, 3}
    assert made.column("width").to_pylist() == [None, 40, None, 40]
    digest = hashlib.sha256(good).hexdigest()
    assert made.column("image_sha256").to_pylist() == [None, digest, hashlib.sha256(b"bad").hexdigest(), digest]


def test_no_rows() -> None:
    assert decode([]).num_rows == 0


def test_a_caption_problem_and_an_image_problem_are_both_told() -> None:
    good = encoded(picture(40, 40))
    fine = one(good, "empty_caption", "the caption is blank")
    assert (fine["status"], fine["error"]) == ("empty_caption", "the caption is blank")
    assert fine["pixels"] is not None
    both = one(b"bad", "caption_not_utf8", "byte 3")
    assert both["status"] == "corrupt_image"
    assert both["error"].startswith("ValueError: not a JPEG")
    assert both["error"].endswith("also caption_not_utf8: byte 3")
    assert one(None, "missing_caption", "no .txt")["status"] == "missing_caption"
    unreadable = one(b"bad", "unreadable_row", "broken JSON")
    assert unreadable["status"] == "unreadable_row"
    assert "broken JSON; also corrupt_image" in unreadable["error"]


def test_image_stays_as_zero_copy_memory_through_a_slice() -> None:
    made = decode([encoded(Image.new("RGB", (40, 40), (n, n, n))) for n in range(4)])
    assert set(made.slice(2, 1).column("pixels")[0].as_py()) == {2}
