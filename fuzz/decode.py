"""Coverage-guided fuzzing of the image path: any bytes give pixels or a status, and never an exception.

python fuzz/decode.py FOLDER [libFuzzer options such as -max_total_time=1800]
"""

from __future__ import annotations

import struct
import sys
import warnings
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "curate.stages.decode"]):
    import PIL  # noqa: F401

    from curate.stages.decode import Decode, DecodeOptions

import pyarrow as pa
from seeds import pictures, write_seeds

from curate.schema import Status

_SIDE = 32
# Small, so that an execution takes a millisecond: the limit itself has tests of its own.
_DECODE = Decode(DecodeOptions(size=_SIDE, max_pixels=1_000_000))
_ALLOWED = {Status.OK, Status.CORRUPT_IMAGE, Status.IMAGE_TOO_LARGE}
_PNG = b"\x89PNG\r\n\x1a\n"


def check(data: bytes) -> None:
    """Decode one picture; raises AssertionError where a promise is broken."""
    rows = {"image": [data], "status": ["ok"], "error": [None]}
    schema = pa.schema([("image", pa.large_binary()), ("status", pa.string()), ("error", pa.string())])
    (row,) = _DECODE(pa.Table.from_pydict(rows, schema)).to_pylist()
    assert row["status"] in _ALLOWED, row["status"]
    assert (row["status"] == Status.OK) == (row["pixels"] is not None) == (row["error"] is None), row["status"]
    assert row["error"] is None or row["error"].isprintable(), row["error"]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's mutation; in a PNG the checksums are made right again, or hardly anything would be looked at."""
    mutated = atheris.Mutate(data, max_size)
    return mutated if seed % 4 == 0 or not mutated.startswith(_PNG) else _with_checksums(mutated)


def _with_checksums(png: bytes) -> bytes:
    mended, position = bytearray(png), len(_PNG)
    while position + 12 <= len(mended):
        (length,) = struct.unpack_from(">I", mended, position)
        end = position + 8 + length
        if end + 4 > len(mended):
            break
        struct.pack_into(">I", mended, end, zlib.crc32(mended[position + 4 : end]))
        position = end + 4
    return bytes(mended)


def main() -> None:
    """Run until a finding or until the time is up."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    write_seeds(folder, pictures())
    atheris.Setup([*sys.argv, "-timeout=20", "-rss_limit_mb=6000"], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
