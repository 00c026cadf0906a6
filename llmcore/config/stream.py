"""`pretrain` from raw shards: what `prepare` does, as far as it can be done while streaming."""

from pydantic import model_validator

from llmcore.config.base import free, identity
from llmcore.config.prepare import PrepareSettings

__all__ = ["StreamSettings"]

_WHOLE = {
    "near_duplicates": "near duplicates are found among all documents",
    "labelled_sets": "a labelled set is made of all documents, and its splits, too",
    "splits": "shares of the splits are shares of all documents; here `validation_bytes` says what is held out",
    "group_terms": "groups are counted in all documents",
    "balance": "groups are counted in all documents",
    "counterfactuals": "a copy is held against all documents",
    "read_parallelism": "shards are read in `lanes`",
}
"""Fields of `prepare` that a stream cannot have, and why."""
_OF_A_SOURCE = {
    "stratum": "splits are balanced over all documents",
    "max_tokens": "the rows of a budget are chosen among all rows",
    "metadata": "it is kept in a table of all documents",
}


class StreamSettings(PrepareSettings):
    """Raw shards, cleaned, tokenized and packed while they are trained on; what needs all documents is refused.

    The listing of the shards is frozen when a run begins. Exact duplicates stay, but for those of validation documents.
    """

    window_bytes: int = identity(
        8_000_000,
        ge=1,
        description="Bytes of text that are packed together; a resume makes one such window a lane again.",
    )
    lanes: int = identity(
        2,
        ge=1,
        le=256,
        description="Portions of shards that are read at the same time, and give a row in turn; of each source by "
        "itself, where sources have weights.",
    )
    validation_bytes: int = identity(
        2_000_000, ge=1, description="About so many bytes of documents, from all over the listing, are validation rows."
    )
    cpus_per_lane: float = free(
        0.1,
        ge=0,
        description="CPUs reserved for a task that reads a lane, and for the one that begins the next portion.",
    )

    @property
    def num_sequences(self) -> int:
        """Sequences of rows that take turns: one for each source that has a weight, or one of them all."""
        return len(self.sources) if self.sources[0].weight is not None else 1

    @property
    def num_tasks(self) -> int:
        """Tasks that read at the same time: all lanes, and of each sequence the portion that comes next."""
        return self.num_sequences * (self.lanes + 1)

    @model_validator(mode="after")
    def _needs_no_whole(self) -> "StreamSettings":
        for section, refused in ((self, _WHOLE), *((source, _OF_A_SOURCE) for source in self.sources)):
            for name, why in refused.items():
                default = type(section).model_fields[name].get_default(call_default_factory=True)
                if getattr(section, name) != default:
                    raise ValueError(f"{name}= cannot be had while streaming: {why}. Run `prepare`, or leave it out")
        return self
