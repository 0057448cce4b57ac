"""Coverage-guided fuzzing of the tar reader: any bytes are rows and shard errors, the same in every cut.

python fuzz/tar_reader.py FOLDER [libFuzzer options such as -max_total_time=1800]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["curate.sources", "tarfile", "json"]):
    from curate.sources import open_source
    from curate.sources.options import SourceOptions

from seeds import archives, write_seeds

from curate.schema import Status
from curate.sources.base import Shard
from curate.sources.stores import file_stamp

_BLOCK = 512
_CHECKSUM = slice(148, 156)
_ALLOWED = {
    Status.OK,
    Status.MISSING_IMAGE,
    Status.MISSING_CAPTION,
    Status.EMPTY_CAPTION,
    Status.CAPTION_NOT_UTF8,
    Status.CORRUPT_IMAGE,
}
_FILE = Path(tempfile.mkdtemp(prefix="curate-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "x.tar"


def check(data: bytes) -> None:
    """Read one tar whole and in parts of two rows; raises AssertionError where a promise is broken."""
    _FILE.write_bytes(data)
    whole, errors = _rows(1000)
    cut, errors_of_cut = _rows(2)
    assert whole == cut, "rows depend on the cut"
    assert errors == errors_of_cut, "errors depend on the cut"
    assert {row["status"] for row in whole} <= _ALLOWED
    assert [row["row"] for row in whole] == list(range(len(whole)))
    assert all(0 <= error.offset <= len(data) and error.error for error in errors)
    assert whole or errors or not data.strip(b"\0") or len(data) >= _BLOCK, "nothing is said of the file"


def _rows(part_rows: int) -> tuple[list[dict[str, object]], tuple[object, ...]]:
    source = open_source(SourceOptions("webdataset", (str(_FILE),), part_rows=part_rows, keep=("n",)))
    shard = Shard(_FILE.name, str(_FILE), _FILE.stat().st_size, file_stamp(str(_FILE)))
    index = source.index(shard)
    rows = [row for part in index.parts for table in source.read(shard, part, 100) for row in table.to_pylist()]
    assert len(rows) == sum(part.rows for part in index.parts)
    return rows, index.errors


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's mutation; mostly the checksums of headers are made right again, or nothing would be looked at."""
    mutated = atheris.Mutate(data, max_size)
    return mutated if seed % 4 == 0 else _with_checksums(mutated)


def _with_checksums(tar: bytes) -> bytes:
    mended = bytearray(tar)
    for start in range(0, len(mended) - _BLOCK + 1, _BLOCK):
        block = mended[start : start + _BLOCK]
        if block[257:262] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = b"%06o\0 " % sum(block)
            mended[start : start + _BLOCK] = block
    return bytes(mended)


def main() -> None:
    """Run until a finding or until the time is up."""
    folder = Path(sys.argv[1])
    write_seeds(folder, archives())
    atheris.Setup([*sys.argv, "-timeout=20", "-rss_limit_mb=4000", "-max_len=8192"], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
