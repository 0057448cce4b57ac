"""From a table of web addresses to annotations: fetched once, failed rows kept, tried again when asked."""

import csv
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.config import load_config
from curate.errors import CurateError, InputError
from curate.execution import LocalRunner
from curate.plan import make_plan
from curate.store import METADATA_KEY
from tests.conftest import Pipeline
from tests.corpus import make_pairs
from tests.web import redirects, sends, serving

GONE, PAGE, INSIDE, EMPTY = 3, 17, 30, 44
"""Rows whose picture cannot be had."""
ROWS = 60


class UrlPipeline(Pipeline):
    """A pipeline over a table of the web server's addresses."""

    def __init__(self, web, folder, encoder, **download):
        super().__init__(folder, folder / "run", encoder)
        self.web, self.table = web, folder / "list.csv"
        self.raw["input"] = {
            "format": "urls",
            "path": str(self.table),
            "part_rows": 25,
            "keep": ["url"],
            "download": {"allow_private": True, "retries": 0, "timeout": 5, **download},
        }
        self.raw["stages"] = ["embed"]
        self.rows = [(self.web.put(f"/{n}.png", i), c) for n, (i, c) in enumerate(make_pairs(ROWS))]
        self.write()

    def write(self):
        self.table.parent.mkdir(parents=True, exist_ok=True)
        with self.table.open("w", newline="") as file:
            csv.writer(file).writerows([("url", "caption"), *self.rows])

    def annotations(self):
        return pd.read_parquet(self.output / "annotations")

    def asked(self):
        """How many requests came since the last call."""
        count = self.web.asked.total()
        self.web.asked.clear()
        return count

    def again(self, retry_failed=False):
        """Names of the steps that worked on parts, and which parts."""
        from curate.execution import execute
        from tests.conftest import SilentProgress

        runner, heard = LocalRunner(2), SilentProgress()
        execute(make_plan(self.config(), runner.index, retry_failed=retry_failed), runner, heard)
        return heard.parts


@pytest.fixture
def web():
    with serving() as web:
        yield web


@pytest.fixture
def listed(web, tiny_encoder, tmp_path):
    """A table in which four rows have no picture."""
    made = UrlPipeline(web, tmp_path, tiny_encoder)
    web.answers[f"/{GONE}.png"] = sends(b"gone", 404)
    web.answers[f"/{PAGE}.png"] = sends(b"<html>", Content_Type="text/html")
    web.answers[f"/{INSIDE}.png"] = redirects("file:///etc/passwd")
    made.rows[EMPTY] = ("", "no address")
    made.write()
    return made


def test_every_row_is_annotated_and_says_why_it_has_no_picture(listed):
    heard = listed.run()
    table = listed.annotations()
    assert len(table) == ROWS
    assert table.caption.tolist() == [caption for _, caption in listed.rows]
    failed = table[table.status != "ok"]
    assert dict(zip(failed.row, failed.status, strict=True)) == {
        GONE: "download_failed",
        PAGE: "download_failed",
        INSIDE: "download_failed",
        EMPTY: "missing_image",
    }
    assert failed.error.tolist() == [
        "HTTP 404",
        "the answer is a web page, not a picture",
        "not a web address: it does not begin with http:// or https://",
        "the record names no image file",
    ]
    assert failed.image_sha256.isna().all()
    assert heard.statuses == {"ok": ROWS - 4, "download_failed": 3, "missing_image": 1}
    kept = {field["name"]: field["value"] for field in table.fields[GONE]}
    assert kept == {"url": listed.rows[GONE][0]}


def test_the_bytes_in_the_run_directory_are_those_that_came(listed):
    listed.run()
    downloads = pq.read_table(listed.output / "downloads").to_pylist()
    pictures = [image for image, _ in make_pairs(ROWS)]
    bad = {GONE, PAGE, INSIDE, EMPTY}
    assert [row["image"] for row in downloads] == [None if n in bad else image for n, image in enumerate(pictures)]
    assert downloads[GONE]["http_status"] == 404
    assert downloads[0]["row_id"] == "list.csv:0"


def test_a_second_run_fetches_nothing(listed):
    listed.run()
    assert listed.asked() == ROWS - 1
    contents = listed.contents()
    assert listed.run().parts == []
    assert listed.asked() == 0
    assert listed.contents() == contents
    assert listed.wrong() == {}


def test_nothing_is_fetched_to_plan_and_the_step_is_shown(listed, curate):
    code, told, _ = curate("plan", listed.file())
    assert code == 0
    assert "downloads" in told
    assert listed.asked() == 0


def test_what_was_done_before_an_interruption_is_not_fetched_again(listed):
    listed.run()
    contents = listed.contents()
    listed.asked()
    for step in ("downloads", "embed"):
        (listed.output / step / "part-00000001.parquet").unlink()
    (listed.output / "downloads" / ".tmp-1-part-00000001.parquet").write_bytes(b"half")
    listed.run()
    assert listed.asked() == 25 - 1
    assert listed.contents() == contents


def test_the_same_downloads_give_the_same_bytes(listed, tiny_encoder, tmp_path):
    listed.run()
    other = UrlPipeline(listed.web, tmp_path / "other", tiny_encoder, threads=1, timeout=9)
    other.rows = listed.rows
    other.write()
    for n, answer in ((GONE, sends(b"", 404)), (PAGE, sends(b"", Content_Type="text/html"))):
        other.web.answers[f"/{n}.png"] = answer
    other.web.answers[f"/{INSIDE}.png"] = redirects("file:///x")
    other.run(runner=LocalRunner(1))
    assert other.contents() == listed.contents()


def test_failed_rows_are_tried_again_when_asked_and_only_their_parts_change(listed):
    listed.run()
    listed.asked()
    listed.web.put(f"/{GONE}.png", make_pairs(ROWS)[GONE][0])
    assert listed.again() == []
    assert listed.asked() == 0
    worked = listed.again(retry_failed=True)
    assert listed.asked() == 3
    assert ("embed", 0) in worked
    assert ("embed", 1) not in worked
    assert listed.annotations().status[GONE] == "ok"
    assert listed.annotations().status[PAGE] == "download_failed"


def test_a_retry_to_which_nothing_new_comes_changes_nothing(listed):
    listed.run()
    contents = listed.contents()
    listed.web.answers[f"/{GONE}.png"] = sends(b"", 500)
    assert {name for name, _ in listed.again(retry_failed=True)} == {"downloads"}
    assert listed.contents() == contents


def test_retrying_needs_downloads(pipeline, curate):
    code, _, told = curate("run", pipeline.file(), "--retry-failed")
    assert code == 2
    assert "--retry-failed" in told


def test_the_command_tries_again(listed, curate):
    assert curate("run", listed.file(), "--quiet")[0] == 0
    listed.web.put(f"/{GONE}.png", make_pairs(ROWS)[GONE][0])
    assert curate("run", listed.file(), "--quiet", "--retry-failed")[0] == 0
    assert listed.annotations().status[GONE] == "ok"


def test_new_rows_of_a_part_are_fetched_alone(listed):
    listed.run()
    listed.asked()
    listed.rows.append((listed.web.put("/new.png", make_pairs(1, seed=4)[0][0]), "a new one"))
    listed.write()
    listed.run()
    assert listed.web.asked["/new.png"] == 1
    assert listed.web.asked.keys() <= {"/new.png", f"/{GONE}.png", f"/{PAGE}.png", f"/{INSIDE}.png"}
    assert listed.annotations().caption.tolist()[-1] == "a new one"


def test_an_address_that_occurs_twice_in_a_part_is_fetched_once(listed):
    listed.rows[1] = (listed.rows[0][0], "the same picture")
    listed.write()
    listed.run()
    assert listed.web.asked["/0.png"] == 1
    table = listed.annotations()
    assert table.image_sha256[0] == table.image_sha256[1]


def test_loopback_is_refused_without_the_flag(listed):
    del listed.raw["input"]["download"]["allow_private"]
    listed.run()
    assert listed.asked() == 0
    errors = listed.annotations().error
    assert errors[0] == "address 127.0.0.1 is loopback"
    assert (listed.annotations().status == "download_failed").sum() == ROWS - 1


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "tsv"])
def test_other_tables_give_the_same_pairs(listed, ending):
    listed.run()
    expected = listed.annotations().drop(columns=["row_id", "shard", "error"])
    table = listed.table.with_suffix(f".{ending}")
    urls, captions = zip(*listed.rows, strict=True)
    if ending == "parquet":
        named = {"URL": pa.array([url or None for url in urls]), "TEXT": captions}
        pq.write_table(pa.table(named), table)
        listed.raw["input"]["keep"] = ["URL"]
    elif ending == "jsonl":
        lines = (json.dumps({"url": url, "caption": caption}) for url, caption in listed.rows)
        table.write_text("\n".join(lines))
    else:
        table.write_text("".join(f"{url}\t{caption}\n" for url, caption in [("url", "caption"), *listed.rows]))
    listed.raw["input"]["path"] = str(table)
    listed.raw["output"] = str(listed.output.with_name("other"))
    listed.output = listed.output.with_name("other")
    listed.run()
    found = listed.annotations().drop(columns=["row_id", "shard", "error"])
    unequal = ["fields"] if ending == "parquet" else []
    pd.testing.assert_frame_equal(found.drop(columns=unequal), expected.drop(columns=unequal))


def test_reports_and_exports_read_the_run_directory_not_the_web(listed, curate, tmp_path):
    listed.run()
    listed.asked()
    target = tmp_path / "out"
    code, _, told = curate(
        "export", listed.output, "--pipeline", listed.file(), "--where", "status == 'ok'", "--out", target
    )
    assert code == 0, told
    assert sum(json.loads((target / "sizes.json").read_text()).values()) == ROWS - 4
    import curate as library

    pairs = list(library.open(listed.output, listed.file()).pairs())
    assert pairs[0].image == make_pairs(ROWS)[0][0]
    assert pairs[GONE].image is None
    assert listed.asked() == 0


def test_no_file_names_a_path_or_the_server_but_the_addresses(listed):
    listed.run()
    for name in listed.contents():
        facts = pq.read_schema(listed.output / name).metadata[METADATA_KEY] if name.endswith("parquet") else b""
        assert listed.web.url.encode() not in facts
        assert str(listed.output).encode() not in facts


def test_downloads_of_another_table_are_not_taken(listed):
    listed.run()
    plan = make_plan(listed.config(), LocalRunner(1).index)
    part = plan.manifest.parts[0]
    shard = plan.manifest.shards[part.shard]
    file = listed.output / "downloads" / "part-00000000.parquet"
    file.write_bytes((listed.output / "downloads" / "part-00000001.parquet").read_bytes())
    with pytest.raises(CurateError, match="run the pipeline again"):
        list(plan.source.read(shard, part, 10))


def test_tables_of_one_format(listed):
    (listed.table.parent / "more.jsonl").write_text('{"url": "http://a/", "caption": "b"}\n')
    listed.raw["input"]["path"] = [str(listed.table), str(listed.table.parent / "more.jsonl")]
    with pytest.raises(InputError, match=r"several formats \(csv, jsonl\)"):
        listed.run()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("threads", "0", "greater than or equal to 1"),
        ("timeout", "soon", "a valid number"),
        ("user_agent", '"a\\nb"', "one line of ASCII"),
        ("retry", "3", "did you mean 'retries'"),
    ],
)
def test_wrong_options_are_told(listed, curate, key, value, told):
    code, _, said = curate("validate", listed.file(), "--set", f"input.download.{key}={value}")
    assert code == 2
    assert f"input.download.{key}: " in said
    assert told in said


def test_downloading_is_for_addresses(pipeline, curate):
    code, _, told = curate("validate", pipeline.file(), "--set", "input.download.threads=3")
    assert code == 2
    assert "download is for format: urls" in told


def test_a_pipeline_that_init_wrote_runs(listed, curate, monkeypatch):
    monkeypatch.chdir(listed.table.parent)
    code, told, _ = curate("init", "list.csv")
    assert code == 0
    assert "of format urls" in told
    config = load_config("pipeline.yaml")
    assert (config.input.format, config.input.columns.image, config.input.keep) == ("urls", "url", ["url"])
    quick = [
        "input.download.allow_private=true",
        f"encoder={json.dumps(listed.raw['encoder'])}",
        *(f"stages.{name}=null" for name in ("noise", "concepts", "caption")),
    ]
    code, _, told = curate("run", "pipeline.yaml", "--quiet", *(a for q in quick for a in ("--set", q)))
    assert code == 0, told
    assert (pd.read_parquet("runs/list/annotations").status == "ok").sum() == ROWS - 4
