"""An open_clip CoCa checkpoint and its numerics: chosen when planning, loaded the same in every worker."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import InputError
from curate.models import numerics
from curate.models.numerics import PRECISIONS, ModelSpec
from curate.models.torch_pair import require_torch_pair
from curate.models.towers import CocaModel, build_coca
from curate.models.weights import COCA, locate


@dataclass(frozen=True)
class CocaOptions:
    """What the user asks for.

    Attributes:
        model: open_clip name ("coca_ViT-B-32") or path of an open_clip JSON config.
        pretrained: open_clip tag ("laion2b_s13b_b90k") or path of a local checkpoint (.pt, .safetensors).
        precision: auto (fp16 on a GPU, fp32 on a CPU), fp32, bf16 or fp16.
        concepts: names in the prompt, at most.
        longest: tokens written, at most.

    Raises:
        InputError: there is no such precision.
    """

    model: str
    pretrained: str | None
    precision: str = "auto"
    concepts: int = 3
    longest: int = 24

    def __post_init__(self) -> None:
        if self.precision not in ("auto", *PRECISIONS):
            raise InputError(f"{COCA.key}.precision: {self.precision}: must be auto, {', '.join(PRECISIONS)}")


def resolve_coca(options: CocaOptions, device: str) -> ModelSpec:
    """Choose the precision, and find out whether model and checkpoint fit.

    Runs in the driver and loads the model there, on the CPU. Weights named by a tag are fetched.

    Args:
        options: what is asked for.
        device: cpu or cuda.

    Raises:
        InputError: the options name something that does not exist, does not fit, or writes no captions.
        CurateError: the weights cannot be fetched, or torch and torchvision do not work together.
    """
    require_torch_pair()
    numerics.check_precision(options.precision, device, COCA)
    files = locate(options.model, options.pretrained, COCA)
    model = build_coca(files, "fp32", "cpu")
    return numerics.spec_of(files, model.preprocess, device, _precision(options.precision, device))


def _precision(asked: str, device: str) -> str:
    if asked != "auto":
        return asked
    return "fp16" if device == "cuda" else "fp32"


def load_coca(options: CocaOptions, spec: ModelSpec) -> CocaModel:
    """Load the model in a worker.

    Args:
        options: where the model and its weights are, as given to `resolve_coca`.
        spec: what `resolve_coca` made of them.

    Raises:
        CurateError: this worker cannot honour the spec: no such device or precision, other libraries or weights.
    """
    require_torch_pair()
    numerics.check_worker(spec, COCA)
    files = locate(options.model, options.pretrained, COCA)
    numerics.check_files(spec, files)
    return build_coca(files, spec.precision, spec.device)
