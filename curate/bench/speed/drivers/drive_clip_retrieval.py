"""clip-retrieval's inference over WebDataset tars, by its own worker: reading, both towers, embeddings on disk."""

import os
import tempfile
import time

import numpy
from driver_protocol import serve

BATCH_SIZE = 64


def make(given):
    from clip_retrieval.clip_inference.worker import worker

    def embed(folder):
        worker(
            tasks=[0],
            input_dataset=given["shards"],
            output_folder=folder,
            output_partition_count=1,
            input_format="webdataset",
            batch_size=min(BATCH_SIZE, given["images"]),
            num_prepro_workers=len(os.sched_getaffinity(0)),
            enable_metadata=False,
            clip_model="hf_clip:" + given["towers"],
            use_jit=False,
        )

    def measure():
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            embed(folder)
            seconds = time.monotonic() - started
            written = len(numpy.load(os.path.join(folder, "img_emb", "img_emb_0.npy")))
        if written != given["images"]:
            raise SystemExit(f"{written} embeddings of {given['images']} images were written")
        return {"images": written, "seconds": seconds}

    measure()  # It keeps the model that it has loaded.
    return measure


if __name__ == "__main__":
    serve(make)
