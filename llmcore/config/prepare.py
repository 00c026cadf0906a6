"""`prepare`: from documents to token shards and labelled sets."""

from typing import Any, Literal

from pydantic import field_validator, model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.cleaning import CleaningSettings
from llmcore.config.common import JobSettings, Name
from llmcore.config.counterfactual import CounterfactualSettings
from llmcore.config.group_terms import GroupTermSettings
from llmcore.config.template import check_template, columns_in

__all__ = [
    "BadShardSettings",
    "BalanceSettings",
    "ChatSettings",
    "DatasetSettings",
    "DecontaminationSettings",
    "LabelledSetSettings",
    "NearDuplicateSettings",
    "PackingSettings",
    "PrepareConfig",
    "PrepareSettings",
    "ShardFormat",
]
__all__ += ["SourceSettings", "SplitSettings", "TextUnit", "TokenizerSettings"]

ShardFormat = Literal["parquet", "arrow", "json_lines", "csv", "text"]
TextUnit = Literal["file", "line", "block"]


class DatasetSettings(Section):
    """What `datasets.load_dataset` gives; it is copied to the storage as shards, once, and read from there."""

    path: str = identity(description="Name on the hub, or a builder with `data_files`: `json`, `parquet`, `text`.")
    name: str | None = identity(None, description="Configuration of the dataset.")
    split: str = identity("train", description="Split, or a slice of one: `train[:10%]`.")
    data_files: str | list[str] | None = identity(None, description="Files, where the builder needs some.")
    revision: str | None = identity(None, description="Branch, tag or commit on the hub.")


class ChatSettings(Section):
    """Conversations, rendered with a token before and after each message: special tokens, of which text has none."""

    messages: str = identity(
        "messages", description="Column of the messages: a list of objects with `role` and `content`, in order."
    )
    template: str = identity(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}",
        description="Jinja template of a document. What looks like a special token in a message is broken up first.",
    )

    @field_validator("template")
    @classmethod
    def _is_jinja(cls, template: str) -> str:
        from jinja2 import TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        try:
            ImmutableSandboxedEnvironment().parse(template)
        except TemplateSyntaxError as error:
            raise ValueError(f"is no Jinja template: {error.message}") from error
        if "messages" not in template:
            raise ValueError("does not use `messages`")
        return template


class SourceSettings(Section):
    """One corpus: a built-in one, shards at a URL, or a dataset."""

    name: Name = identity(description="Name of the source, kept with every document.")
    builtin: Literal["python_stdlib"] | None = identity(
        None,
        description="A corpus made on this machine: `python_stdlib` is the documentation and source of the running "
        "interpreter's standard library. It is written to the storage as shards and read from there.",
    )
    url: str | None = identity(None, description="URL of a folder, a file or a glob of shards.")
    dataset: DatasetSettings | None = identity(None, description="A dataset of Hugging Face.")
    format: ShardFormat | None = identity(
        None,
        description="Format of all shards. Null: the end of each name tells it: `.parquet`, `.arrow`, `.feather`, "
        "`.jsonl`, `.ndjson`, `.csv`, `.tsv`, the last four also with `.gz` or `.zst`; plain text has to be asked for.",
    )
    unit: TextUnit = identity(
        "file", description="What a document is in plain text: a file, a line, or what stands between blank lines."
    )
    text: str = identity(
        "text",
        description="Column that holds the text, or a template of columns: `{title}: {body}`. Plain text has the "
        "columns `text` and `file`.",
    )
    chat: ChatSettings | None = identity(
        None, description="The documents are conversations: `text` is made from their messages."
    )
    key: str | None = identity(
        None,
        description="Column of the split key: documents of one key go to one split. Null: each document by itself.",
    )
    stratum: str | None = identity(
        None, description="Column within whose values the splits are balanced. Null: no balancing."
    )
    metadata: list[str] = identity(
        list, description="Columns kept beside the tokens, for each document: where it is from, its licence, its date."
    )
    max_documents: int | None = identity(
        None, ge=1, description="Read the first so many documents only, in shard order: for trying."
    )

    weight: float | None = identity(
        None,
        gt=0,
        description="Share of this source among the rows that a pre-training reads, against the weights of the others; "
        "all have one, or none. Null: each row of every source is read once before any is read again.",
    )
    max_epochs: float | None = identity(
        None, gt=0, description="Most passes over this source in one pre-training, which is refused if it needs more."
    )
    max_tokens: int | None = identity(
        None, ge=1, description="Token budget: train rows over it are dropped, and counted. The choice is random."
    )
    cleaning: CleaningSettings | None = identity(
        None, description="How this source is cleaned; null: as `cleaning` of all sources says."
    )

    @model_validator(mode="after")
    def _one_place(self) -> "SourceSettings":
        if sum(given is not None for given in (self.builtin, self.url, self.dataset)) != 1:
            raise ValueError("give exactly one of `builtin`, `url` and `dataset`")
        if self.url is None and self.format is not None:
            raise ValueError("a built-in corpus or a dataset has a format of its own: leave `format` out")
        if self.chat is not None and self.text != "text":
            raise ValueError("a source has `text` or `chat`, not both: leave one out")
        if self.unit != "file" and self.format != "text":
            raise ValueError(f"unit={self.unit} is for plain text: give `format: text`, or leave `unit` out")
        texts = [self.chat.messages] if self.chat is not None else columns_in(self.text)
        if twice := [name for name in self.metadata if name in texts]:
            raise ValueError(f"metadata: {twice} is the text, which the tokens have: leave it out")
        return self

    @field_validator("text")
    @classmethod
    def _can_be_filled(cls, text: str) -> str:
        check_template(text)
        return text


class NearDuplicateSettings(Section):
    """Near duplicates, found by MinHash and compared exactly."""

    threshold: float = identity(
        0.8, ge=0.3, le=1, description="Least Jaccard similarity of the shingles of two documents that are alike."
    )
    shingle_words: int = identity(5, ge=1, description="Words in one shingle.")
    num_permutations: int = identity(128, ge=16, le=1024, description="Values in a MinHash signature.")


class BadShardSettings(Section):
    """What is done with shards that cannot be read: torn, altered, or of other columns."""

    policy: Literal["fail", "quarantine"] = identity(
        "fail", description="`fail` ends the job; `quarantine` leaves such shards out, whole, and lists them."
    )
    max_share: float = identity(
        0.01, ge=0, lt=1, description="Largest share of a source's shards in quarantine; more end the job."
    )


class DecontaminationSettings(Section):
    """Train documents that have held-out rows of evaluation sets in them, found by the n-grams they share."""

    evaluation_sets: list[str] = identity(
        list,
        description="Evaluation sets besides the labelled sets made here: `<prepare run>/<name>`, or the URL of one.",
    )
    ngram_words: int = identity(13, ge=3, description="Words of an n-gram; a shorter row is one n-gram.")
    min_words: int = identity(8, ge=1, description="Rows of fewer words are not looked for (counted).")
    min_overlap: float = identity(
        0.2, gt=0, le=1, description="Share of a row's n-grams in a document that makes it contaminated."
    )


class BalanceSettings(Section):
    """Train documents to drop, so that groups of people are named in equally many of each source."""

    groups: list[str] | None = identity(
        None, description="Groups of `group_terms` that are balanced, two at least; null: all of them."
    )
    tolerance: float = identity(
        1.05,
        ge=1,
        description="A group named in at most so many times the documents of the rarest is left as it is; of any other "
        "as many are kept, in expectation, as of the rarest.",
    )


class SplitSettings(Section):
    """Shares of the documents in the validation and test splits; the rest is train."""

    validation: float = identity(0.1, ge=0, lt=1, description="Share of documents in the validation split.")
    test: float = identity(0.1, ge=0, lt=1, description="Share of documents in the test split.")

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitSettings":
        if self.validation + self.test >= 1:
            raise ValueError(f"validation={self.validation} + test={self.test} leaves nothing to train on")
        return self


class TokenizerSettings(Section):
    """A tokenizer that is trained on the train split alone, or one that is there."""

    folder: str | None = identity(
        None,
        description="URL of a Hugging Face tokenizer folder to take as it is, or name or URL of a `prepare` run, whose "
        "tokenizer is taken; null: train one. Its special tokens are its own: documents end with its end of text (or "
        "separator).",
    )
    algorithm: Literal["bpe", "wordpiece", "unigram"] = identity(
        "bpe",
        description="What is trained: byte-level BPE (GPT), WordPiece in lower case (BERT), or a unigram model (T5).",
    )
    vocab_size: int = identity(4096, ge=320, le=1_000_000, description="Entries, reserved special tokens included.")
    sample_bytes: int = identity(
        64_000_000, ge=1, description="At most so many bytes of train text are used to train the tokenizer."
    )

    new_tokens: list[str] = identity(
        list,
        description="Entries that a tokenizer from `folder` gets besides its own: words of a field, marks of your own. "
        "A pre-training from that folder's model (`model.folder`) gives them embeddings.",
    )
    begin_documents: bool = identity(
        False,
        description="Begin each document with the class token (or the begin of text), as BERT has it: `masked_lm` then "
        "trains what a classifier reads. Each ends with the end of text (or separator) anyhow.",
    )

    @model_validator(mode="after")
    def _trained_or_there(self) -> "TokenizerSettings":
        if self.folder is not None and (given := self.model_fields_set & {"algorithm", "vocab_size", "sample_bytes"}):
            raise ValueError(f"a tokenizer from `folder` is not trained: leave {', '.join(sorted(given))} out")
        if self.new_tokens and self.folder is None:
            raise ValueError("new_tokens= are for a tokenizer from `folder`: one that is trained learns its entries")
        if len(set(self.new_tokens)) < len(self.new_tokens) or not all(map(str.strip, self.new_tokens)):
            raise ValueError(f"new_tokens={self.new_tokens}: give each once, and none that is blank")
        return self


class PackingSettings(Section):
    """Fixed-length sequences of whole documents where they fit."""

    sequence_length: int = identity(256, ge=8, description="Tokens in one packed row.")
    method: Literal["best_fit", "concatenate"] = identity(
        "best_fit",
        description="`best_fit` cuts no document that fits into a row; `concatenate` cuts wherever a row is full. The "
        "loss is within documents either way.",
    )
    window: int = identity(1024, ge=1, description="Pieces held open while packing best-fit.")
    sentence_pairs: bool = identity(
        False,
        description="Pieces are sentence pairs as BERT reads them, for `next_sentence`: two runs of whole sentences, "
        "half of which follow one another, while the others are of two documents. Needs `tokenizer.begin_documents`.",
    )
    shard_bytes: int = identity(64_000_000, ge=1, description="Bytes of the tokens in one token shard, about.")

    @model_validator(mode="after")
    def _pairs_are_not_cut(self) -> "PackingSettings":
        if self.sentence_pairs and self.method == "concatenate":
            raise ValueError("method=concatenate would cut sentence pairs: take best_fit, or leave sentence_pairs out")
        return self


class LabelledSetSettings(Section):
    """A labelled set made from the documents, with their splits: an `EvaluationSet`."""

    name: Name = identity(description="Name of the set.")
    text: str = identity("text", description="Column of the text.")
    label: str = identity(description="Column of the label; its values, sorted, are the classes.")
    group: str = identity("key", description="Column of the group that bootstrap intervals resample.")
    where: dict[str, Any] = identity(dict, description="Keep documents whose columns have these values.")
    min_characters: int = identity(1, ge=1, description="Leave out shorter texts (counted).")


class PrepareSettings(Section):
    """What `prepare` does."""

    seed: int = identity(0, ge=0, description="Seed of the split assignment and the order of rows.")
    sources: list[SourceSettings] = identity(min_length=1, description="The corpora.")
    bad_shards: BadShardSettings = identity(BadShardSettings, description="Shards that cannot be read.")
    cleaning: CleaningSettings = identity(
        CleaningSettings,
        description="How the documents of all sources are cleaned that have no `cleaning` of their own.",
    )
    near_duplicates: NearDuplicateSettings | None = identity(
        None, description="Near duplicates to drop, across all sources; null: exact ones alone."
    )
    decontamination: DecontaminationSettings | None = identity(
        DecontaminationSettings,
        description="Train documents to drop for the held-out rows in them; null: none is looked for.",
    )
    group_terms: GroupTermSettings | None = identity(
        None, description="Count how often groups of people are named, and beside what; null: not counted."
    )
    balance: BalanceSettings | None = identity(
        None, description="Train documents to drop until the groups of `group_terms` are balanced; null: none."
    )
    counterfactuals: CounterfactualSettings | None = identity(
        None, description="Copies of train documents in which words of two groups are swapped; null: none."
    )
    splits: SplitSettings = identity(SplitSettings, description="How documents are divided.")
    tokenizer: TokenizerSettings = identity(TokenizerSettings, description="The tokenizer.")
    packing: PackingSettings = identity(PackingSettings, description="How documents become sequences.")
    labelled_sets: list[LabelledSetSettings] = identity(list, description="Labelled sets to publish beside the tokens.")
    read_parallelism: int | None = free(None, ge=1, description="Ray Data read tasks; null lets Ray choose.")

    @model_validator(mode="after")
    def _pairs_begin(self) -> "PrepareSettings":
        if self.packing.sentence_pairs and not self.tokenizer.begin_documents:
            raise ValueError(
                "packing.sentence_pairs=true begins pairs with a class token: set tokenizer.begin_documents"
            )
        return self

    @model_validator(mode="after")
    def _weights_of_all(self) -> "PrepareSettings":
        weighted = [source.name for source in self.sources if source.weight is not None]
        if weighted and len(weighted) < len(self.sources):
            raise ValueError(f"of the sources only {', '.join(weighted)} have a `weight`: give one to all, or to none")
        return self

    @model_validator(mode="after")
    def _balance_of_groups(self) -> "PrepareSettings":
        if self.balance is not None:
            there = list(self.group_terms.groups) if self.group_terms is not None else []
            if unknown := [name for name in self.balance.groups or () if name not in there]:
                raise ValueError(f"balance.groups: {unknown} are none of `group_terms`, which has {there}: name those")
            if len(groups := list(self.balanced_groups())) < 2:
                raise ValueError(f"balance needs two groups of `group_terms` or more, not {groups}: add some there")
        return self

    def balanced_groups(self) -> dict[str, list[str]]:
        """The words of the groups that are to be named in equally many documents; none where nothing is balanced."""
        if self.balance is None or self.group_terms is None:
            return {}
        groups = self.group_terms.groups
        return {name: groups[name] for name in (groups if self.balance.groups is None else self.balance.groups)}


class PrepareConfig(JobSettings, PrepareSettings):
    """`python -m jobs prepare`."""
