from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.corpora import clipart
from curate.corpora.clipart import combine_caption, fetch_clipart, read_svg_metadata
from curate.errors import CurateError, InputError
from tests.corpora.conftest import CLIPART, STAMPS, build_deb, png, read_descriptions, read_members, svg


def corpus_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def by_path(folder: Path) -> dict[str, dict]:
    return {Path(description["path"]).stem: description for description in read_descriptions(folder)}


@pytest.fixture(scope="module")
def corpus(debs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "clipart"
    fetch_clipart(out, debs=debs, shard_size=3)
    return out


def test_counts_say_what_was_left_out_and_why(debs, tmp_path):
    report = fetch_clipart(tmp_path / "out", debs=debs, shard_size=3)
    assert report.pairs == 7
    assert report.shards == report.shards_written == 3
    assert report.pairs_by_package == {"openclipart-png": 5, "tuxpaint-stamps-default": 2}
    assert report.package_versions["openclipart-svg"] == "1.0-1"
    assert report.left_out == {
        "image without a text file": 2,  # office/no-drawing, space/mars_mirror
        "no usable caption": 1,
        "text without a PNG image": 1,
    }
    assert report.kept_undecodable == 1


def test_shards_follow_the_img2dataset_layout(corpus):
    names = [name for tar in sorted(corpus.glob("*.tar")) for name in read_members(tar)]
    assert names == [f"{key:09d}.{suffix}" for key in range(7) for suffix in ("png", "txt", "json")]
    for tar in corpus.glob("*.tar"):
        with tarfile.open(tar) as archive:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive} == {(0, 0, 0, "", "", 0o644)}


def test_text_image_and_description_of_a_pair_agree(corpus):
    for tar in corpus.glob("*.tar"):
        members = read_members(tar)
        for name in members:
            if name.endswith(".json"):
                key = name.removesuffix(".json")
                description = json.loads(members[name])
                assert description["key"] == key
                assert description["status"] == "success"
                assert description["caption"] == members[f"{key}.txt"].decode()
                assert description["sha256"] == hashlib.sha256(members[f"{key}.png"]).hexdigest()


def test_metadata_is_kept_aside_and_out_of_the_caption(corpus):
    bat = by_path(corpus)["bat"]
    assert bat["caption"] == "bat"
    assert bat["keywords"] == ["mammal", "bat"]
    assert bat["category"] == "animals"
    assert bat["path"] == "usr/share/openclipart/png/animals/bat.png"
    assert (bat["source_package"], bat["source_version"]) == ("openclipart-png", "1.0-1")
    assert (bat["language"], bat["licence"]) == ("en", "public domain")
    texts = " ".join(description["caption"] for description in read_descriptions(corpus))
    assert not any(word in texts for word in ("mammal", "Publisher", "Creator", "Rights", "not this one"))


def test_keys_do_not_follow_the_folders(corpus):
    paths = [(pair["source_package"], pair["path"]) for pair in read_descriptions(corpus)]
    assert paths != sorted(paths)


def test_licence_of_a_single_file_wins_over_the_collection(corpus):
    pairs = by_path(corpus)
    assert pairs["gpl"]["licence"] == "http://creativecommons.org/licenses/GPL/2.0/"
    assert pairs["frog"]["licence"] == "GPL-2"
    assert pairs["mars"]["licence"] == "public-domain"


def test_stamps_take_the_first_line_and_the_folder_path(corpus):
    frog = by_path(corpus)["frog"]
    assert (frog["caption"], frog["category"], frog["language"]) == ("A frog.", "animals", "en")


def test_links_out_of_the_package_are_not_followed(corpus):
    assert "escape" not in by_path(corpus)
    assert not any(b"secret" in content for content in corpus_bytes(corpus).values())


def test_large_images_are_shrunk_and_small_ones_kept_as_they_are(corpus):
    pairs = by_path(corpus)
    sizes = {name: (pair["width"], pair["height"]) for name, pair in pairs.items() if name != "cut"}
    assert sizes["big"] == (256, 128)
    assert sizes["palette"] == (128, 256)
    assert sizes["mars"] == (256, 256)
    assert (pairs["big"]["original_width"], pairs["big"]["original_height"]) == (600, 300)
    assert pairs["bat"]["sha256"] == hashlib.sha256(CLIPART["animals/bat"][0]).hexdigest()


def test_shrinking_keeps_transparency_and_lets_no_hidden_colour_through(tmp_path):
    image = Image.new("RGBA", (1000, 1000), (0, 255, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 503, 1000))
    image.save(tmp_path / "x.png")
    shrunk = Image.open(io.BytesIO(clipart._load_picture(tmp_path / "x.png", 50).data))
    assert shrunk.mode == "RGBA"
    visible = np.asarray(shrunk)[np.asarray(shrunk)[..., 3] > 8]
    assert visible[:, 1].max() == 0
    assert {0, 255} < set(np.asarray(shrunk)[..., 3].ravel().tolist())


def test_an_undecodable_image_keeps_its_bytes_and_says_so(corpus):
    broken = by_path(corpus)["cut"]
    assert broken["sha256"] == hashlib.sha256(CLIPART["animals/cut"][0]).hexdigest()
    assert "not resized" in broken["error_message"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_survives_strip_by_strip_averaging(mode, monkeypatch, tmp_path):
    path = tmp_path / "x.png"
    grey = Image.linear_gradient("L").resize((700, 1400))
    source = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey
    (source if mode == "I;16" else source.convert(mode)).save(path)
    whole = clipart._load_picture(path, 64)
    monkeypatch.setattr(clipart, "_STRIP_PIXELS", 1)
    assert clipart._load_picture(path, 64) == whole
    assert (whole.error, whole.size) == (None, (32, 64))
    shrunk = Image.open(io.BytesIO(whole.data)).convert("L")
    assert abs(shrunk.getpixel((16, 48)) - 194) <= 6


def test_palette_transparency_becomes_alpha(tmp_path):
    path = tmp_path / "x.png"
    Image.new("P", (400, 400), 0).save(path, transparency=0)
    shrunk = Image.open(io.BytesIO(clipart._load_picture(path, 100).data))
    assert shrunk.mode == "RGBA"
    assert shrunk.getpixel((50, 50))[3] == 0


def test_size_zero_keeps_every_file_byte_for_byte(debs, tmp_path):
    fetch_clipart(tmp_path / "out", debs=debs, image_size=0)
    members = read_members(tmp_path / "out" / "00000.tar")
    originals = {name: image for name, (image, _) in CLIPART.items()}
    originals |= {name.removesuffix(".png"): content for name, content in STAMPS.items() if name.endswith(".png")}
    for description in read_descriptions(tmp_path / "out"):
        folder, stem = Path(description["path"]).parts[-2:]
        assert members[f"{description['key']}.png"] == originals[f"{folder}/{stem.removesuffix('.png')}"]


def test_two_runs_give_the_same_bytes_whatever_the_number_of_threads(corpus, debs, tmp_path, monkeypatch):
    monkeypatch.setattr("curate.corpora.clipart._RESIZE_THREADS", 1)
    monkeypatch.setattr("curate.corpora.clipart._PAIRS_IN_FLIGHT", 1)
    fetch_clipart(tmp_path / "out", debs=debs, shard_size=3)
    assert corpus_bytes(tmp_path / "out") == corpus_bytes(corpus)


def test_a_lost_shard_is_made_again_and_the_others_are_left_alone(corpus, debs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(corpus, out)
    (out / "00001.tar").unlink()
    stamp = (out / "00000.tar").stat().st_mtime_ns
    report = fetch_clipart(out, debs=debs, shard_size=3)
    assert report.shards_written == 1
    assert report.kept_undecodable == 1
    assert (out / "00000.tar").stat().st_mtime_ns == stamp
    assert corpus_bytes(out) == corpus_bytes(corpus)


def test_an_interrupted_build_goes_on_where_it_stopped(corpus, debs, tmp_path):
    class StopHereError(Exception):
        pass

    def stop_in_second_shard(description: str, done: int, total: int) -> None:
        if description == "writing pairs" and done == 5:
            raise StopHereError

    out = tmp_path / "out"
    with pytest.raises(StopHereError):
        fetch_clipart(out, debs=debs, shard_size=3, progress=stop_in_second_shard)
    assert [path.name for path in sorted(out.glob("*.tar"))] == ["00000.tar"]
    report = fetch_clipart(out, debs=debs, shard_size=3)
    assert report.shards_written == 2
    assert corpus_bytes(out) == corpus_bytes(corpus)


def test_a_complete_corpus_needs_neither_tools_nor_packages(corpus, monkeypatch):
    monkeypatch.setenv("PATH", "")
    before = corpus_bytes(corpus)
    report = fetch_clipart(corpus, shard_size=3)
    assert (report.pairs, report.shards_written, report.kept_undecodable) == (7, 0, 1)
    assert corpus_bytes(corpus) == before
    assert not (corpus / ".cache").exists()


def test_progress_counts_up_to_the_total(debs, tmp_path):
    calls: list[tuple[str, int, int]] = []
    fetch_clipart(tmp_path / "out", debs=debs, progress=lambda *call: calls.append(call))
    written = [(done, total) for description, done, total in calls if description == "writing pairs"]
    assert written[-1] == (7, 7)
    assert written == sorted(written)


def test_other_settings_are_refused_with_a_way_out(corpus, debs):
    with pytest.raises(InputError, match=r"image_size=256.*image_size=128.*choose another folder"):
        fetch_clipart(corpus, debs=debs, image_size=128, shard_size=3)


def test_other_package_versions_do_not_mix_into_a_begun_corpus(corpus, debs, tmp_path):
    out, newer = tmp_path / "out", tmp_path / "newer"
    shutil.copytree(corpus, out)
    (out / "00001.tar").unlink()
    newer.mkdir()
    for deb in debs.glob("*.deb"):
        shutil.copy(deb, newer)
    (newer / "openclipart-svg_1.0-1_all.deb").unlink()
    build_deb(newer, "openclipart-svg", {"usr/share/openclipart/svg/animals/bat.svg": svg("bat")}, version="2.0-1")
    with pytest.raises(InputError, match=r"openclipart-svg 1\.0-1.*openclipart-svg 2\.0-1"):
        fetch_clipart(out, debs=newer, shard_size=3)


def test_foreign_tars_in_the_folder_are_refused(debs, tmp_path):
    (tmp_path / "mine.tar").write_bytes(b"")
    with pytest.raises(InputError, match="not this corpus"):
        fetch_clipart(tmp_path, debs=debs)


def test_a_folder_without_a_package_is_named_with_the_package(debs, tmp_path):
    shutil.copy(next(debs.glob("openclipart-png_*.deb")), tmp_path)
    with pytest.raises(InputError, match=r"openclipart-svg_\*\.deb.*apt-get download openclipart-svg tuxpaint"):
        fetch_clipart(tmp_path / "out", debs=tmp_path)


def test_a_damaged_package_is_named(debs, tmp_path):
    for deb in debs.glob("*.deb"):
        (tmp_path / deb.name).write_bytes(deb.read_bytes()[:100])
    with pytest.raises(CurateError, match=r"cannot read .*openclipart-png_1\.0-1_all\.deb"):
        fetch_clipart(tmp_path / "out", debs=tmp_path)


@pytest.mark.parametrize(("size", "shard_size"), [(-1, 10), (10, 0)])
def test_settings_out_of_range_are_refused(size, shard_size, tmp_path):
    with pytest.raises(InputError, match=r"(image|shard)_size is"):
        fetch_clipart(tmp_path / "out", image_size=size, shard_size=shard_size)


def install_fake_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An apt-get that does what the test says; dpkg-deb stays the real one."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


PRINT_URIS = """if [ "$2" = --print-uris ]; then shift 2
for p in "$@"; do echo "'http://mirror/${p}_1.0-1_all.deb' ${p}_1.0-1_all.deb 1000 SHA256:0"; done; exit 0; fi"""


def test_downloads_go_through_apt_and_the_cache_is_cleaned(corpus, debs, tmp_path, monkeypatch):
    warning = "echo 'W: Download is performed unsandboxed as root' >&2"
    install_fake_apt(tmp_path, monkeypatch, f"{PRINT_URIS}\n{warning}\ncp {debs}/$2_*.deb .")
    calls: list[tuple[str, int, int]] = []
    fetch_clipart(tmp_path / "out", shard_size=3, progress=lambda *call: calls.append(call))
    assert ("downloading openclipart-svg", 1000, 1000) in calls
    assert corpus_bytes(tmp_path / "out") == corpus_bytes(corpus)


def test_empty_package_lists_say_apt_get_update(tmp_path, monkeypatch):
    install_fake_apt(tmp_path, monkeypatch, "echo 'E: Unable to locate package openclipart-png' >&2; exit 100")
    with pytest.raises(InputError, match=r"sudo apt-get update[\s\S]*Unable to locate"):
        fetch_clipart(tmp_path / "out")


def test_a_failing_download_shows_apts_last_lines_without_the_harmless_one(debs, tmp_path, monkeypatch):
    failing = (
        f"{PRINT_URIS}\nif [ $2 = openclipart-png ]; then cp {debs}/$2_*.deb .; exit 0; fi\n"
        "echo 'E: Failed to fetch: Connection refused' >&2\n"
        "echo 'W: Download is performed unsandboxed as root' >&2; exit 100"
    )
    install_fake_apt(tmp_path, monkeypatch, failing)
    with pytest.raises(InputError, match=r"could not download openclipart-svg[\s\S]*Connection refused") as error:
        fetch_clipart(tmp_path / "out")
    assert "unsandboxed" not in str(error.value)
    # What came through is not downloaded again.
    assert [path.name for path in (tmp_path / "out/.cache").glob("*.deb")] == ["openclipart-png_1.0-1_all.deb"]


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_missing_tools_are_named(tool, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    other = tools / ("dpkg-deb" if tool == "apt-get" else "apt-get")
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(InputError, match=rf"^{tool} is not on this machine"):
        fetch_clipart(tmp_path / "out")


@pytest.mark.parametrize(
    ("title", "description", "caption"),
    [
        ("bat", None, "bat"),
        (" two\n  lines ", "", "two lines"),
        ("Tux", "Tux the linux mascot", "Tux the linux mascot"),
        ("Ladybug", "A ladybug", "Ladybug"),
        ("Cheese (B and W)", "Cheese", "Cheese (B and W)"),
        ("Shield", "Royal emblem", "Shield. Royal emblem"),
        ("Warning!", "Slippery road", "Warning! Slippery road"),
        ("", "only this", "only this"),
        ("Cassa d&#39;epoca", None, "Cassa d'epoca"),
        ("A &amp;quot;big&amp;quot; one", None, 'A "big" one'),
        ("L&Atilde;&copy;zard", None, "Lézard"),
        ("Mikolá\x9a", None, "Mikoláš"),
        ("Aragón", None, "Aragón"),
        ("phone", '<!-- x --><a href="http://y">grey</a>', "phone. grey"),
        ("1 < 2", None, "1 < 2"),
        ("star", "HASH(0x85a4f2c)", "star"),
        ("bottle", "a.b@example.org", "bottle"),
        ("icon", "contact: a.b@example.org", "icon"),
        ("logic", "http://example.org", "logic"),
        ("bird", "Created with Inkscape", "bird"),
        ("Pen", ":)", "Pen"),
        ("a@example.org", "", None),
        ("...", "  ", None),
        (None, None, None),
        ("unsorted", "", "unsorted"),
    ],
)
def test_captions(title, description, caption):
    assert combine_caption(title, description) == caption


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_broken_svg_yields_what_stands_before_the_break(tmp_path):
    whole = svg("Title")
    assert read_svg_metadata(write(tmp_path / "a.svg", whole[: whole.index(b"<rect/>")] + b"<<<")).title == "Title"
    assert read_svg_metadata(write(tmp_path / "b.svg", whole[:200])).title is None
    assert read_svg_metadata(write(tmp_path / "c.svg", b"")).title is None
    assert read_svg_metadata(write(tmp_path / "d.svg", b"\xff\x00 not xml")).title is None
    for encoding in (b"no-such-code", b"utf-7", b"shift_jis"):
        declared = whole.replace(b'version="1.0"', b'version="1.0" encoding="' + encoding + b'"')
        assert read_svg_metadata(write(tmp_path / "e.svg", declared)).title in (None, "Title")


def test_external_entities_are_not_read(tmp_path):
    secret = write(tmp_path / "secret.txt", b"top secret")
    head = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "{secret.as_uri()}">]><svg'.encode()
    text = svg("before &x; after").replace(b"<svg", head, 1)
    assert "secret" not in (read_svg_metadata(write(tmp_path / "a.svg", text)).title or "")


def test_png_helper_makes_what_the_tests_rely_on():
    assert Image.open(io.BytesIO(png((4, 4), mode="P"))).mode == "P"
