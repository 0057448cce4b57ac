"""What the options of `curate bench paper` mean."""

from __future__ import annotations

from pathlib import Path

from curate.bench.paper.measure import Noising, PaperBench
from curate.bench.paper.noise_index import Protocol
from curate.bench.paper.splits import DatasetName
from curate.bench.setup import parse_rates
from curate.config import NoiseConfig, PipelineConfig
from curate.errors import InputError
from curate.plan import noise_columns, noise_options

_RATES = {"flickr30k": "0.2,0.4,0.6", "coco": "0.2,0.4,0.6", "cc152k": "0"}


def chosen_noising(
    dataset: DatasetName, typed_rates: str | None, protocol: Protocol, index: Path | None
) -> tuple[Noising, list[float]]:
    """Where mismatches come from, and at which rates.

    Raises:
        InputError: a rate is not a number from 0 to below 1, or an index is given without the one rate that it has.
    """
    rates = parse_rates(typed_rates or _RATES[dataset])
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    if wrong:
        raise InputError(f"--rate {wrong[0]}: must be from 0 to below 1")
    if index is not None and (typed_rates is None or len(rates) != 1):
        raise InputError(f"--noise-index {index}: has one rate; name it, such as --rate 0.4")
    return Noising(protocol, index), rates


def paper_bench(config: PipelineConfig, joint_space: bool) -> PaperBench:
    """The pipeline's noise options, and heads on top of its towers."""
    from curate.bench.paper.adapter import HeadOptions, head_trainer

    noise = config.stages.noise or NoiseConfig.model_validate({})
    return PaperBench(
        noise=noise_options(noise),
        fit_rows=noise.fit_rows,
        smoothing=noise_columns(noise).smoothing,
        train=head_trainer(HeadOptions(joint_space)),
    )
