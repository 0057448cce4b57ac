"""What a page says about a program that reads a run works with that program itself."""

import re

import pandas as pd
import pytest

from tests.docs.snippets import ROOT, losses, run, run_page, snippets_of

TINY = "--model local-dir:tiny --device cpu --precision fp32 --log-every-n-steps 1"


def test_open_clip_trains_for_20_steps_on_exported_shards(reader):
    told = losses(run_page("docs/consumers/open_clip.md", reader, {"--model ViT-B-32": TINY}))
    assert len(told) == 20
    assert all(0 < loss < 10 for loss in told)
    assert (reader / "logs" / "kept" / "checkpoints" / "epoch_1.pt").stat().st_size > 0


def test_open_clip_draws_weighted_shards_with_the_line_that_export_prints(reader):
    printed = run(["curate", "export", "runs/web", "--weighted", "--shard-pairs", "20", "--out", "weighted"], reader)
    line = printed.partition("train: ")[2].replace("--model ViT-B-32", TINY)
    told = losses(run(["bash", "-c", f"{line.strip()} --workers 1 --batch-size 16 --epochs 1 --warmup 5"], reader))
    assert len(told) == -(-200 // 16)


def test_webdataset_draws_and_mixes(reader, web_run):
    annotations = pd.read_parquet(web_run / "annotations")
    check = """
from PIL import Image
drawn = list(pairs)
assert all(isinstance(image, Image.Image) for image, _, _ in drawn)
assert all(caption in (record["caption"], record["completed_caption"]) for _, caption, record in drawn)
print("drawn", len(drawn))
"""
    drawn = int(re.search(r"drawn (\d+)", run_page("docs/consumers/webdataset.md", reader, check=check))[1])
    chance = 1 - annotations.noise_prob
    assert abs(drawn - chance.sum()) < 5 * (chance * (1 - chance)).sum() ** 0.5 + 1


def test_datasets_shows_pictures(reader):
    run_page(
        "docs/consumers/huggingface.md",
        reader,
        check="""
from PIL import Image
assert isinstance(first, Image.Image) and first.size == (48, 48)
assert len(pairs) == 200 and 0 < len(clean) < 200
assert isinstance(pair["image"], Image.Image)
""",
    )


def test_torch_trains_with_weights_mixed_captions_and_smoothing(reader):
    run_page(
        "docs/consumers/torch.md",
        reader,
        {'"ViT-B-32"': '"local-dir:tiny"'},
        check="""
assert torch.isfinite(loss) and smoothing.max() > 0
weights = pairs.draw_weights()
assert len(set(np.round(weights, 3))) > 2 and 0 <= weights.min() and weights.max() <= 1
""",
    )


@pytest.mark.parametrize(
    ("page", "check"),
    [
        (
            "duckdb",
            """
assert sum(count for *_, count in labels.fetchall()) == 200
rows = thresholds.fetchall()
assert rows and all(noise < below for below, _, noise in rows)
assert len(shards.fetchall()) == 2 and concepts.fetchall()
""",
        ),
        (
            "polars",
            """
assert labels["len"].sum() == 200
assert 0 < len(clean) < 200 and clean["agreement"].dtype == pl.Float32
assert len(concepts) and concepts["concept"].dtype == pl.String
""",
        ),
        (
            "pandas",
            """
assert labels.sum() == len(pairs) == len(signals) == 200
assert 0 < expected_noise < 0.5 and len(concepts)
assert len(pd.read_parquet("kept.parquet")) == len(kept)
""",
        ),
    ],
)
def test_tables_are_queried(reader, page, check):
    run_page(f"docs/consumers/{page}.md", reader, check=check)


def test_every_page_about_a_consumer_is_run():
    pages = {path.stem for path in (ROOT / "docs" / "consumers").glob("*.md")}
    assert pages == {"duckdb", "huggingface", "open_clip", "pandas", "polars", "torch", "webdataset"}
    assert all(snippets_of(f"docs/consumers/{page}.md") for page in pages)
