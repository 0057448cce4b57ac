"""Row `eager_loop`: what a user would write: PIL in a DataLoader, then open_clip as it comes, in float32."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.workload import Workload

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 64


class _Pairs:
    """A dataset of torch: preprocessed image and tokens of a caption."""

    def __init__(self, images: list[bytes], captions: list[str], preprocess: Any, tokenize: Any) -> None:
        self._images, self._captions = images, captions
        self._preprocess, self._tokenize = preprocess, tokenize

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = Image.open(io.BytesIO(self._images[row]))
        return self._preprocess(picture), self._tokenize([self._captions[row]])[0]


def eager_loop_child(work: Workload, images: int) -> ChildCommand:
    """So many images per measurement."""
    given = {"work": work.to_json(), "images": images}
    return module_child("eager_loop", "curate.bench.speed.eager_loop", given)


def _make(given: dict[str, Any]) -> Measure:
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torch.utils.data import DataLoader

    from curate.models.weights import locate, read_state_dict

    work = Workload(**given["work"])
    # All of them, as torch does by itself where no variable says otherwise.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    files = locate(work.model, work.checkpoint)
    device = "cuda" if work.device != "cpu" and torch.cuda.is_available() else "cpu"
    model: Any = open_clip.CLIP(**files.config["model_cfg"])
    model.load_state_dict(read_state_dict(files.weights[0]))
    model = model.eval().to(device)
    side = files.config["model_cfg"]["vision_cfg"]["image_size"]
    preprocess = image_transform_v2(PreprocessCfg(size=side), is_train=False)
    images, captions = work.pairs()
    held = _Pairs(
        images[: given["images"]], captions[: given["images"]], preprocess, open_clip.get_tokenizer("ViT-B-32")
    )
    workers = len(os.sched_getaffinity(0))
    loader: Any = DataLoader(cast("Any", held), batch_size=BATCH_SIZE, num_workers=workers, persistent_workers=True)

    def measure() -> Answer:
        started = time.monotonic()
        with torch.no_grad():
            for pixels, tokens in loader:
                model.encode_image(pixels.to(device), normalize=True).cpu()
                model.encode_text(tokens.to(device), normalize=True).cpu()
        return {"images": len(held), "seconds": time.monotonic() - started}

    measure()  # The loader's workers are started, and stay.
    return measure


if __name__ == "__main__":
    serve(_make)
