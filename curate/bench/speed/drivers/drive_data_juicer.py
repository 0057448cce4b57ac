"""data-juicer's image_text_similarity_filter over image files: decoding and both towers, no embeddings on disk.

It starts its processes and loads its model anew for every data set, so the time of a small one is taken off.
"""

import os
import time

from driver_protocol import serve

PROCESSES = len(os.sched_getaffinity(0))
FEW = 2 * PROCESSES


def make(given):
    import datasets
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.filter.image_text_similarity_filter import ImageTextSimilarityFilter
    from data_juicer.utils.mm_utils import SpecialTokens

    datasets.disable_caching()
    samples = [
        {"text": f"{SpecialTokens.image} {caption} {SpecialTokens.eoc}", "images": [path]}
        for path, caption in given["files"]
    ]

    def seconds(some):
        # An interval for all scores: it shall work, and reject nothing.
        op = ImageTextSimilarityFilter(
            hf_clip=given["towers"], min_score=0.0, max_score=1.0, num_proc=PROCESSES, accelerator="cpu"
        )
        started = time.monotonic()
        op.run(NestedDataset.from_list(some))
        return time.monotonic() - started

    def measure():
        few = seconds(samples[:FEW])
        return {"images": len(samples) - FEW, "seconds": max(seconds(samples) - few, 1e-9), "taken_off_seconds": few}

    return measure


if __name__ == "__main__":
    serve(make)
