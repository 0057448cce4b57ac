"""WebDataset shards: tars in which files with the same name up to the first dot make one sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curate.schema import Status
from curate.sources.base import Part, Shard, ShardError, ShardIndex
from curate.sources.fields import kept_fields
from curate.sources.listing import list_files
from curate.sources.options import SourceOptions
from curate.sources.rows import (
    MAX_TEXT_BYTES,
    Caption,
    KeyTally,
    Pair,
    Picture,
    caption_of_bytes,
    caption_of_value,
    no_caption,
    no_picture,
    parse_json_object,
    picture_of,
    printable,
    rows_within,
    tables_of,
    too_large,
)
from curate.sources.stores import Window, changed, new_checksum, open_window, unchanged
from curate.sources.tar import Damage, Member, scan_tar

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")

_MORE_MEMBERS = 16
"""Most members beyond a limit that are still read to complete a sample."""
_SLOTS = {**dict.fromkeys(IMAGE_EXTENSIONS, "image"), "txt": "txt", "json": "json"}


@dataclass(slots=True)
class Sample:
    """The members that make one row; `members` is by slot: image, txt, json."""

    key: str
    start: int
    end: int = 0
    members: dict[str, Member] = field(default_factory=dict)

    def add(self, slot: str, member: Member) -> None:
        self.members[slot] = member
        self.end = max(self.end, member.end)


@dataclass(frozen=True)
class WebDatasetSource:
    """Tars of images, captions (.txt) and metadata (.json)."""

    options: SourceOptions

    def list_shards(self) -> list[Shard]:
        """All tars, sorted by name. Raises InputError if a pattern matches nothing or a store is out of reach."""
        return list_files(self.options.path, (".tar",))

    def index(self, shard: Shard) -> ShardIndex:
        """Find the samples, cut them into parts, hash the parts.

        Keeps names and positions in memory, never content.

        Raises:
            CurateError: the shard vanished or changed since it was listed.
        """
        with unchanged(shard), open_window(shard.uri, 0, shard.size) as window:
            members = first_members(scan_tar(window), self.options.limits.members)
            samples, damages = group_samples(members)
            errors = [ShardError(shard.name, damage.offset, printable(damage.error)) for damage in damages]
            return ShardIndex(tuple(self._parts(shard, window, samples)), tuple(errors))

    def read(self, shard: Shard, part: Part, batch_rows: int) -> Iterator[pa.Table]:
        """The part's pairs as tables of SOURCE_SCHEMA with at most `batch_rows` rows, in row order.

        Raises:
            CurateError: the shard vanished or is not the indexed one any more.
        """
        with unchanged(shard), open_window(shard.uri, part.start, part.end) as window:
            if window.checksum not in (None, part.checksum):
                raise changed(shard)
            samples, _ = group_samples(scan_tar(window))
            pairs = (self._pair(shard, window, sample) for sample in samples)
            yield from tables_of(pairs, shard, part, batch_rows, self.options.limits.caption_characters)

    def _parts(self, shard: Shard, window: Window, samples: list[Sample]) -> Iterator[Part]:
        tally = KeyTally()
        for sample in samples:
            tally.add(sample.key)
        duplicates = tally.duplicate_rows()
        for first, count in cut_samples(samples, self.options.part_rows):
            start, end = samples[first].start, max(sample.end for sample in samples[first : first + count])
            digest = new_checksum()
            window.hash_into(digest, start, end)
            repeated = rows_within(duplicates, first, count)
            yield Part(shard.name, first, count, start, end, digest.hexdigest(), repeated)

    def _pair(self, shard: Shard, window: Window, sample: Sample) -> Pair:
        picture = _picture(shard, window, sample.members.get("image"), self.options.limits.image_bytes)
        keep, metadata = self.options.keep, sample.members.get("json")
        caption = self._text_caption(shard, window, sample)
        # Parsing the .json costs more than all else done here for a pair: not unless something is taken from it.
        record = _record(shard, window, metadata) if metadata is not None and (caption is None or keep) else None
        if caption is None:
            caption = self._json_caption(record)
        return Pair(sample.key, picture, caption, kept_fields(keep, record if isinstance(record, dict) else {}))

    def _text_caption(self, shard: Shard, window: Window, sample: Sample) -> Caption | None:
        """The .txt, or None where the .json says what the caption is."""
        text, metadata = sample.members.get("txt"), sample.members.get("json")
        if text is None or self.options.caption_json_key is not None:
            return None
        caption = _caption_of_text(shard, window, text)
        return caption if metadata is None or caption.status is not Status.MISSING_CAPTION else None

    def _json_caption(self, record: dict[str, Any] | str | None) -> Caption:
        wanted = self.options.caption_json_key
        if record is None:
            return no_caption("the sample has no .txt" if wanted is None else "the sample has no .json")
        if isinstance(record, str):
            return no_caption(record)
        name = wanted or "caption"
        if name not in record:
            return no_caption(f"the sample's .json has no {name!r}")
        return caption_of_value(record[name], f"{name!r} in the sample's .json")


def split_name(name: str) -> tuple[str, str] | None:
    """Key and lower-case extension by WebDataset's rule, or None for files that belong to no sample.

    The key is the path without everything from the first dot of the base name on.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if not stem or not extension:
        return None
    return f"{folder}{slash}{stem}", extension.lower()


def first_members(items: Iterable[Member | Damage], most: int) -> Iterator[Member | Damage]:
    """The first so many members and those that complete the last sample; then, where there are more, a Damage."""
    count, key, extensions = 0, None, set[str]()
    for item in items:
        if isinstance(item, Member):
            count += 1
            name, extension = split_name(item.name) or (None, "")
            completes = name is not None and name == key and extension not in extensions
            if count > most and not (completes and count <= most + _MORE_MEMBERS):
                what = f"the tar has more than input.max_members = {most} members; those from here on give no rows"
                yield Damage(item.start, what)
                return
            extensions = {*extensions, extension} if name == key else {extension}
            key = name
        yield item


def group_samples(items: Iterable[Member | Damage]) -> tuple[list[Sample], list[Damage]]:
    """Samples in order of first appearance, and what could not become one.

    A second image, text or json for a key starts a second sample of that key.
    """
    samples: list[Sample] = []
    latest: dict[str, Sample] = {}
    damages: list[Damage] = []
    unknown: dict[str, Member] = {}
    for item in items:
        if isinstance(item, Damage):
            damages.append(item)
            continue
        named = split_name(item.name)
        if named is None:
            continue
        key, extension = named
        slot = _SLOTS.get(extension)
        if slot is None:
            unknown.setdefault(key, item)
            continue
        sample = latest.get(key)
        if sample is None or slot in sample.members:
            sample = latest[key] = Sample(key, item.start)
            samples.append(sample)
        sample.add(slot, item)
    return samples, [*damages, *_not_samples(unknown, latest)]


def _not_samples(unknown: dict[str, Member], known: dict[str, Sample]) -> list[Damage]:
    """One line for keys that brought only members of unknown kinds, if some of these are images or nothing else is."""
    lost = {key: member for key, member in unknown.items() if key not in known}
    images = {key: member for key, member in lost.items() if member.name.lower().endswith(IMAGE_EXTENSIONS)}
    shown = images or ({} if known else lost)
    if not shown:
        return []
    first = min(shown.values(), key=lambda member: member.start)
    hint = "an extension begins at a name's first dot, so rename files with more dots" if images else "check the input"
    kinds = ", ".join(_SLOTS)
    what = f"{len(shown)} names such as {first.name!r} end in none of {kinds} and give no rows: {hint}"
    return [Damage(first.start, what)]


def cut_samples(samples: list[Sample], part_rows: int) -> Iterator[tuple[int, int]]:
    """(first row, rows) of parts of at most `part_rows`, or more where samples are interleaved.

    Cuts lie only where no earlier sample has a later member.
    """
    first = end = 0
    for boundary in _boundaries(samples):
        if boundary - first > part_rows and end > first:
            yield first, end - first
            first = end
        end = boundary
    if end > first:
        yield first, end - first


def _boundaries(samples: list[Sample]) -> Iterator[int]:
    """Rows before which all earlier samples are complete, and the number of rows."""
    reach = 0
    for row, sample in enumerate(samples):
        if row > 0 and sample.start >= reach:
            yield row
        reach = max(reach, sample.end)
    yield len(samples)


def _content(shard: Shard, window: Window, member: Member) -> bytes:
    content = window.read_at(member.data, member.size)
    if len(content) != member.size:
        raise changed(shard)
    return content


def _picture(shard: Shard, window: Window, member: Member | None, most: int) -> Picture:
    if member is None:
        return no_picture("the sample has no image")
    if member.damage is not None:
        return no_picture(f"the image cannot be used: {member.damage}")
    if member.size > most:
        return too_large(member.size, most)
    return picture_of(_content(shard, window, member), most)


def _caption_of_text(shard: Shard, window: Window, member: Member) -> Caption:
    unusable = _unusable_text(member)
    return no_caption(unusable) if unusable else caption_of_bytes(_content(shard, window, member))


def _record(shard: Shard, window: Window, member: Member) -> dict[str, Any] | str:
    """The .json, or why it cannot be used."""
    unusable = _unusable_text(member)
    if unusable:
        return unusable
    record = parse_json_object(_content(shard, window, member))
    return f"the sample's .json is {record}" if isinstance(record, str) else record


def _unusable_text(member: Member) -> str | None:
    if member.damage is not None:
        return f"the caption cannot be used: {member.damage}"
    if member.size > MAX_TEXT_BYTES:
        return f"the caption's file has {member.size:,} bytes: that is no caption"
    return None
