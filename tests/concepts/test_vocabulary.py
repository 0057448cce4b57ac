"""Vocabularies, mined and given; and which of their names a caption has."""

import pandas as pd
import pytest

from curate.concepts import vocabulary as module
from curate.concepts.vocabulary import Mentions, Vocabulary, mine_vocabulary, read_vocabulary
from curate.concepts.words import english_tokenizer
from curate.errors import InputError

tokens = english_tokenizer()


def mined(captions, min_documents=2):
    found = mine_vocabulary([tokens(caption) for caption in captions], min_documents)
    return dict(zip(found.names, found.documents, strict=True))


def of(*names):
    return Vocabulary(names, (0,) * len(names), ((),) * len(names))


def mentioned(vocabulary, caption):
    return [vocabulary.names[number] for number in Mentions(vocabulary, tokens)(tokens(caption))]


def test_nouns_are_counted_by_the_captions_that_have_them():
    found = mined(["two dogs", "a dog and a dog", "a cat", "the red ball of a dog", "a cat sleeps"])
    assert found == {"dog": 3, "cat": 2}
    assert list(found) == ["dog", "cat"]


def test_words_for_the_picture_are_no_concepts():
    assert mined(["a photo of a cat", "picture of a cat", "a photo of a dog", "image of a dog"]) == {
        "cat": 2,
        "dog": 2,
    }


HYDRANTS = [
    "a fire hydrant on a street",
    "one yellow fire hydrant",
    "the fire hydrant is red",
    "a camp fire at night",
    "fire in the house",
]
OTHERS = ["a cat on a mat", "two dogs", "the blue sky", "a red car", "one house"]


def test_words_that_stand_together_are_one_concept_and_not_its_words():
    found = mined([*HYDRANTS, *OTHERS])
    assert found["fire hydrant"] == 3
    assert "hydrant" not in found
    assert found["fire"] == 2


def test_a_phrase_of_one_template_is_none():
    templates = [f"the signal flag means {word}" for word in ("one", "two", "three", "four")]
    assert "signal flag" not in mined([*templates, *OTHERS], 3)


def test_names_of_people_are_no_concepts():
    assert not {"peter", "smith"} & mined([f"a cat by Peter Smith {n}" for n in "abcd"]).keys()


def test_words_of_other_scripts_count_as_they_stand():
    assert mined(["кот", "Кот и мяч", "a ball"]) == {"кот": 2}


def test_a_mined_vocabulary_can_be_read_edited_and_given(tmp_path):
    vocabulary = mine_vocabulary([tokens(caption) for caption in (*HYDRANTS, *OTHERS)], 2)
    assert Vocabulary.from_csv(vocabulary.to_csv()) == vocabulary
    file = tmp_path / "mine.csv"
    file.write_bytes(vocabulary.to_csv() + b'"ice, cream",0,"an ice cream|a cone, of ice"\n')
    read = read_vocabulary(file)
    assert read.names == (*vocabulary.names, "ice, cream")
    assert read.prompts[-1] == ("an ice cream", "a cone, of ice")


def test_a_text_file_has_one_name_a_line_and_repeats_and_empty_lines_are_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    file = tmp_path / "names.txt"
    file.write_text("\ufeffdog\n\n  Fire   hydrant \nDOG\nfire hydrant\n\ncat", encoding="utf-8")
    assert read_vocabulary(file).names == ("dog", "Fire hydrant", "cat")
    assert "3 names; 4 empty lines and repeats left out" in caplog.text


def test_names_of_any_script_are_kept_as_they_are_written(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("кот\nКот\n猫\nقطة\nबिल्ली\ncat\n", encoding="utf-8")
    assert read_vocabulary(file).names == ("кот", "猫", "قطة", "बिल्ली", "cat")


def test_a_csv_table_may_have_prompts_for_some_names(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("concept,prompts\ndog,a dog|the dog\ncat,\n,nothing\nDOG,another\n", encoding="utf-8")
    read = read_vocabulary(file)
    assert (read.names, read.prompts) == (("dog", "cat"), (("a dog", "the dog"), ()))


def test_a_parquet_table_may_have_lists_of_prompts(tmp_path):
    file = tmp_path / "names.parquet"
    pd.DataFrame({"name": ["dog", None, "cat"], "prompts": [["a dog", "the dog"], None, None]}).to_parquet(file)
    read = read_vocabulary(file)
    assert (read.names, read.prompts) == (("dog", "cat"), (("a dog", "the dog"), ()))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"\n \n", "not one name"),
        ("a.csv", b"word,n\ndog,1\n", "needs a column `name`; it has: word, n"),
        ("a.parquet", b"PAR1 is not enough", "not a Parquet file"),
        ("a.txt", b"\xff\xfe\x00dog", "cannot be read as a vocabulary"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_input_error(tmp_path, name, content, expected):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read_vocabulary(file)


def test_a_missing_file_is_input_error(tmp_path):
    with pytest.raises(InputError, match="no such vocabulary file"):
        read_vocabulary(tmp_path / "none.txt")


def test_too_many_names_are_refused_with_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    file = tmp_path / "names.txt"
    file.write_text("a1\nb2\nc3\nd4\n")
    with pytest.raises(InputError, match="4 names; 3 are the most"):
        read_vocabulary(file)


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("Two hot dogs on a plate", ["hot dog"]),
        ("a hot day for dogs", ["dog"]),
        ("red car", ["red"]),
        ("parked", []),
        ("DOGS!", ["dog"]),
    ],
)
def test_the_longest_names_are_found_by_their_lemmas(caption, names):
    assert mentioned(of("dog", "hot dog", "park", "red"), caption) == names


@pytest.mark.parametrize("said", [None, {"women", "woman", "man", "leaf", "t-shirt", "fire", "truck", "2"}])
def test_names_with_other_words_than_the_texts_are_left_untagged_and_nothing_is_missed(said):
    asked = []

    def listening(text):
        asked.append(text)
        return tokens(text)

    names = ("Women", "men", "Leaves", "T-Shirts", "fire truck", "blorb", "fire blorb")
    find = Mentions(of(*names), listening, said)
    text = "women and a man near a fire truck with leaves in a t-shirt"
    assert [names[number] for number in find(tokens(text))] == [*names[:5]]
    assert ("blorb" in asked) == ("fire blorb" in asked) == (said is None)


def test_a_name_is_found_however_it_is_written_in_the_vocabulary():
    assert mentioned(of("Dogs", "T-Shirt"), "a dog in a t-shirt") == ["Dogs", "T-Shirt"]
