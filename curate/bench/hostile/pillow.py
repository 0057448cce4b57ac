"""What Pillow by itself says of a picture whose bytes were changed: the truth that a row's status is held against."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from curate.schema import Status
from curate.stages.decode import FORMATS


def status_by_pillow(data: bytes, max_pixels: int) -> Status:
    """The status that a picture of one of `FORMATS` must have, by opening, loading and converting it.

    Args:
        data: bytes of the file.
        max_pixels: a picture with more is too large.
    """
    try:
        with warnings.catch_warnings():
            # Of many pixels it warns, and of more it raises before it says how many there are.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    return Status.IMAGE_TOO_LARGE
                image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (Image.DecompressionBombError, MemoryError):
        return Status.IMAGE_TOO_LARGE
    except Exception:  # noqa: BLE001 - decoders raise anything over changed bytes
        return Status.CORRUPT_IMAGE
    return Status.OK
