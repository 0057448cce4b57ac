"""`curate init`: a pipeline that fits what is there, runs as it stands, and overwrites nothing unasked."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curate.config import DownloadConfig, load_config
from curate.errors import InputError
from curate.init import FoundInput, default_output, find_inputs, pipeline_text
from curate.sources.options import ColumnNames
from tests.corpus import make_pairs, write_corpus


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_tars_gives_a_pipeline_that_runs(here, curate, tiny_encoder):
    write_corpus(here / "data" / "shapes")
    code, out, _ = curate("init", "data/shapes")
    assert code == 0
    assert "curate validate pipeline.yaml" in out
    config = load_config("pipeline.yaml")
    assert (config.input.format, config.input.path, config.output) == (
        "webdataset",
        "data/shapes/*.tar",
        "runs/shapes",
    )
    assert config.stages.noise is not None
    assert config.stages.concepts is not None
    assert config.stages.caption is not None
    tiny = ["--set", f"encoder={json.dumps(tiny_encoder)}"]
    assert curate("validate", "pipeline.yaml", *tiny)[0] == 0
    quick = ["stages.noise={folds: 3, rounds: 1, itc_epochs: 1}", "stages.caption.decoder=consensus"]
    assert curate("run", "pipeline.yaml", "--quiet", *tiny, *(a for q in quick for a in ("--set", q)))[0] == 0
    annotations = pd.read_parquet(here / "runs" / "shapes" / "annotations")
    assert {"noise_prob", "concepts", "completed_caption"} <= set(annotations.columns)
    assert len(annotations) == 160


def test_what_stands_in_it_are_the_defaults(here):
    text = pipeline_text(FoundInput("csv", "a.csv", 1, 10), ColumnNames(), "out", offline=False)
    (here / "p.yaml").write_text(text)
    (here / "q.yaml").write_text(
        "input: {format: csv, path: a.csv}\noutput: out\nencoder: {model: ViT-B-32, pretrained: laion2b_s34b_b79k}\n"
        "stages: [embed, noise, concepts, caption]\n"
    )
    assert load_config("p.yaml") == load_config("q.yaml")


def test_a_file_is_not_overwritten_but_with_force(here, curate):
    write_corpus(here / "d", count=4)
    (here / "pipeline.yaml").write_text("mine")
    code, _, told = curate("init", "d")
    assert code == 2
    assert "is there already" in told
    assert (here / "pipeline.yaml").read_text() == "mine"
    assert curate("init", "d", "--out", "other.yaml")[0] == 0
    assert curate("init", "d", "--force")[0] == 0
    assert (here / "pipeline.yaml").read_text() == (here / "other.yaml").read_text()


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs.jsonl", "pairs.csv"])
def test_tables_with_usual_and_unusual_columns(here, curate, name):
    image, caption = make_pairs(1)[0]
    (here / "x.png").write_bytes(image)

    def write(column):
        rows = [{"image": "x.png", column: caption}]
        if name.endswith("parquet"):
            pq.write_table(pa.Table.from_pylist(rows), here / name)
        elif name.endswith("jsonl"):
            (here / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pd.DataFrame(rows).to_csv(here / name, index=False)

    write("caption")
    assert curate("init", name)[0] == 0
    assert load_config("pipeline.yaml").input.format == name.partition(".")[2]
    assert load_config("pipeline.yaml").output == "runs/pairs"
    write("title")
    code, _, told = curate("init", name, "--force")
    assert code == 2
    assert "--caption-column NAME" in told
    assert curate("init", name, "--force", "--caption-column", "title")[0] == 0
    assert load_config("pipeline.yaml").input.columns.caption == "title"


@pytest.mark.parametrize("column", ["url", "URL", "image_url"])
def test_a_table_of_web_addresses_is_downloaded(here, curate, column):
    (here / "u.csv").write_text(f"{column},caption\nhttp://example.org/1.jpg,a cat\n")
    for more in ([], ["--image-column", column]):
        assert curate("init", "u.csv", "--force", *more)[0] == 0
        given = load_config("pipeline.yaml").input
        assert (given.format, given.columns.image, given.keep) == ("urls", column, [column])
        assert given.download == DownloadConfig()


def test_addresses_without_captions_are_told(here, curate):
    (here / "u.csv").write_text("url,title\nhttp://example.org/1.jpg,a cat\n")
    code, _, told = curate("init", "u.csv")
    assert code == 2
    assert "--caption-column NAME" in told
    assert curate("init", "u.csv", "--caption-column", "title")[0] == 0
    assert load_config("pipeline.yaml").input.columns.caption == "title"


def test_where_formats_are_mixed_one_is_chosen(here, curate):
    write_corpus(here / "d", count=4)
    (here / "d" / "t.csv").write_text("image,caption\nx.png,a cat\n")
    code, _, told = curate("init", "d")
    assert code == 2
    assert "webdataset (1 file" in told
    assert "csv (1 file" in told
    assert "--format" in told
    assert curate("init", "d", "--format", "csv")[0] == 0
    assert load_config("pipeline.yaml").input.path == "d/*.csv"
    assert curate("init", "d", "--format", "jsonl", "--force")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "Where are the pairs?"), (["nowhere"], "matches no file"), (["notes.txt"], "notes.txt is none of .tar")],
)
def test_where_nothing_is_found_nothing_is_written(here, curate, arguments, told):
    (here / "notes.txt").write_text("x")
    code, _, said = curate("init", *arguments)
    assert code == 2
    assert told in said
    assert not (here / "pipeline.yaml").exists()


def test_on_a_terminal_it_asks(here, curate, monkeypatch):
    write_corpus(here / "d", count=4)
    (here / "d" / "t.csv").write_text("image,title\nx.png,a cat\n")
    answers = iter(["d", "csv", "title"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda question: next(answers))
    assert curate("init")[0] == 0
    config = load_config("pipeline.yaml")
    assert (config.input.format, config.input.path, config.input.columns.caption) == ("csv", "d/*.csv", "title")


def test_shards_in_folders_below_are_named_by_the_folder(here):
    write_corpus(here / "d" / "one", count=4)
    write_corpus(here / "d" / "two", count=4)
    assert find_inputs("d") == [FoundInput("webdataset", "d", 2, find_inputs("d")[0].bytes)]


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("data/clipart", "runs/clipart"),
        ("data/clipart/*.tar", "runs/clipart"),
        ("data/x-{00..12}.tar", "runs/x-"),
        ("s3://bucket/web.parquet", "runs/web"),
        (".", "runs/pairs"),
        ("../mein Ordner/", "runs/Ordner"),
    ],
)
def test_the_run_directory_is_called_like_the_source(source, output):
    assert default_output(source) == output


@pytest.mark.parametrize("name", ['a "b".csv', "a: b #c.csv", "{x}.csv", "ünï.csv", "a\\b.csv", "true"])
def test_any_name_is_quoted_so_that_it_comes_back(name):
    text = pipeline_text(FoundInput("csv", name, 1, 1), ColumnNames(name, name, name), name, offline=True)
    raw = yaml.safe_load(text)
    assert raw["input"]["path"] == raw["output"] == raw["input"]["columns"]["key"] == name


def test_a_name_that_is_not_utf8_is_refused():
    with pytest.raises(InputError, match="not UTF-8"):
        pipeline_text(FoundInput("csv", "a\udcff.csv", 1, 1), ColumnNames(), "out", offline=True)
