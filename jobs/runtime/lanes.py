"""What the lanes of a stream do: portions of raw shards to windows of rows, in whatever process."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

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

__all__ = ["LaneWork", "max_epochs_of", "read_lane", "sequences_of", "weights_of"]


def weights_of(settings: StreamSettings) -> list[float]:
    """Of the sequences of rows that take turns."""
    return [source.weight or 1.0 for source in settings.sources][: settings.num_sequences]


def max_epochs_of(settings: StreamSettings) -> list[float | None]:
    """Of the sequences: the least that a source of each may have."""
    limits = [source.max_epochs for source in settings.sources]
    return [min(filter(None, limits), default=None)] if settings.num_sequences == 1 else limits


def sequences_of(settings: StreamSettings, tokens: Folder) -> list[list[Portion]]:
    """The portions of the sequences: those of one source each, or those of all together. Raises StorageError."""
    portions = [
        portions_of(number, shards, settings.window_bytes, settings.seed)
        for number, shards in enumerate(listing_of(tokens, len(settings.sources)))
    ]
    return [list(chain.from_iterable(portions))] if settings.num_sequences == 1 else portions


@dataclass(frozen=True)
class LaneWork:
    """How each source is read and packed: what all tasks of a stream need to know."""

    readers: tuple[PortionReader, ...]
    special: tuple[bool, ...]
    ready: ReadyTokenizer
    settings: StreamSettings

    @classmethod
    def of(cls, settings: StreamSettings, tokens: Folder, storage: Folder) -> "LaneWork":
        """As the frozen stream says."""
        about = TokenShards.open(tokens).about
        held_out = held_out_of(tokens)
        if settings.decontamination is not None and (others := other_sets(settings, storage)):
            held_out = held_out.protecting(
                protected_of(others, settings.decontamination), settings.decontamination.min_overlap
            )
        readers = tuple(
            PortionReader(
                reader_of(source, number, "", [], ()),
                source.cleaning or settings.cleaning,
                settings.window_bytes,
                held_out,
                settings.seed,
                pass_bad=settings.bad_shards.policy == "quarantine",
            )
            for number, source in enumerate(settings.sources)
        )
        ready = ReadyTokenizer(
            tokens.read_text(ENCODER),
            about["vocab_size"],
            SpecialIds(**about["special_ids"]),
            None,
            about["encoder"],
            None,
        )
        special = tuple(source.chat is not None for source in settings.sources)
        return cls(readers, special, ready, settings)


def read_lane(work: LaneWork, portion: Portion, key: tuple[int, ...], cursor: Cursor = START) -> Iterator[Window]:
    """The windows of a portion from a cursor on, packed, their rows shuffled by the key and where each begins."""
    import pyarrow.compute as pc

    from llmcore.tokens.encode import pack_documents

    encoder, source = work.ready.load(), work.settings.sources[portion.source].name
    for window in work.readers[portion.source].windows(portion, cursor):
        special, settings = work.special[portion.source], work.settings
        rows, _ = pack_documents(window.documents, encoder, settings.packing, special=special, seed=settings.seed)
        num_tokens = pc.sum(pc.list_flatten(rows["document_lengths"])).as_py() or 0
        streamed = Streamed.of(source, window.documents.num_rows, num_tokens, window.tally)
        yield Window(shuffled(rows, *key, *cursor), window.next, streamed)
        cursor = window.next or cursor
