"""Captions from an open_clip CoCa checkpoint, with the retrieved concepts in its prompt.

CoCa: Yu et al., TMLR 2022, arXiv 2205.01917. NLIP writes under concepts; a CoCa decoder continues a text, so the
concepts stand in the text it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from curate.completion.decoders import Encode, Pictures, Written, embedded
from curate.errors import InputError
from curate.models.captioner import Concept
from curate.models.towers import CocaModel

BATCH = 8
PROMPT = "{}: a photo of"
_NEVER = -1e9


@dataclass(frozen=True)
class Coca:
    """Greedy decoding after a prompt; what is written does not depend on the pictures beside it.

    Attributes:
        coca: the model, on the CPU or a GPU.
        encode: the run's text tower.
        concepts: names in the prompt, at most.
        longest: tokens written after the prompt, at most.
        threads: torch threads in the calling thread.
    """

    coca: CocaModel
    encode: Encode
    concepts: int = 3
    longest: int = 24
    threads: int = 1

    def __call__(self, pictures: Pictures) -> Written:
        """See `Decoder`.

        Raises:
            InputError: the pictures came without pixels, or of another size.
        """
        pixels, size = pictures.pixels, self.coca.preprocess["size"]
        side = size if isinstance(size, int) else size[0]
        if pixels is None or pixels.shape[1:] != (side, side, 3):
            held = "none" if pixels is None else f"{pixels.shape[1]} x {pixels.shape[2]}"
            raise InputError(f"caption.decoder: coca needs pictures of {side} x {side} pixels; it got {held}")
        # The thread count belongs to the calling thread, and decides on the last bits.
        torch.set_num_threads(self.threads)
        captions: list[str] = []
        for start in range(0, len(pictures), BATCH):
            part = slice(start, min(start + BATCH, len(pictures)))
            prompts = [concept_prompt(named, self.concepts) for named in pictures.concepts[part]]
            captions += self._write(pixels[part], prompts)
        return Written(captions, embedded(captions, self.encode))

    def _write(self, pixels: NDArray[np.uint8], prompts: Sequence[str]) -> list[str]:
        """Pictures are encoded in batches of one shape; every prompt is continued by itself."""
        with torch.inference_mode():
            full = np.zeros((BATCH, *pixels.shape[1:]), dtype=np.uint8)
            full[: len(pixels)] = pixels
            latent, tokens = self.coca.model._encode_image(self._prepared(full))
            return [
                self._continue(latent[row : row + 1], tokens[row : row + 1], prompt)
                for row, prompt in enumerate(prompts)
            ]

    def _prepared(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        weight = next(self.coca.model.parameters())
        shape = (1, 3, 1, 1)
        mean, std = (
            torch.tensor(self.coca.preprocess[key], device=weight.device).view(shape) for key in ("mean", "std")
        )
        values = torch.from_numpy(pixels).to(weight.device).permute(0, 3, 1, 2).float() / 255
        return ((values - mean) / std).to(weight.dtype)

    def _continue(self, latent: torch.Tensor, tokens: torch.Tensor, prompt: str) -> str:
        tokenizer, model = self.coca.tokenizer, self.coca.model
        ids = [number for number in tokenizer([prompt])[0].tolist() if number != model.pad_id]
        end, first = ids[-1], len(ids) - 1
        text = torch.tensor([ids[:-1]], device=tokens.device)
        room = min(self.longest, int(model.text.context_length) - first)
        for _ in range(room):
            scores = model(None, text, image_latent=latent, image_embs=tokens, output_labels=False)["logits"][:, -1]
            scores[:, [model.pad_id, ids[0]]] = _NEVER
            if text.shape[1] == first:
                scores[:, end] = _NEVER
            chosen = scores.argmax(dim=1, keepdim=True)
            if int(chosen) == end:
                break
            text = torch.cat([text, chosen], dim=1)
        said = tokenizer.decode(text[0, first:].tolist())
        return " ".join(said.replace("<end_of_text>", " ").replace("<start_of_text>", " ").split())


def concept_prompt(concepts: Sequence[Concept], most: int) -> str:
    """The best concepts' names before the words that the caption continues; "dog, ball: a photo of"."""
    names = ", ".join(name for name, _ in concepts[:most])
    return PROMPT.format(names) if names else PROMPT.removeprefix("{}: ")
