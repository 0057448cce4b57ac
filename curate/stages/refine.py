"""The row stage that scores pairs again, with the models of every round of refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import embedding_matrix, field_values
from curate.noise.refined import RefinedModel, RefinedScores
from curate.noise.similarity import Floats
from curate.schema import BELIEFS, REFINE_SCHEMA
from curate.stages.noise import NoiseColumns, all_null, placed

Rounds = NDArray[np.int8]


class Refine:
    """Says anew what is believed of every pair that the noise stage scored; the others keep their nulls.

    A model without rounds has nothing new to say: the noise stage's columns stay as they are.

    A row's values depend on the row and the model alone: they are the same bytes whatever batch it comes in.

    Args:
        model: what `curate.noise.refine.refine_noise` made.
        how: thresholds and scales, those of the noise stage.
        by: the kept field whose values have posteriors of their own, None if there is none; then `fields` is read too.
    """

    name = "refine"
    version = 1
    requires = ("image_embedding", "text_embedding", *BELIEFS, "fold")
    provides = REFINE_SCHEMA

    def __init__(self, model: RefinedModel, how: NoiseColumns | None = None, by: str | None = None) -> None:
        self.model, self.how, self.by = model, how or NoiseColumns(), by

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns of `provides` for the rows of `batch`."""
        rows = np.nonzero(batch["noise_prob"].is_valid().to_numpy())[0]
        if len(rows) == 0:
            return all_null(self.provides, batch.num_rows)
        scored = batch.take(rows)
        before = scored["noise_prob"].to_numpy()
        beliefs: Mapping[str, Any] = {name: scored[name].combine_chunks() for name in BELIEFS}
        rounds = before[None]
        if self.model.rounds:
            scores = self._scores(scored)
            beliefs = self.how.beliefs(scores.noise_prob[-1], scores.noise_rank[-1], scores.negative_impact)
            rounds = np.concatenate([rounds, scores.noise_prob])
        made = {**beliefs, "noise_prob_unrefined": before, "rejected_in_round": self._rejected(rounds)}
        columns = [pa.array(made[name]) for name in self.provides.names]
        return placed(pa.Table.from_arrays(columns, schema=self.provides), rows, batch.num_rows)

    def _scores(self, scored: pa.Table) -> RefinedScores:
        return self.model.score(
            scored["fold"].to_numpy(),
            embedding_matrix(scored["image_embedding"]),
            embedding_matrix(scored["text_embedding"]),
            None if self.by is None else field_values(scored["fields"], self.by),
        )

    def _rejected(self, noise_prob: Floats) -> pa.Array:
        return rejected_in_round([self.how.labels(probability) for probability in noise_prob])


def rejected_in_round(labels: Sequence[pa.Array]) -> pa.Array:
    """The round in which each pair last came to be noisy, null: in none; int8 [n] from labels of rounds 0, 1..."""
    last: Rounds = np.full(len(labels[0]), -1, dtype=np.int8)
    was = np.zeros(len(labels[0]), dtype=np.bool_)
    for number, names in enumerate(labels):
        noisy = pc.fill_null(pc.equal(names, "noisy"), fill_value=False).to_numpy(zero_copy_only=False)
        last[noisy & ~was] = number
        was = noisy
    return pa.array(last, mask=last < 0)


def last_beliefs(rounds: pa.Table) -> pa.Table:
    """Columns of REFINE_SCHEMA from those of all rounds, `r:name` for each of BELIEFS; round 0 is the noise stage."""
    last = max(int(name.partition(":")[0]) for name in rounds.column_names)
    labels = [rounds[f"{number}:label"].combine_chunks() for number in range(last + 1)]
    made = {name: rounds[f"{last}:{name}"] for name in BELIEFS}
    made |= {"noise_prob_unrefined": rounds["0:noise_prob"], "rejected_in_round": rejected_in_round(labels)}
    return pa.Table.from_arrays([made[name] for name in REFINE_SCHEMA.names], schema=REFINE_SCHEMA)
