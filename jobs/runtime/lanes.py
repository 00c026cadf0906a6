"""What the lanes of a stream do: portions of raw shards to windows of rows, in whatever process."""

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.runtime.decontamination import protected_of
from jobs.runtime.sources import other_sets, reader_of
from jobs.runtime.token_rows import ReadyTokenizer
from llmcore.config.stream import StreamSettings
from llmcore.corpus.portions import START, Cursor, Portion, PortionReader, portions_of
from llmcore.storage import Folder
from llmcore.tokens.frozen import ENCODER, held_out_of, listing_of
from llmcore.tokens.shards import TokenShards
from llmcore.tokens.streamed import Streamed, Window, shuffled
from llmcore.tokens.tokenizer import SpecialIds

__all__ = ["LaneWork", "read_lane", "weights_of"]


def weights_of(settings: StreamSettings) -> list[float]:
    """Of the sequences of rows that take turns."""
    return [source.weight or 1.0 for source in settings.sources][: settings.num_sequences]


@dataclass(frozen=True)
class LaneWork:
    """What a lane's task needs to know: how each source is read and packed, and the portions of each sequence."""

    readers: tuple[PortionReader, ...]
    special: tuple[bool, ...]
    sequences: tuple[tuple[Portion, ...], ...]
    ready: ReadyTokenizer
    settings: StreamSettings

    @classmethod
    def of(cls, settings: StreamSettings, tokens: Folder, storage: Folder) -> "LaneWork":
        """As the frozen stream says."""
        about = TokenShards.open(tokens).about
        listing = listing_of(tokens, len(settings.sources))
        held_out = held_out_of(tokens)
        if settings.decontamination is not None and (others := other_sets(settings, storage)):
            held_out = held_out.protecting(
                protected_of(others, settings.decontamination), settings.decontamination.min_overlap
            )
        readers = tuple(
            PortionReader(
                reader_of(source, number, "", [], ()),
                shards,
                source.cleaning or settings.cleaning,
                settings.window_bytes,
                held_out,
                settings.seed,
                pass_bad=settings.bad_shards.policy == "quarantine",
            )
            for number, (source, shards) in enumerate(zip(settings.sources, listing, strict=True))
        )
        portions = [
            portions_of(number, shards, settings.window_bytes, settings.seed) for number, shards in enumerate(listing)
        ]
        together = settings.num_sequences == 1
        sequences = [[portion for of_source in portions for portion in of_source]] if together else portions
        ready = ReadyTokenizer(
            tokens.read_text(ENCODER),
            about["vocab_size"],
            SpecialIds(**about["special_ids"]),
            None,
            about["encoder"],
            None,
        )
        special = tuple(source.chat is not None for source in settings.sources)
        return cls(readers, special, tuple(map(tuple, sequences)), ready, settings)

    def max_epochs(self) -> list[float | None]:
        """Of the sequences: the least that a source of each may have."""
        limits = [source.max_epochs for source in self.settings.sources]
        return [min(filter(None, limits), default=None)] if len(self.sequences) == 1 else limits


def read_lane(work: LaneWork, key: tuple[int, int, int, int], cursor: Cursor = START) -> Iterator[Window]:
    """The windows of a portion from a cursor on, packed; `key` is the seed, the sequence, the epoch and the portion."""
    import pyarrow.compute as pc

    from llmcore.tokens.encode import pack_documents

    _, sequence, _, number = key
    portion = work.sequences[sequence][number]
    encoder, source = work.ready.load(), work.settings.sources[portion.source].name
    for window in work.readers[portion.source].windows(portion, cursor):
        rows = pack_documents(window.documents, encoder, work.settings.packing, special=work.special[portion.source])
        num_tokens = pc.sum(pc.list_flatten(rows["document_lengths"])).as_py() or 0
        streamed = Streamed.of(source, window.documents.num_rows, num_tokens, window.tally)
        yield Window(shuffled(rows, *key, *cursor), window.next, streamed)
        cursor = window.next or cursor
