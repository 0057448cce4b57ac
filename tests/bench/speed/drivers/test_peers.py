import sys
from pathlib import Path

import numpy as np
from PIL import Image

from curate.bench.speed.child import driver_child, loaded
from curate.bench.speed.drawn_corpus import TINY, tiny_towers
from curate.bench.speed.peers import PEERS, peer_child, write_towers
from curate.bench.speed.workload import write_workload


def test_peers_get_towers_that_transformers_loads(tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder = write_towers(TINY, tmp_path / "towers")
    processor = CLIPProcessor.from_pretrained(folder)
    picture = Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8))
    given = processor(text=["a red thing"], images=[picture], return_tensors="pt", padding=True)
    made = CLIPModel.from_pretrained(folder)(**given)
    assert made.image_embeds.shape == made.text_embeds.shape == (1, 16)
    assert given["input_ids"][0, 0] == 49406
    assert given["input_ids"][0, -1] == 49407


def test_a_peer_that_is_not_installed_says_so_itself(tmp_path):
    model, checkpoint = tiny_towers(tmp_path)
    work = write_workload([], 64, 4, 2, (model, checkpoint, "cpu"), tmp_path / "work")
    for name in PEERS:
        how = peer_child(name, Path(sys.executable), work, 3, tmp_path / "peer")
        with loaded([how]) as (children, refused):
            assert not children
        assert "No module named" in refused[name]


def test_drivers_keep_off_the_network():
    how = driver_child("clip_retrieval", Path(sys.executable), "drive_clip_retrieval.py", {"images": 1})
    assert dict(how.environment)["HF_HUB_OFFLINE"] == "1"
