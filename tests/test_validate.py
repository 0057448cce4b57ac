"""`curate validate`: all that is wrong with a pipeline at once, each with its line and what to write instead."""

import pytest

GOOD = """\
input:
  path: "SHARDS/*.tar"
output: FOLDER/run
encoder:
  model: MODEL
  pretrained: CHECKPOINT
  device: cpu
stages:
  - embed
  - noise:
      folds: 3
  - concepts
  - caption
"""


@pytest.fixture
def validate(shards, tiny_encoder, tmp_path, monkeypatch, curate):
    """Validate a pipeline; returns (exit code, stdout, messages)."""
    monkeypatch.chdir(tmp_path)
    names = {"SHARDS": shards, "FOLDER": tmp_path, "MODEL": tiny_encoder["model"]}
    names["CHECKPOINT"] = tiny_encoder["pretrained"]

    def call(text, *arguments):
        for name, value in names.items():
            text = text.replace(name, str(value))
        (tmp_path / "p.yaml").write_text(text)
        before = sorted(tmp_path.iterdir())
        code, out, told = curate("validate", "p.yaml", *arguments)
        assert sorted(tmp_path.iterdir()) == before
        return code, out, told.removeprefix("error ").splitlines()

    return call


def test_a_good_pipeline(validate):
    code, out, told = validate(GOOD)
    assert (code, told) == (0, [])
    assert "4 files" in out
    assert "embed, noise, concepts, caption" in out
    assert "curate run p.yaml" in out


def test_named_weights_are_not_fetched(validate):
    text = GOOD.replace("MODEL", "ViT-B-32").replace("CHECKPOINT", "laion2b_s34b_b79k")
    code, out, _ = validate(text)
    assert code == 0
    assert "ViT-B-32, known by name" in out


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("path:", "paht:", ["2: input.paht: unknown key; did you mean 'path'?", "1: input.path: is missing; write"]),
        ('  path: "SHARDS/*.tar"', "  {}", ["1: input.path: is missing; write such as `path:"]),
        ('"SHARDS/*.tar"', "nowhere/*.tar", ["2: input.path 'nowhere/*.tar' matches no file"]),
        ('"SHARDS/*.tar"', "[]", ["2: input.path is empty"]),
        ('"SHARDS/*.tar"', "7", ["2: input.path: input should be a valid string or a valid list, but is 7"]),
        (
            'path: "SHARDS',
            'format: tar\n  path: "SHARDS',
            ["2: input.format: input should be 'webdataset', 'parquet'"],
        ),
        ('path: "SHARDS', 'part_rows: 0\n  path: "SHARDS', ["2: input.part_rows: input should be greater than"]),
        ('path: "SHARDS', 'keep: [a, a]\n  path: "SHARDS', ["2: input.keep: named twice: a"]),
        ('path: "SHARDS', 'image_root: gone\n  path: "SHARDS', ["2: input.image_root: gone: no such folder"]),
        ("*.tar", "*.parquet", ["2: input.path 'SHARDS/*.parquet' matches no file"]),
        ("SHARDS", "nosuch://x", ["2: nosuch://x/*.tar: no store is known by nosuch://"]),
        ("output: FOLDER/run\n", "", ["1: output: is missing; write such as `output: runs/mine`"]),
        ("output: FOLDER/run", "output: p.yaml/run", ["3: output: p.yaml/run: FOLDER/p.yaml is a file"]),
        ("output: FOLDER/run", "output: nosuch://x/run", ["3: output: nosuch://x/run: Protocol not known"]),
        ("output: FOLDER/run", "output: a\noutput: b", ["4: 'output' is given twice; leave one out"]),
        ("output: FOLDER/run", "output: [a]", ["3: output: input should be a valid string, but is ['a']"]),
        ("model: MODEL", "model: ViT-B-23", ["5: encoder.model: ViT-B-23: open_clip has no such model. Did you mean"]),
        ("model: MODEL", "modle: MODEL", ["5: encoder.modle: unknown key; did you mean 'model'?"]),
        ("model: MODEL", "model: gone.json", ["5: encoder.model: gone.json: no such file"]),
        ("model: MODEL", "model: offline", ["6: encoder.pretrained: CHECKPOINT has no use with `model: offline`"]),
        ("CHECKPOINT", "gone.safetensors", ["6: encoder.pretrained: gone.safetensors: no such file"]),
        ("CHECKPOINT", "p.yaml", ["6: encoder.pretrained: p.yaml: must end in one of"]),
        ("device: cpu", "device: tpu", ["7: encoder.device: input should be 'auto', 'cpu' or 'cuda', but is 'tpu'"]),
        ("device: cpu", "devices: cpu", ["7: encoder.devices: unknown key; did you mean 'device'?"]),
        (
            "stages:",
            "stage:",
            ["8: stage: unknown key; did you mean 'stages'?", "1: stages: is missing; write such as"],
        ),
        ("  - embed\n", "", ["8: stages: 'embed' must come first"]),
        ("- concepts", "- concpets", ["12: stages: there is no stage 'concpets'; did you mean 'concepts'?"]),
        ("  - concepts\n", "", ["12: stages.caption: caption needs the stage concepts before it"]),
        ("folds: 3", "folds: one", ["11: stages.noise.folds: input should be a valid integer"]),
        ("folds: 3", "signals: [nose]", ["11: stages.noise.signals: input should be 'clip_similarity'"]),
        ("folds: 3", "mixture: {by: url}", ["11: stages.noise.mixture.by: 'url' is not kept"]),
        ("- noise:\n      folds: 3", "- noise: 3", ["10: stages.noise: must be a section with keys, but is 3"]),
        ("- concepts", "- concepts: {vocabulary: gone.txt}", ["12: gone.txt: no such vocabulary file"]),
        ("- concepts", "- concepts: {prompts: [a]}", ["12: stages.concepts.prompts: each needs {} once"]),
        ("- caption", '- caption: {when: "nose < 1"}', ["13: stages.caption.when: "]),
        ("- caption", "- caption: {decoder: bert}", ["13: stages.caption.decoder: input should be 'default'"]),
    ],
)
def test_each_mistake_has_one_message_with_its_line(validate, shards, tiny_encoder, tmp_path, old, new, expected):
    code, _, told = validate(GOOD.replace(old, new))
    assert code == 2
    assert len(told) == len(expected), told
    for message in expected:
        for name, value in (("SHARDS", shards), ("FOLDER", tmp_path), ("CHECKPOINT", tiny_encoder["pretrained"])):
            message = message.replace(name, str(value))
        assert any(line.startswith(f"p.yaml:{message}") for line in told), told


@pytest.mark.parametrize(
    "text", ["", "- a", "input: [", "a: &a [*a]", "[" * 3000, "\tx: 1", "!!python/object:os.x {}"]
)
def test_what_is_no_pipeline_has_one_message(validate, text):
    code, _, told = validate(text)
    assert code == 2
    assert len(told) == 1
    assert told[0].startswith("p.yaml")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(validate):
    text = GOOD.replace("SHARDS", "nowhere").replace("FOLDER", "p.yaml").replace("CHECKPOINT", "gone.safetensors")
    text = text.replace("folds: 3", "fold: 3").replace("- concepts", "- concepts: {vocabulary: gone.txt}")
    code, _, told = validate(text.replace("- caption", "- captoin"))
    assert code == 2
    assert [line.split(":")[1] for line in told] == ["2", "3", "6", "11", "12", "13"]


def test_a_wrong_override_is_told_with_the_others(validate):
    code, _, told = validate(GOOD.replace("folds", "fold"), "--set", "encoder.devise=cpu", "--set", "seed")
    assert code == 2
    assert len(told) == 3
    assert sum("--set" in line for line in told) == 2


def test_a_table_without_its_column(validate, tmp_path):
    (tmp_path / "t.csv").write_text("image,captoin\nx.png,a cat\n")
    code, _, told = validate(GOOD.replace('path: "SHARDS/*.tar"', "{format: csv, path: t.csv}"))
    assert code == 2
    assert len(told) == 1
    assert told[0].startswith("p.yaml:2: t.csv: there is no caption column")
    assert "input.columns.caption: captoin" in told[0]


def test_weights_that_do_not_fit_the_model(validate, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    code, _, told = validate(GOOD.replace("CHECKPOINT", "w.safetensors"))
    assert code == 2
    assert told[0].startswith("p.yaml:")
    assert "w.safetensors: not a safetensors file" in told[0]


def test_signals_that_the_towers_do_not_allow(validate):
    text = GOOD.replace("folds: 3", "signals: [clip_similarity]").replace("MODEL", "offline")
    code, _, told = validate(text.replace("  pretrained: CHECKPOINT\n", ""))
    assert code == 2
    assert told[0].startswith("p.yaml:10: noise.signals: clip_similarity compares images and captions in one space")
