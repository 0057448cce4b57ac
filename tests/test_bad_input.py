"""One corpus with every kind of damage: each row keeps its place with a status, and nothing else is lost."""

import io
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import Pipeline
from tests.corpus import make_pairs, png, write_shard

PAIRS = make_pairs(130, seed=3)
PICTURE = PAIRS[0][0]


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(width=30_000, height=20_000):
    """600 megapixels in a few hundred kB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def photo(mode="RGB"):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).convert(mode)


DAMAGED = {
    # key: (members by extension, expected status)
    "corrupt": ({"jpg": b"\xff\xd8\xff nothing", "txt": b"a cat"}, "corrupt_image"),
    "truncated": ({"jpg": saved(photo(), "JPEG")[:400], "txt": b"a cat"}, "corrupt_image"),
    "zero": ({"png": b"", "txt": b"a cat"}, "corrupt_image"),
    "bomb": ({"png": huge_png(), "txt": b"a cat"}, "image_too_large"),
    "noimage": ({"txt": b"a cat"}, "missing_image"),
    "nocaption": ({"png": PICTURE}, "missing_caption"),
    "empty": ({"png": PICTURE, "txt": b" \n"}, "empty_caption"),
    "latin1": ({"png": PICTURE, "txt": "café".encode("latin-1")}, "caption_not_utf8"),
    "cmyk": ({"jpg": saved(photo("CMYK"), "JPEG"), "txt": b"a cat"}, "ok"),
    "sixteen": ({"png": saved(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "PNG"), "txt": b"a cat"}, "ok"),
    "animated": ({"gif": saved(photo(), "GIF", save_all=True, append_images=[photo()]), "txt": b"a cat"}, "ok"),
    "palette": ({"png": saved(photo("P"), "PNG", transparency=3), "txt": b"a cat"}, "ok"),
    "mislabelled": ({"jpg": png(photo()), "txt": b"a cat"}, "ok"),
    "long": ({"png": PICTURE, "txt": b"word " * 20_000}, "ok"),
    "control": ({"png": PICTURE, "txt": b"nul \x00 and \x1b[31m escape"}, "ok"),
}


def members_of(pairs, prefix):
    return [
        (f"{prefix}{number}.{extension}", data)
        for number, (image, caption) in enumerate(pairs)
        for extension, data in (("png", image), ("txt", caption.encode()))
    ]


@pytest.fixture(scope="module")
def damaged_run(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("damaged")
    damaged = [(f"{key}.{ext}", data) for key, (files, _) in DAMAGED.items() for ext, data in files.items()]
    duplicates = members_of(PAIRS[:1], "twice") + members_of(PAIRS[1:2], "twice")
    write_shard(folder / "shards" / "0-damaged.tar", members_of(PAIRS[:10], "g") + damaged + duplicates)
    interleaved = members_of(PAIRS[10:110], "i")
    write_shard(folder / "shards" / "1-interleaved.tar", interleaved[::2] + interleaved[1::2][::-1])
    whole = write_shard(folder / "shards" / "2-cut.tar", members_of(PAIRS[110:130], "c")).read_bytes()
    (folder / "shards" / "2-cut.tar").write_bytes(whole[: len(whole) // 2])
    (folder / "shards" / "3-zero.tar").write_bytes(b"")
    (folder / "shards" / "4-no-tar.tar").write_bytes(b"this is a web page" * 100)
    pipeline = Pipeline(folder / "shards", folder / "run", tiny_encoder)
    pipeline.run()
    return pipeline


@pytest.fixture(scope="module")
def annotations(damaged_run):
    return pd.read_parquet(damaged_run.output / "annotations").set_index("key", drop=False)


@pytest.mark.parametrize("key", DAMAGED)
def test_a_damaged_pair_keeps_its_place_with_its_status(annotations, key):
    row = annotations.loc[key]
    assert row.status == DAMAGED[key][1]
    assert row.row == 10 + list(DAMAGED).index(key)
    assert pd.isna(row.noise_prob) == (row.status != "ok")
    assert pd.isna(row.error) == (row.status == "ok")


def test_captions_are_as_they_came(annotations):
    assert annotations.loc["long"].caption == "word " * 20_000
    assert annotations.loc["control"].caption == "nul \x00 and \x1b[31m escape"
    assert annotations.loc["empty"].caption == " \n"
    assert annotations.loc["latin1"].caption is None
    assert annotations.loc["latin1"].caption_bytes == "café".encode("latin-1")


def test_duplicate_keys_keep_both_rows_marked(annotations):
    both = annotations.loc[["twice0"]]
    assert len(both) == 2
    assert both.duplicate_key.all()
    assert both.caption.tolist() == [PAIRS[0][1], PAIRS[1][1]]
    assert annotations[annotations.key != "twice0"].duplicate_key.sum() == 0


def test_interleaved_members_find_each_other(annotations):
    found = annotations[annotations.shard == "1-interleaved.tar"]
    assert found.caption.tolist() == [caption for _, caption in PAIRS[10:110]]
    assert (found.status == "ok").all()


def test_a_cut_tar_gives_what_came_before_the_cut(annotations):
    found = annotations[annotations.shard == "2-cut.tar"]
    assert 5 < len(found) < 15
    assert (found.status[:-1] == "ok").all()


def test_what_could_not_become_a_row_is_a_shard_error(damaged_run):
    errors = pd.read_parquet(damaged_run.output / "shard_errors.parquet")
    assert {"2-cut.tar", "3-zero.tar", "4-no-tar.tar"} <= set(errors.shard)
    assert errors.error.str.len().gt(10).all()


def test_every_usable_pair_is_judged(annotations):
    usable = annotations[annotations.status == "ok"]
    assert usable.noise_prob.notna().all()
    assert len(usable) > 115
