"""What each step does to one part: read its inputs, run its row stages, hand back the columns it made.

A step is what leaves a column file; it may chain several row stages. These classes are small and picklable, so that
any runner can carry them to a worker. `prepare` loads what is heavy, once per worker.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.columns import overlaid, side_by_side
from curate.completion.policy import CaptionColumns
from curate.concepts.model import ConceptModel
from curate.decoding.guard import DecoderOfThread
from curate.digest import digest_of
from curate.errors import LEARNED, CurateError
from curate.limits import MAX_CAPTION_CHARACTERS, MAX_DECODE_SECONDS
from curate.models.coca import CocaOptions
from curate.models.encoder import Encoder, EncoderOptions, EncoderSpec, load_encoder
from curate.models.numerics import ModelSpec
from curate.noise.model import NoiseModel
from curate.noise.refined import RefinedModel
from curate.noise.similarity import Floats
from curate.pictures import DECODE_BATCH_ROWS, read_pictures
from curate.schema import BELIEFS, HAS_PICTURE, NOISE_SCHEMA, annotation_table
from curate.sources.base import Part, Shard, Source
from curate.stages.concepts import ConceptColumns, Concepts
from curate.stages.decode import Decode, DecodeOptions
from curate.stages.embed import Embed
from curate.stages.noise import Noise, NoiseColumns
from curate.stages.python import IMAGE, LoadedStage, StageReference, call_stage, prepare_stage, reload_stage
from curate.stages.refine import Refine, last_beliefs
from curate.store import RunStore, StepColumns, part_file

if TYPE_CHECKING:
    from curate.completion.decoders import Decoder, Encode
    from curate.completion.fit import CompletionModel
    from curate.stages.caption import Caption, KeepCaptions, RowsToComplete

log = logging.getLogger(__name__)

ARTIFACT_FILE = "artifact.json"
SELF_DIGEST = "digest"
"""In an artifact.json: digest of everything else in it."""
_PLAIN_NAME = re.compile(r"[\w-][\w.-]*")
# No file has it: a table that was read from a file tells nothing.
_TOLD_KEY = b"told"
INPUT_STEP = "embed"
"""The step that reads the input; statuses come from it."""


@dataclass(frozen=True)
class PartTask:
    """One step of work: make a step's column file for one part.

    Attributes:
        step: name of the step, which is the folder of its column files.
        number: the part's number.
        part, shard: the part itself and the shard it is in.
        facts: what the file's schema metadata will hold, with the fingerprint.
    """

    step: str
    number: int
    part: Part
    shard: Shard
    facts: dict[str, Any]


class PartWork(Protocol):
    """How a step makes its columns. `head` runs on a CPU and may overlap with the `body` of other parts."""

    @property
    def device(self) -> str:
        """cpu or cuda: where `body` runs."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether `head` decodes pictures, which is worth workers of its own; else it only reads columns."""
        ...

    def prepare(self) -> None:
        """Load models and artifacts. Called once per worker before `body`.

        Raises:
            CurateError: this worker cannot do the work as planned.
        """
        ...

    def head(self, task: PartTask) -> pa.Table:
        """Everything `body` needs of the part, in row order."""
        ...

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The columns that the step leaves, same rows, same order."""
        ...


@dataclass(frozen=True)
class FinishedPart:
    """A part's column file is there.

    Attributes:
        digest: of the file's bytes.
        statuses: pairs by status where the step reads the input, which is where a status comes from; else nothing.
    """

    digest: str
    statuses: dict[str, int]


def finish_part(work: PartWork, task: PartTask, table: pa.Table, store: RunStore) -> FinishedPart:
    """Run the body on a part's table and leave its column file."""
    return leave_part(task, work.body(task, table), store)


def leave_part(task: PartTask, columns: pa.Table, store: RunStore) -> FinishedPart:
    """Write a part's column file."""
    if columns.num_rows != task.part.rows:
        raise CurateError(f"{task.step}: part {task.number} has {task.part.rows} rows but {columns.num_rows} came out")
    digest = store.write_table(part_file(task.step, task.number), columns, {**task.facts, **told_facts(columns)})
    return FinishedPart(digest, _statuses(columns) if task.step == INPUT_STEP else {})


def telling(columns: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """Columns whose file will hold these facts too: what is known only when they are made."""
    return columns.replace_schema_metadata({_TOLD_KEY: json.dumps(facts).encode()})


def told_facts(columns: pa.Table) -> dict[str, Any]:
    """What `telling` has added; else nothing."""
    metadata = columns.schema.metadata or {}
    facts: dict[str, Any] = json.loads(metadata.get(_TOLD_KEY, b"{}"))
    return facts


def _statuses(columns: pa.Table) -> dict[str, int]:
    counted = pc.value_counts(columns.column("status"))
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


@dataclass(frozen=True)
class EmbedLimits:
    """What may be spent on one pair: CPU time of decoding its image, and a text tower's of longer captions.

    Attributes:
        decode_seconds: CPU time for an image.
        caption_characters: longer captions are not embedded.
    """

    decode_seconds: float = MAX_DECODE_SECONDS
    caption_characters: int = MAX_CAPTION_CHARACTERS


@dataclass
class EmbedWork:
    """Source -> decode -> embed: identity, status and embeddings of every pair; pixels never leave the worker."""

    source: Source
    decode: DecodeOptions
    options: EncoderOptions
    spec: EncoderSpec
    limits: EmbedLimits = field(default_factory=EmbedLimits)
    decodes: ClassVar[bool] = True
    _encoder: Encoder | None = field(default=None, repr=False, compare=False)
    _decoder: DecoderOfThread = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._decoder = DecoderOfThread(self.decode, self.limits.decode_seconds)

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return self.spec.device

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None}

    def prepare(self) -> None:
        """Load the towers."""
        if self._encoder is None:
            self._encoder = load_encoder(self.options, self.spec)

    def head(self, task: PartTask) -> pa.Table:
        """The pairs with `pixels` in place of `image`."""
        decode = Decode(self.decode, self._decoder)
        batches = self.source.read(task.shard, task.part, DECODE_BATCH_ROWS)
        return pa.concat_tables([self._decoded(decode, batch) for batch in batches]).combine_chunks()

    @staticmethod
    def _decoded(decode: Decode, batch: pa.Table) -> pa.Table:
        made = decode(batch)
        kept = batch.drop_columns([n for n in batch.column_names if n == "image" or n in made.column_names])
        return side_by_side(kept, made)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """Identity and status columns with the embeddings."""
        assert self._encoder is not None, "prepare() comes first"
        made = Embed(self._encoder, self.limits.caption_characters)(table)
        return side_by_side(table.drop_columns(["pixels"]), made)


@dataclass
class RefinedEmbedWork(EmbedWork):
    """The embeddings alone, by towers that a round of refinement has trained."""

    run: str = field(kw_only=True)
    weights: str = field(kw_only=True)

    def prepare(self) -> None:
        """Load the towers with the weights that the training left in the run directory."""
        if self._encoder is None:
            with tempfile.TemporaryDirectory() as folder:
                weights = Path(folder) / "weights.safetensors"
                weights.write_bytes(RunStore(self.run).read_bytes(self.weights))
                self._encoder = load_encoder(self.options, self.spec, weights)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The embeddings."""
        return super().body(task, table).select(Embed.provides.names)


@dataclass
class NoiseWork:
    """Embeddings and the fitted noise model -> signals, noise_prob and label.

    `embed` is the step whose embeddings count: embed, or that of a round of refinement.
    """

    run: str
    fit: str
    how: NoiseColumns
    by: str | None = None
    embed: str = "embed"
    device: str = "cpu"
    decodes: ClassVar[bool] = False
    _stage: Noise | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None}

    def prepare(self) -> None:
        """Load the noise model."""
        if self._stage is None:
            model = NoiseModel.from_bytes(read_artifact(RunStore(self.run), self.fit))
            self._stage = Noise(model, self.how, self.by)

    def head(self, task: PartTask) -> pa.Table:
        """The columns that the stage requires, from the embed step."""
        embeddings = Embed.provides.names
        known = [name for name in Noise.requires if name not in embeddings]
        fields = [] if self.by is None else ["fields"]
        columns = [("embed", [*known, *fields]), (self.embed, embeddings)]
        return RunStore(self.run).read_columns(task.number, columns)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The noise columns."""
        assert self._stage is not None, "prepare() comes first"
        return self._stage(table)


@dataclass
class RefineWork:
    """Embeddings, the noise model and the rounds that go on from it -> noise_prob and label anew."""

    run: str
    fit: str
    noise_fit: str
    how: NoiseColumns
    by: str | None = None
    device: str = "cpu"
    decodes: ClassVar[bool] = False
    _stage: Refine | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None}

    def prepare(self) -> None:
        """Load both models."""
        if self._stage is None:
            store = RunStore(self.run)
            noise = NoiseModel.from_bytes(read_artifact(store, self.noise_fit))
            self._stage = Refine(RefinedModel.from_bytes(read_artifact(store, self.fit), noise), self.how, self.by)

    def head(self, task: PartTask) -> pa.Table:
        """The columns that the stage requires, from the embed and noise steps."""
        embedded = ["image_embedding", "text_embedding", *(["fields"] if self.by is not None else [])]
        columns = [("embed", embedded), ("noise", [*BELIEFS, "fold"])]
        return RunStore(self.run).read_columns(task.number, columns)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The refined columns."""
        assert self._stage is not None, "prepare() comes first"
        return self._stage(table)


@dataclass
class RefinedTowersWork:
    """Noise columns of the noise step and of every round of trained towers -> what is believed after the last.

    `rounds` are (training, noise step): a round whose training found the labels settled has no columns.
    """

    run: str
    rounds: tuple[tuple[str, str], ...]
    device: str = "cpu"
    decodes: ClassVar[bool] = False

    def prepare(self) -> None:
        """Nothing to load."""

    def head(self, task: PartTask) -> pa.Table:
        """The beliefs of all rounds, those of round r as `r:name`; the noise step is round 0."""
        store = RunStore(self.run)
        steps = ["noise", *(noise for training, noise in self.rounds if not is_settled(store, training))]
        tables = [store.read_table(part_file(step, task.number), BELIEFS) for step in steps]
        return side_by_side(
            *(table.rename_columns([f"{number}:{name}" for name in BELIEFS]) for number, table in enumerate(tables))
        )

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The refined columns."""
        return last_beliefs(table)


@dataclass
class ConceptsWork:
    """Image embeddings and the fitted concept model -> concepts."""

    run: str
    fit: str
    how: ConceptColumns
    device: str = "cpu"
    decodes: ClassVar[bool] = False
    _stage: Concepts | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None}

    def prepare(self) -> None:
        """Load the concept model."""
        if self._stage is None:
            self._stage = Concepts(ConceptModel.from_bytes(read_artifact(RunStore(self.run), self.fit)), self.how)

    def head(self, task: PartTask) -> pa.Table:
        """The columns that the stage requires, from the embed step."""
        return RunStore(self.run).read_table(part_file("embed", task.number), Concepts.requires)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The concepts."""
        assert self._stage is not None, "prepare() comes first"
        return self._stage(table)


@dataclass(frozen=True)
class CocaWork:
    """What a CoCa decoder needs beside the run's columns: its checkpoint, and the pictures from their source."""

    source: Source
    decode: DecodeOptions
    options: CocaOptions
    spec: ModelSpec

    def facts(self) -> dict[str, Any]:
        """What a caption depends on: model, weights, numerics and prompt."""
        return {**self.spec.to_json(), "concepts": self.options.concepts, "longest": self.options.longest}

    def decoder(self, encode: Encode) -> Decoder:
        """The decoder, loaded.

        Raises:
            CurateError: this worker cannot load the checkpoint as planned.
        """
        from curate.completion.coca import Coca
        from curate.models.coca import load_coca

        model = load_coca(self.options, self.spec)
        return Coca(model, encode, self.options.concepts, self.options.longest, self.spec.threads)

    def pixels(self, task: PartTask, rows: NDArray[np.intp]) -> pa.Array:
        """A part's pictures as the model takes them, of the given rows; null elsewhere, which takes no memory.

        Raises:
            CurateError: the shard has changed, or a picture that was decoded once cannot be decoded now.
        """
        pixels = read_pictures(self.source, task.shard, task.part, self.decode, rows).combine_chunks()
        places = np.zeros(task.part.rows, dtype=np.intp)
        places[rows] = np.arange(len(rows))
        elsewhere = np.ones(task.part.rows, dtype=np.bool_)
        elsewhere[rows] = False
        return pixels.cast(pa.large_binary()).take(pa.array(places, mask=elsewhere))


@dataclass
class CaptionWork:
    """Embeddings, noise columns and concepts, and pictures where the decoder looks at them -> completed captions.

    `believed` is the step whose noise_prob, label and hints count: noise, or refine where there is one.
    """

    run: str
    fit: str
    noise_fit: str
    believed: str
    how: CaptionColumns
    options: EncoderOptions
    spec: EncoderSpec
    coca: CocaWork | None = None
    _stage: Caption | KeepCaptions | None = field(default=None, repr=False, compare=False)
    _rows: RowsToComplete | None = field(default=None, repr=False, compare=False)

    @property
    def device(self) -> str:
        """cpu or cuda: the text tower embeds what was written."""
        return self.spec.device

    @property
    def decodes(self) -> bool:
        """See PartWork."""
        return self.coca is not None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None, "_rows": None}

    def prepare(self) -> None:
        """Load captioner or checkpoint, noise model and text tower."""
        if self._stage is None:
            from curate.stages.caption import Caption, KeepCaptions

            models = self._models()
            if models is None:
                self._stage = KeepCaptions()
                return
            encoder = load_encoder(self.options, self.spec)

            def encode(captions: Sequence[str]) -> Floats:
                return encoder.encode_texts(captions).astype(np.float32)

            decoder = None if self.coca is None else self.coca.decoder(encode)
            self._stage = Caption(*models, encode, self.how, decoder)
            self._rows = self._stage.rows

    def _models(self) -> tuple[CompletionModel, NoiseModel] | None:
        """None where the fit's verdict is that nothing can be completed."""
        from curate.completion.fit import CompletionModel, verdict_of

        store = RunStore(self.run)
        files = read_artifact(store, self.fit)
        if verdict_of(files) != LEARNED:
            return None
        return CompletionModel.from_bytes(files), NoiseModel.from_bytes(read_artifact(store, self.noise_fit))

    def _rows_to_complete(self, table: pa.Table) -> NDArray[np.intp]:
        # A worker that only reads is not prepared: it loads what says which rows it has to read, once.
        if self._rows is None:
            from curate.stages.caption import RowsToComplete

            models = self._models()
            if models is None:
                return np.empty(0, np.intp)
            model, noise = models
            self._rows = RowsToComplete(model, noise.seed, self.how.when)
        return self._rows(table)

    def head(self, task: PartTask) -> pa.Table:
        """The columns that the stage requires, and the pictures if the decoder looks at them."""
        store = RunStore(self.run)
        columns = {
            "embed": ("caption", "image_sha256", "status", "image_embedding", "text_embedding"),
            "noise": tuple(NOISE_SCHEMA.names),
            **({"refine": BELIEFS} if self.believed == "refine" else {}),
            "concepts": ("concepts",),
        }
        tables = [store.read_table(part_file(step, task.number), names) for step, names in columns.items()]
        table = overlaid(*tables)
        if self.coca is None:
            return table
        return table.append_column("pixels", self.coca.pixels(task, self._rows_to_complete(table)))

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The completed captions."""
        assert self._stage is not None, "prepare() comes first"
        return self._stage(table)


@dataclass
class PythonWork:
    """Columns of steps before, and pictures if the stage asks for them -> columns of a stage of the user's own.

    `columns` are those that it requires and where they are; `source` reads its pictures again, None: it needs none.
    """

    run: str
    reference: StageReference
    columns: tuple[StepColumns, ...]
    source: Source | None
    device: str = "cpu"
    decodes: ClassVar[bool] = False
    _stage: LoadedStage | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stage": None}

    def prepare(self) -> None:
        """Import the stage's module and let it load what it needs."""
        if self._stage is None:
            loaded = reload_stage(self.reference)
            prepare_stage(loaded)
            self._stage = loaded

    def head(self, task: PartTask) -> pa.Table:
        """The columns that the stage requires, and `status` if it needs pictures."""
        columns = {step: list(names) for step, names in self.columns}
        if self.source is not None and "status" not in columns.setdefault("embed", []):
            columns["embed"].append("status")
        return RunStore(self.run).read_columns(task.number, list(columns.items()))

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The columns of the stage. Bytes of pictures are in memory a batch at a time, and cross no object store."""
        stage = self._stage
        assert stage is not None, "prepare() comes first"
        try:
            made = [call_stage(stage, batch) for batch in self._batches(task, table)]
        except CurateError as error:
            raise CurateError(f"{task.shard.name}: {error}") from error
        return pa.concat_tables(made).combine_chunks()

    def _batches(self, task: PartTask, table: pa.Table) -> Iterator[pa.Table]:
        """The part as the stage takes it."""
        if self.source is None:
            yield table
            return
        required = [name for _, names in self.columns for name in names]
        first = 0
        for pairs in self.source.read(task.shard, task.part, DECODE_BATCH_ROWS):
            rows = table.slice(first, pairs.num_rows)
            first += pairs.num_rows
            usable = pc.is_in(rows.column("status"), pa.array([status.value for status in HAS_PICTURE]))
            pictures = pc.if_else(usable, pairs.column("image"), pa.scalar(None, pa.large_binary()))
            yield pa.table({**{name: rows.column(name) for name in required}, IMAGE: pictures})


@dataclass
class AnnotateWork:
    """Puts the columns of all steps side by side: one row per pair, without the embeddings.

    Where two steps made the same column the later one's counts. `more` are columns of stages of the user's own.
    """

    run: str
    steps: tuple[str, ...]
    more: pa.Schema
    device: str = "cpu"
    decodes: ClassVar[bool] = False

    def prepare(self) -> None:
        """Nothing to load."""

    def head(self, task: PartTask) -> pa.Table:
        """All columns that the steps left for the part."""
        store = RunStore(self.run)
        tables = [store.read_table(part_file(step, task.number)) for step in self.steps]
        return overlaid(*tables)

    def body(self, task: PartTask, table: pa.Table) -> pa.Table:
        """The columns of the annotation schema."""
        return annotation_table(table, self.more)


def is_settled(store: RunStore, training: str) -> bool:
    """Whether the training of a round was not done: labels had settled before, or nearly nobody is trusted."""
    facts = read_artifact_facts(store, training)
    return facts is not None and bool(facts["diagnostics"]["settled"])


def artifact_folder(fit: str) -> str:
    """Folder of a fit's artifacts in the run directory."""
    return f"artifacts/{fit}"


def write_artifact(store: RunStore, fit: str, files: dict[str, bytes], facts: dict[str, Any]) -> None:
    """Leave a fit's files; `artifact.json` comes last, so that an interrupted fit counts as absent."""
    folder = artifact_folder(fit)
    store.delete(f"{folder}/{ARTIFACT_FILE}")
    for name, data in files.items():
        store.write_bytes(f"{folder}/{name}", data)
    write_artifact_facts(store, fit, {name: digest_of(data) for name, data in files.items()}, facts)


def write_artifact_facts(store: RunStore, fit: str, digests: dict[str, str], facts: dict[str, Any]) -> None:
    """Say that a fit is complete: its facts, its files with their digests, and a digest of all that is said.

    What an earlier fit left there beside these files is removed.
    """
    folder = artifact_folder(fit)
    said = {**facts, "files": sorted(digests), "digests": digests}
    said.pop(SELF_DIGEST, None)
    store.write_json(f"{folder}/{ARTIFACT_FILE}", {**said, SELF_DIGEST: facts_digest(said)})
    for name in store.list_stamps(folder).keys() - {ARTIFACT_FILE, *digests}:
        store.delete(f"{folder}/{name}")


def facts_digest(facts: Mapping[str, Any]) -> str:
    """Digest of what an artifact.json says, without the digest in it."""
    said = {name: value for name, value in facts.items() if name != SELF_DIGEST}
    return digest_of(json.dumps(said, sort_keys=True).encode())


def read_artifact(store: RunStore, fit: str) -> dict[str, bytes]:
    """A fit's files by name. Raises CurateError if the fit is not complete."""
    facts = read_artifact_facts(store, fit)
    if facts is None:
        raise CurateError(
            f"{store.path(artifact_folder(fit))}: the fit is missing or incomplete; run the pipeline again"
        )
    return {name: _artifact_file(store, f"{artifact_folder(fit)}/{name}") for name in facts["files"]}


def _artifact_file(store: RunStore, name: str) -> bytes:
    try:
        data = store.read_bytes(name)
    except OSError as error:
        raise CurateError(f"{store.path(name)}: cannot be read: {error}. Delete its folder and run again.") from None
    if name.endswith(".safetensors") and not holds_tensors(data):
        raise CurateError(
            f"{store.path(name)}: is no safetensors file, or not a whole one. Delete its folder and run again."
        )
    return data


def holds_tensors(data: bytes) -> bool:
    """Whether bytes are a safetensors file by its header: all of its tensors lie in the file, one behind the other."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        return False
    try:
        header = json.loads(data[8 : 8 + size])
        places = sorted(tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__")
        ends = [0, *(end for _, end in places)]
        return ends[-1] == len(data) - 8 - size and [start for start, _ in places] == ends[:-1]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def read_artifact_facts(store: RunStore, fit: str) -> dict[str, Any] | None:
    """Fingerprint and diagnostics of a fit, None if it is not complete."""
    name = f"{artifact_folder(fit)}/{ARTIFACT_FILE}"
    facts = store.read_object(name)
    if facts is not None and not (
        _names_plain_files(facts.get("files")) and isinstance(facts.get("fingerprint"), str)
    ):
        raise CurateError(f"{store.path(name)}: does not say what a fit left there. Delete its folder and run again.")
    return facts


def _names_plain_files(files: Any) -> bool:
    """Whether it is a list of names that lie in the artifact's own folder."""
    return isinstance(files, list) and all(isinstance(name, str) and _PLAIN_NAME.fullmatch(name) for name in files)
