"""The fit: trusted pairs in, everything that completes a caption out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.completion.agreement import Agreement
from curate.completion.bank import CaptionBank, nearest
from curate.completion.decoders import NEIGHBOURS, UNTRAINED, Pictures, caption_rows
from curate.completion.policy import DecoderName, acceptance_threshold
from curate.concepts.fit import MIN_TRUSTED_PAIRS
from curate.errors import LEARNED, NothingToLearnError
from curate.models.captioner import (
    META_FILE,
    NETWORK_FILE,
    Captioner,
    CaptionerOptions,
    Concept,
    Hashes,
    fit_captioner,
)
from curate.noise.model import NoiseModel, identities
from curate.noise.similarity import Floats, half, unit_rows

BANK_FILE = "bank.safetensors"
COMPLETION_FILE = "completion.json"


@dataclass(frozen=True)
class CompletionSample:
    """Pairs that completion may learn from, at most some ten thousand, in any order.

    Attributes:
        image_sha256: checksums of the pictures.
        captions: as they came.
        image, text: embeddings, float32 [n, dv], [n, dt].
        noise_prob: in [0, 1], float32 [n].
        fold: of the noise model, int8 [n].
        concepts: retrieved by models that never saw the row.
        decided: whether noise_prob means anything; not where its mixture is undecided.
    """

    image_sha256: Sequence[str]
    captions: Sequence[str]
    image: Floats
    text: Floats
    noise_prob: Floats
    fold: NDArray[np.int8]
    concepts: Sequence[Sequence[Concept]]
    decided: bool = True


@dataclass(frozen=True)
class CompletionOptions:
    """What can be chosen.

    Attributes:
        decoder: where captions come from; those of UNTRAINED need no captioner.
        captioner: how it is trained.
        trusted_below: pairs with a smaller noise_prob are trusted: they are learned from and never completed. So no
            caption that is completed has been learned, and none can come back from memory.
        accept_quantile: see `Policy`.
        bank: trusted pairs that are kept to borrow captions from.
    """

    decoder: DecoderName = "default"
    captioner: CaptionerOptions = field(default_factory=CaptionerOptions)
    trusted_below: float = 0.5
    accept_quantile: float = 0.25
    bank: int = 20_000


@dataclass(frozen=True)
class CompletionModel:
    """What a completion needs beside the noise model. Bytes depend on sample, noise model, options and seed alone.

    Attributes:
        bank: trusted pairs.
        captioner: fitted on them; None for decoders that need none.
        learned: `identities` of the pairs learned from, ascending, uint64 [t].
        threshold: out-of-fold agreement that an accepted caption reaches.
        seed: of all draws.
    """

    bank: CaptionBank
    captioner: Captioner | None
    learned: Hashes
    threshold: float
    seed: int

    def was_learned(self, keys: Hashes) -> NDArray[np.bool_]:
        """Whether each pair is one that was learned from; bool [n]."""
        place = np.minimum(np.searchsorted(self.learned, keys), len(self.learned) - 1)
        found: NDArray[np.bool_] = self.learned[place] == keys
        return found

    def to_bytes(self) -> dict[str, bytes]:
        """File name -> content: safetensors for arrays, JSON for the rest. Equal models give equal bytes."""
        from safetensors.numpy import save

        arrays = {
            "image": self.bank.image.astype(np.float16),
            "text": self.bank.text.astype(np.float16),
            "trust": self.bank.trust,
            "learned": self.learned,
        }
        meta: dict[str, Any] = {"captions": self.bank.captions, "threshold": self.threshold, "seed": self.seed}
        text = json.dumps(meta, sort_keys=True, allow_nan=False, ensure_ascii=False)
        files = {BANK_FILE: save(arrays), COMPLETION_FILE: text.encode()}
        return files if self.captioner is None else files | self.captioner.to_bytes()

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> CompletionModel:
        """The model that `to_bytes` wrote, exactly.

        Raises:
            InputError: the captioner's weights do not fit its description.
        """
        from safetensors.numpy import load

        arrays, meta = load(files[BANK_FILE]), json.loads(files[COMPLETION_FILE])
        image, text = (arrays[name].astype(np.float32) for name in ("image", "text"))
        written = {name: files[name] for name in (NETWORK_FILE, META_FILE) if name in files}
        return cls(
            bank=CaptionBank(tuple(meta["captions"]), image, text, arrays["trust"]),
            captioner=Captioner.from_bytes(written) if written else None,
            learned=arrays["learned"],
            threshold=meta["threshold"],
            seed=meta["seed"],
        )


def untouched(reason: str) -> dict[str, bytes]:
    """What is left in place of a model's files where nothing could be learned: the verdict."""
    return {COMPLETION_FILE: json.dumps({"verdict": f"no captions: {reason}"}, ensure_ascii=False).encode()}


def verdict_of(files: Mapping[str, bytes]) -> str:
    """Why there is no model in these files; LEARNED: there is one."""
    found: str = json.loads(files[COMPLETION_FILE]).get("verdict", LEARNED)
    return found


def fit_completion(
    sample: CompletionSample, noise: NoiseModel, options: CompletionOptions, seed: int
) -> CompletionModel:
    """Bank, captioner and threshold from the trusted pairs of a sample, whatever order it comes in.

    Raises:
        NothingToLearnError: no noise_prob means anything; too few pairs with a caption are trusted; or no word occurs
            often enough to write with.
    """
    if not sample.decided:
        raise NothingToLearnError("the noise fit could not tell right captions from wrong ones.")
    keys = identities(sample.image_sha256, sample.captions, noise.seed)
    trusted = [
        row
        for row in np.lexsort((np.arange(len(keys)), keys)).tolist()
        if sample.noise_prob[row] < options.trusted_below and sample.captions[row].strip()
    ]
    rows = np.array(trusted, dtype=np.intp)
    if len(trusted) < MIN_TRUSTED_PAIRS:
        raise NothingToLearnError(
            f"{len(trusted):,} of {len(keys):,} pairs can be trusted, {MIN_TRUSTED_PAIRS} are needed."
        )
    agreement = Agreement(noise)
    features = agreement.images(sample.image[rows])
    pictures = Pictures(
        keys[rows], sample.fold[rows], features, sample.image[rows], [sample.concepts[row] for row in trusted]
    )
    text = sample.text[rows]
    scores = agreement(pictures.fold, features, np.arange(len(rows)), text)
    captions = [sample.captions[row] for row in trusted]
    trust = (1 - sample.noise_prob[rows]).astype(np.float32)
    kept = slice(0, options.bank)
    bank = CaptionBank(
        tuple(captions[kept]), half(features.image_unit[kept]), half(unit_rows(text[kept])), trust[kept]
    )
    captioner = None
    if options.decoder not in UNTRAINED:
        neighbours = nearest(bank, features.image_unit, NEIGHBOURS, others_only=True)
        given = caption_rows(bank, pictures, neighbours)
        captioner = fit_captioner(given, captions, trust, _captioner_options(options), seed)
    return CompletionModel(
        bank, captioner, np.unique(keys[rows]), acceptance_threshold(scores, options.accept_quantile), seed
    )


def _captioner_options(options: CompletionOptions) -> CaptionerOptions:
    """A decoder that names an architecture gets it, however many pairs there are."""
    if options.decoder == "gru" or options.decoder == "transformer":
        return replace(options.captioner, architecture=options.decoder)
    return options.captioner
