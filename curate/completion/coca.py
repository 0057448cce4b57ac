"""Captions from an open_clip CoCa checkpoint, with the retrieved concepts in its prompt.

CoCa: Yu et al., TMLR 2022, arXiv 2205.01917. NLIP writes under concepts; a CoCa decoder continues a text, so the
concepts stand in the text it continues.
"""

from __future__ import annotations

from collections import defaultdict
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
"""Pictures in one forward pass. Short of pictures, it is filled up: its shape decides on the last bits."""
PROMPT_STEP = 8
"""Prompts are padded to a multiple of so many tokens; only those that come out equally long share a forward pass."""
PROMPT = "{}: a photo of"


@dataclass(frozen=True)
class Coca:
    """Greedy decoding after a prompt; what is written does not depend on the pictures beside it.

    Attributes:
        coca: the model, on the CPU or a GPU.
        encode: the run's text tower.
        concepts: names in the prompt, at most; fewer where the model's context has no room for them.
        longest: tokens written after the prompt, at most.
        threads: torch threads in the calling thread.

    Raises:
        InputError: the model's context has no room for so long a caption.
    """

    coca: CocaModel
    encode: Encode
    concepts: int = 3
    longest: int = 24
    threads: int = 1

    def __post_init__(self) -> None:
        if self._room < len(self._ids(concept_prompt((), 0))):
            raise InputError(
                f"caption.coca.longest: a prompt and {self.longest} tokens are more than this model's context; "
                f"at most {self.longest + self._room - len(self._ids(concept_prompt((), 0)))} fit"
            )

    def __call__(self, pictures: Pictures) -> Written:
        """See `Decoder`.

        Raises:
            InputError: the pictures came without pixels, or of another size.
        """
        pixels, side = pictures.pixels, int(self.coca.preprocess["size"])
        if pixels is None or pixels.shape[1:] != (side, side, 3):
            held = "none" if pixels is None else f"{pixels.shape[1]} x {pixels.shape[2]}"
            raise InputError(f"caption.decoder: coca needs pictures of {side} x {side} pixels; it got {held}")
        # The thread count belongs to the calling thread, and decides on the last bits.
        torch.set_num_threads(self.threads)
        prompts = [self._prompt(named) for named in pictures.concepts]
        captions = [""] * len(pictures)
        for width, rows in self._equally_long(prompts).items():
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                said = self._write(pixels[some], [prompts[row] for row in some], width)
                for row, caption in zip(some, said, strict=True):
                    captions[row] = caption
        return Written(captions, embedded(captions, self.encode))

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have, the start among them."""
        model = self.coca.model
        return min(int(model.context_length), int(model.text.context_length)) - self.longest

    def _ids(self, prompt: str) -> list[int]:
        """The prompt's tokens with the start and without the end."""
        ids: list[int] = self.coca.tokenizer([prompt])[0].tolist()
        return ids[: ids.index(self.coca.tokenizer.eot_token_id)]

    def _prompt(self, concepts: Sequence[Concept]) -> list[int]:
        """Tokens of the prompt with as many concepts as there is room for."""
        prompts = (self._ids(concept_prompt(concepts, most)) for most in range(self.concepts, -1, -1))
        return next(ids for ids in prompts if len(ids) <= self._room)

    def _equally_long(self, prompts: Sequence[Sequence[int]]) -> dict[int, list[int]]:
        """Rows by the length that their prompts are padded to."""
        rows: defaultdict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(prompts):
            rows[min(-(-len(ids) // PROMPT_STEP) * PROMPT_STEP, self._room)].append(row)
        return rows

    def _write(self, pixels: NDArray[np.uint8], prompts: Sequence[Sequence[int]], width: int) -> list[str]:
        """One forward pass a token. Attention is causal: what stands behind a row's last token changes nothing."""
        model, tokenizer = self.coca.model, self.coca.tokenizer
        pad, start, end = model.pad_id, tokenizer.sot_token_id, tokenizer.eot_token_id
        with torch.inference_mode():
            full = np.zeros((BATCH, *pixels.shape[1:]), dtype=np.uint8)
            full[: len(pixels)] = pixels
            latent, seen = self.coca.encode_images(torch.from_numpy(full))
            text = torch.full((BATCH, width), pad, device=seen.device)
            for row, ids in enumerate(prompts):
                text[row, : len(ids)] = torch.tensor(ids)
            rows = torch.arange(BATCH, device=seen.device)
            writing = rows < len(prompts)
            last = torch.tensor([len(ids) - 1 for ids in prompts] + [0] * (BATCH - len(prompts)), device=seen.device)
            for written in range(self.longest):
                logits = model(None, text, image_latent=latent, image_embs=seen, output_labels=False)["logits"]
                scores = logits[rows, last].float()
                scores[:, [pad, start] if written else [pad, start, end]] = -torch.inf
                chosen = scores.argmax(dim=1)
                writing &= chosen != end
                if not writing.any():
                    break
                text = torch.nn.functional.pad(text, (0, 1), value=pad)
                last = last + 1
                text[rows, last] = torch.where(writing, chosen, pad)
            continued = [text[row, len(ids) :].tolist() for row, ids in enumerate(prompts)]
        said = [tokenizer.decode([number for number in ids if number != pad]) for ids in continued]
        return [" ".join(caption.split()) for caption in said]


def concept_prompt(concepts: Sequence[Concept], most: int) -> str:
    """The best concepts' names before the words that the caption continues; "dog, ball: a photo of"."""
    names = ", ".join(name for name, _ in concepts[:most])
    return PROMPT.format(names) if names else PROMPT.removeprefix("{}: ")
