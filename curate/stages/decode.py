"""Image bytes -> pixels as the image tower takes them, with a status for every image that cannot be had."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

# The plugins register themselves; these six formats are all that is ever opened.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from curate.errors import CurateError
from curate.status import CAPTION_PROBLEMS, Status

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_ERROR_CHARACTERS = 200
LONGEST_RESIZED_SIDE = 32
"""The ends of a picture beyond this many times its short side are cut off before resizing, see `_ends_to_cut`."""
DECODE_MODES = ("exact", "fast")
_JPEG_SCALES = (8, 4, 2)

Pixels = NDArray[np.uint8]

_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)


@dataclass(frozen=True)
class DecodeOptions:
    """How pixels are made.

    Attributes:
        size: side of the square that comes out, in pixels.
        resize_mode: shortest (short side to `size`, centre crop), longest (long side to `size`, centre pad) or squash.
        interpolation: bicubic or bilinear, both with antialiasing.
        max_pixels: images with more pixels are not decoded.
        fill_color: grey level of the padding, 0 to 255.
        mode: exact, or fast: the decoder makes a JPEG a half, a quarter or an eighth as large where that is still
            no smaller than what it is resized to.
    """

    size: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    max_pixels: int = 200_000_000
    fill_color: int = 0
    mode: str = "exact"


@dataclass(frozen=True)
class _Decoded:
    """What one row's image came to: pixels, or a status and an error."""

    pixels: Pixels | None = None
    width: int | None = None
    height: int | None = None
    status: Status = Status.OK
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What decoding came to beside the pixels.

    Attributes:
        status: OK where there are pixels.
        error: what is wrong, for a person; None where nothing is.
        width, height: of the upright picture before it is resized; of one that is not decoded, as its header has
            them; None if unknown.
    """

    status: Status
    error: str | None = None
    width: int | None = None
    height: int | None = None


class Decoder(Protocol):
    """Where images are decoded: in this process, or guarded in one of its own (`curate.decoding`)."""

    def __call__(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        """Decode images.

        Args:
            images: bytes of each image file; None where there is none.
            pixels: uint8 [images, size, size, 3] of zeros; the pixels of images with status OK are written here.
        """
        ...


def decode_image(data: bytes | None, options: DecodeOptions, pixels: Pixels) -> Outcome:
    """Decode one image in this process. Never raises for bad content.

    Args:
        data: bytes of the image file; None: there is none.
        options: how pixels are made.
        pixels: uint8 [size, size, 3]; written only if the status is OK.
    """
    result = _decode(data, options)
    if result.pixels is not None:
        pixels[...] = result.pixels
    return Outcome(result.status, result.error, _plausible(result.width), _plausible(result.height))


class Decode:
    """Row stage: decodes, orients and resizes every image to the pixels that open_clip's own preprocessing would give.

    Columns: `pixels` (uint8 [size, size, 3], RGB; null without a usable image), `status` and `error` (the image's
    problem if it has one, else the source's), `width` and `height` of the upright picture before it is resized (of an
    image that is not decoded, as its header has them; null if unknown), `image_sha256` of the image's bytes (null if
    there are none). Never raises for bad content.
    """

    name = "decode"
    version = 1
    requires = ("image", "status", "error")

    def __init__(self, options: DecodeOptions, decoder: Decoder | None = None) -> None:
        """Decode with `options`; with a `decoder` there and not in this process."""
        # Not above: the processes that `curate.decoding` starts need no Arrow, which takes as long as all else.
        import pyarrow as pa

        self.options = options
        self._decoder = decoder or self._decode_here
        self.provides = pa.schema(
            [
                pa.field("pixels", pa.binary(options.size * options.size * 3)),
                pa.field("status", pa.string(), nullable=False),
                pa.field("error", pa.string()),
                pa.field("width", pa.int32()),
                pa.field("height", pa.int32()),
                pa.field("image_sha256", pa.string()),
            ]
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        side = self.options.size
        pixels = np.zeros((batch.num_rows, side, side, 3), dtype=np.uint8)
        images = [
            None if image.as_buffer() is None else memoryview(image.as_buffer()) for image in batch.column("image")
        ]
        decoded = self._decoder(images, pixels)
        hashes = [hashlib.sha256(image).hexdigest() if image else None for image in images]
        return self._table(batch, pixels, decoded, hashes)

    def _decode_here(self, images: Sequence[memoryview | None], pixels: Pixels) -> list[Outcome]:
        return [
            decode_image(None if image is None else bytes(image), self.options, pixels[row])
            for row, image in enumerate(images)
        ]

    def _table(self, batch: pa.Table, pixels: Pixels, decoded: list[Outcome], hashes: list[str | None]) -> pa.Table:
        import pyarrow as pa

        sources = zip(batch.column("status").to_pylist(), batch.column("error").to_pylist(), decoded, strict=True)
        verdicts = [_verdict(status, error, image) for status, error, image in sources]
        columns = [
            _pixel_column(pixels, np.array([image.status is Status.OK for image in decoded], dtype=bool)),
            pa.array([status for status, _ in verdicts], pa.string()),
            pa.array([error for _, error in verdicts], pa.string()),
            pa.array([image.width for image in decoded], pa.int32()),
            pa.array([image.height for image in decoded], pa.int32()),
            pa.array(hashes, pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=self.provides)


def _pixel_column(pixels: Pixels, usable: NDArray[np.bool_]) -> pa.Array:
    import pyarrow as pa

    width = int(np.prod(pixels.shape[1:]))
    validity = pa.array(usable).buffers()[1]
    return pa.Array.from_buffers(pa.binary(width), len(pixels), [validity, pa.py_buffer(pixels)])


def _plausible(length: int | None) -> int | None:
    """The length unless a damaged header claims one that no int32 holds."""
    return length if length is not None and 0 <= length < 2**31 else None


def _verdict(status: str, error: str | None, image: Outcome) -> tuple[str, str | None]:
    """Status and error of a row: the image's problem comes first, and neither hides the other."""
    if image.status is Status.OK:
        return status, error
    if status == Status.OK:
        return image.status.value, image.error
    if image.status is Status.MISSING_IMAGE:
        return status, error
    source = f"{status}: {error}" if error else status
    if status in CAPTION_PROBLEMS:
        return image.status.value, f"{image.error}; also {source}"
    return status, f"{error or status}; also {image.status.value}: {image.error}"


def decode_upright(data: bytes, max_pixels: int) -> Image.Image:
    """The bytes of an image file as a picture: RGB, upright, what is transparent shows white.

    Raises:
        CurateError: they cannot be decoded, or it has more than `max_pixels` pixels.
    """
    try:
        with _open(data) as image:
            width, height = image.size
            if width * height <= max_pixels:
                return _upright(image)
    except Exception as error:
        raise CurateError(f"the picture cannot be decoded: {_reason(error)}") from error
    raise CurateError(f"the picture has {width} x {height} = {width * height} pixels, more than {max_pixels}")


def _decode(data: bytes | None, options: DecodeOptions) -> _Decoded:
    if data is None:
        return _Decoded(status=Status.MISSING_IMAGE, error="there is no image")
    if not data:
        return _Decoded(status=Status.CORRUPT_IMAGE, error="the image has no bytes")
    width = height = None
    try:
        with _open(data) as image:
            width, height = image.size
            if width * height > options.max_pixels:
                return _Decoded(None, width, height, Status.IMAGE_TOO_LARGE, _too_large(width, height, options))
            if options.mode == "fast":
                _decode_smaller(image, options)
            upright = _upright(image)
            if _is_turned(image):
                width, height = height, width
        return _Decoded(_preprocessed(upright, (width, height), options), width, height)
    except (Image.DecompressionBombError, MemoryError) as error:
        return _Decoded(None, width, height, Status.IMAGE_TOO_LARGE, _reason(error))
    except Exception as error:  # noqa: BLE001 - hostile bytes make a decoder raise anything; it is written down
        return _Decoded(None, width, height, Status.CORRUPT_IMAGE, _reason(error))


def _too_large(width: int, height: int, options: DecodeOptions) -> str:
    return (
        f"{width} x {height} = {width * height} pixels, more than input.max_image_pixels = {options.max_pixels}; "
        f"raise it to have such images decoded"
    )


def _reason(error: Exception) -> str:
    """One short line, the same on every run: a memory address would not be."""
    line = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {line}"[:MAX_ERROR_CHARACTERS] if line else type(error).__name__


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header with the plugin that recognises the first bytes.

    Image.open would raise for many pixels before the size can be said, and its limit is a global of the process.
    """
    prefix = data[:16]
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(prefix) is True:
            return factory(io.BytesIO(data), "")
    raise ValueError(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image")


def _decode_smaller(image: ImageFile.ImageFile, options: DecodeOptions) -> None:
    """Let a JPEG's decoder leave out the frequencies that resizing would: it is not loaded yet."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return
    width, height = image.size
    wanted_width, wanted_height = _resized_size(image.size, options)
    for scale in _JPEG_SCALES:
        if width >= scale * wanted_width and height >= scale * wanted_height:
            image.draft(None, (width // scale, height // scale))
            return


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    """RGB, upright: EXIF orientation is applied as a camera's owner would expect."""
    image.load()
    rgb = _as_rgb(image)
    method = _ORIENTATIONS.get(_orientation(image))
    return rgb if method is None else rgb.transpose(method)


def _is_turned(image: Image.Image) -> bool:
    """Whether it lies on its side: its rows are the columns of the upright picture."""
    return _orientation(image) in _ON_ITS_SIDE


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - EXIF is other people's bytes too, and a picture with broken EXIF is still a picture
        return 1
    return value if isinstance(value, int) else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent shows white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey_8_bit(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return white


def _grey_8_bit(grey: NDArray[np.generic]) -> Pixels:
    """Grey of more than 8 bits, scaled: 16-bit values by their range, others (32-bit, float) by the picture's own."""
    values = np.nan_to_num(grey.astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if grey.dtype.kind in "iu" and low >= 0 and high <= 0xFFFF:
        low, high = 0.0, float(0xFFFF)
    values -= low
    values *= 255 / ((high - low) or 1.0)
    return np.rint(values, out=values).astype(np.uint8)


def _preprocessed(image: Image.Image, size: tuple[int, int], options: DecodeOptions) -> Pixels:
    """RGB picture of any shape -> uint8 [size, size, 3], as open_clip.transform.image_transform does.

    Args:
        image: the picture, maybe decoded smaller than it is.
        size: its own width and height.
        options: how pixels are made.
    """
    side = options.size
    kernel = Image.Resampling.BILINEAR if options.interpolation == "bilinear" else Image.Resampling.BICUBIC
    resized = image.resize(_resized_size(size, options), kernel, _resized_box(image.size, size, options))
    return np.asarray(_centre(resized, side, options.fill_color))


def _resized_size(size: tuple[int, int], options: DecodeOptions) -> tuple[int, int]:
    """Width and height that a picture is resized to before it is cropped or padded."""
    side = options.size
    if options.resize_mode == "squash":
        return side, side
    if options.resize_mode == "longest":
        scale = max(size) / side
        return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))
    width, height = (length - 2 * _ends_to_cut(length, min(size)) for length in size)
    short = min(width, height)
    return int(side * width / short), int(side * height / short)


def _resized_box(
    decoded: tuple[int, int], size: tuple[int, int], options: DecodeOptions
) -> tuple[float, float, float, float]:
    """What of the decoded picture is resized: left, top, right, bottom."""
    left, top = (0, 0) if options.resize_mode != "shortest" else (_ends_to_cut(length, min(size)) for length in size)
    box = (left, top, size[0] - left, size[1] - top)
    if decoded == size:
        return box
    across, down = decoded[0] / size[0], decoded[1] / size[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _ends_to_cut(length: int, short: int) -> int:
    """Pixels to leave away at both ends: a picture of 1 x 100,000 would grow to 5 gigapixels, to be cropped at once.

    What is left is long enough for the crop not to notice.
    """
    return max(0, length - LONGEST_RESIZED_SIDE * short) // 2


def _centre(image: Image.Image, side: int, fill: int) -> Image.Image:
    """The middle `side` x `side` pixels, with a border of `fill` where the picture is smaller."""
    width, height = image.size
    if width < side or height < side:
        canvas = Image.new("RGB", (max(width, side), max(height, side)), (fill, fill, fill))
        canvas.paste(image, (max(0, side - width) // 2, max(0, side - height) // 2))
        image = canvas
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))
