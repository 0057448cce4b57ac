"""The papers' lists are read as they are published, and what does not fit is said by file and line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.bench.paper.splits import read_dataset
from curate.errors import InputError
from tests.bench.paper.standin import DEV, RESTVAL, TEST, TRAIN, write_cc152k, write_karpathy, write_scan


def by_image(split):
    """File name -> its captions."""
    held = {}
    for caption, image in zip(split.captions, split.image_of, strict=True):
        held.setdefault(split.images[image].name, []).append(caption)
    return held


def test_flickr30k_has_five_captions_an_image_in_the_json_s_order(tmp_path):
    folder = write_karpathy(tmp_path)
    dataset = read_dataset("flickr30k", folder)
    entries = json.loads((folder / "dataset_flickr30k.json").read_text())["images"]
    for split, name, count in (
        (dataset.train, "train", TRAIN),
        (dataset.dev, "val", DEV),
        (dataset.test, "test", TEST),
    ):
        chosen = [entry for entry in entries if entry["split"] == name]
        assert [file.name for file in split.images] == [entry["filename"] for entry in chosen]
        assert len(split.images) == count
        assert split.image_of.tolist() == [image for image in range(count) for _ in range(5)]
    assert dataset.order == "karpathy"
    assert "\n" not in "".join(dataset.train.captions)
    assert "the circle is red" in dataset.train.captions or "the square is blue" in dataset.train.captions


def test_coco_trains_on_restval_too_and_takes_the_first_five_captions(tmp_path):
    dataset = read_dataset("coco", write_karpathy(tmp_path, "coco"))
    assert len(dataset.train.images) == TRAIN + RESTVAL
    assert len(dataset.train.captions) == 5 * (TRAIN + RESTVAL)
    assert "a sixth caption" not in dataset.train.captions
    assert {file.parent.name for file in dataset.train.images} == {"train2014", "val2014"}


@pytest.mark.parametrize("name", ["flickr30k", "coco"])
@pytest.mark.parametrize("repeated", [False, True])
def test_scan_s_lists_give_order_and_captions_and_the_json_the_files(tmp_path, name, repeated):
    folder = write_karpathy(tmp_path, name)
    plain = read_dataset(name, folder)
    write_scan(folder, name, repeated)
    dataset = read_dataset(name, folder)
    assert dataset.order == "scan"
    for mine, theirs in ((dataset.train, plain.train), (dataset.test, plain.test)):
        assert mine.images == theirs.images[::-1]
        assert by_image(mine) == {file: [f"{c} ." for c in held] for file, held in by_image(theirs).items()}


def test_cc152k_has_one_caption_an_image_and_leaves_out_images_that_were_not_fetched(tmp_path):
    dataset = read_dataset("cc152k", write_cc152k(tmp_path))
    assert dataset.order == "ncr"
    assert len(dataset.train.images) == len(dataset.train.captions) == 119
    assert dataset.train.image_of.tolist() == list(range(119))
    assert dataset.train.images[0].name == "1_train.png"
    assert dataset.train.captions[0].endswith("number 1")


def test_the_list_with_addresses_will_do_for_cc152k(tmp_path):
    folder = write_cc152k(tmp_path)
    text = (folder / "test_caps.tsv").read_text()
    (folder / "test_caps.tsv").unlink()
    (folder / "test_caps_img_urls.csv").write_text(text.replace("\n", "\thttps://example.org/a.jpg\n"))
    assert len(read_dataset("cc152k", folder).test.captions) == TEST


def test_only_some_images_keep_their_captions_and_order(tmp_path):
    split = read_dataset("flickr30k", write_karpathy(tmp_path)).train
    some = split.take_images(np.array([1, 4, 30]))
    assert some.images == tuple(split.images[row] for row in (1, 4, 30))
    assert some.image_of.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert some.captions[5:10] == split.captions[20:25]


def edit_json(folder, change):
    file = folder / "dataset_flickr30k.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "no list 'images'"),
        (lambda c: c["images"][3].pop("filename"), r"images\[3\]: must have split, filename"),
        (lambda c: c["images"][3]["sentences"].pop(), r"images\[3\]: 1003.png has 4 captions"),
        (lambda c: c["images"][3].update(filename="../../else.png"), "else.png: no such image"),
        (lambda c: [i.update(split="train") for i in c["images"]], "dev: this part is empty"),
    ],
)
def test_a_broken_json_is_told_by_its_place(tmp_path, change, message):
    folder = write_karpathy(tmp_path)
    edit_json(folder, change)
    with pytest.raises(InputError, match=message):
        read_dataset("flickr30k", folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train_ids.txt", "1\n2\n", "2 images, but 200 captions"),
        ("dev_ids.txt", "\n".join(["9999"] * 10), "image 1: no image of dataset_flickr30k.json has the imgid '9999'"),
        ("test_ids.txt", "\n".join(str(n // 4) for n in range(100)), r"test_ids.txt:\d+: the ids of one image"),
    ],
)
def test_broken_lists_of_scan_are_told_by_their_line(tmp_path, file, text, message):
    folder = write_karpathy(tmp_path)
    (write_scan(folder) / file).write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset("flickr30k", folder)


def test_an_id_never_leads_out_of_the_folder(tmp_path):
    folder = write_cc152k(tmp_path / "cc")
    (folder / "secret.png").write_bytes(b"")
    (folder / "dev_caps.tsv").write_text("../secret\ta caption\n1_dev\tanother\n")
    assert read_dataset("cc152k", folder).dev.captions == ("another",)


PARTS = ("train", "restval", "val", "test")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "split": st.sampled_from(PARTS) | JSON,
        "filename": st.sampled_from(["a.png", "../a.png", ""]) | JSON,
        "sentences": st.lists(st.fixed_dictionaries({"raw": st.text()}), min_size=5, max_size=6) | JSON,
        "imgid": JSON,
        "filepath": JSON,
    },
)


@given(content=st.fixed_dictionaries({"images": st.lists(ENTRY, max_size=4)}) | JSON)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_json_holds_the_answer_is_a_data_set_or_a_word(tmp_path, content):
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps(content))
    try:
        dataset = read_dataset("flickr30k", tmp_path)
    except InputError:
        return
    assert len(dataset.train.captions) == 5 * len(dataset.train.images)


@given(text=st.text(st.characters(codec="utf-8")))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_lines_hold_the_answer_is_pairs_or_a_word(tmp_path, text):
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "0.png").touch()
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}_caps.tsv").write_text(f"0\tfirst\n{text}", newline="")
    try:
        dataset = read_dataset("cc152k", tmp_path)
    except InputError:
        return
    assert dataset.train.captions[0].startswith("first")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"dataset_coco\.json: no such file"):
        read_dataset("coco", tmp_path)
    with pytest.raises(InputError, match=r"train_caps\.tsv: no such file"):
        read_dataset("cc152k", tmp_path)
    folder = write_cc152k(tmp_path / "cc")
    (folder / "dev_caps.tsv").write_text("1_dev\ta caption\n2_dev\n")
    with pytest.raises(InputError, match=r"dev_caps\.tsv:2: must be an image id, a tab and a caption"):
        read_dataset("cc152k", folder)
