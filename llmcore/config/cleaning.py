"""How the documents of a source are cleaned: each step optional, in the order in which they stand here."""

from typing import Literal

from pydantic import field_validator, model_validator

from llmcore.config.base import Section, identity

__all__ = ["C4Settings", "CleaningSettings", "FineWebSettings", "GopherRepetitionSettings", "GopherSettings"]
__all__ += ["LanguageSettings", "LengthSettings", "PassageSettings", "PersonalDataSettings", "UnicodeSettings"]


class UnicodeSettings(Section):
    """Unicode, made uniform."""

    repair: bool = identity(
        False, description="Undo wrong decodings (`â€œ` for `“`) and strip control characters, with ftfy. Slow."
    )
    form: Literal["NFC", "NFKC"] | None = identity("NFC", description="Normal form (Unicode Annex 15); null: none.")


class LengthSettings(Section):
    """Bounds of a document, in characters."""

    min_characters: int = identity(1, ge=1, description="Drop shorter documents.")
    max_characters: int | None = identity(None, ge=1, description="Drop longer documents; null: none is too long.")

    @model_validator(mode="after")
    def _has_room(self) -> "LengthSettings":
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters={self.max_characters} is under min_characters={self.min_characters}")
        return self


class LanguageSettings(Section):
    """The language of each document, by fastText's lid.176 (compressed; it comes with the package)."""

    keep: list[str] | None = identity(
        None, description="Languages to keep, as ISO 639 codes (`en`); null: all, each counted."
    )
    min_score: float = identity(0.65, ge=0, le=1, description="Drop a document whose language is less sure than this.")

    @field_validator("keep")
    @classmethod
    def _keeps_some(cls, keep: list[str] | None) -> list[str] | None:
        if keep is not None and (not keep or any(not code.isalpha() or not code.islower() for code in keep)):
            raise ValueError("name ISO 639 codes in lower case, one at least, or leave `keep` out")
        return keep


class GopherRepetitionSettings(Section):
    """Repetition as in Gopher (Rae et al., 2021, table A1); n-grams have the paper's bounds."""

    dup_line_frac: float = identity(0.3, ge=0, le=1, description="Largest share of lines that repeat another.")
    dup_para_frac: float = identity(0.3, ge=0, le=1, description="Largest share of paragraphs that repeat another.")
    dup_line_char_frac: float = identity(0.2, ge=0, le=1, description="Largest share of characters in such lines.")
    dup_para_char_frac: float = identity(0.2, ge=0, le=1, description="Largest share of characters in such paragraphs.")


class GopherSettings(Section):
    """Quality as in Gopher (Rae et al., 2021, appendix A.1.1)."""

    min_doc_words: int = identity(50, ge=0, description="Fewest words; marks alone are no words.")
    max_doc_words: int = identity(100_000, ge=1, description="Most words.")
    min_avg_word_length: float = identity(3, ge=0, description="Least mean length of a word, in characters.")
    max_avg_word_length: float = identity(10, ge=1, description="Largest mean length of a word, in characters.")
    max_symbol_word_ratio: float = identity(0.1, ge=0, description="Most `#`, and most ellipses, for each word.")
    max_bullet_lines_ratio: float = identity(0.9, ge=0, le=1, description="Largest share of lines with a bullet.")
    max_ellipsis_lines_ratio: float = identity(0.3, ge=0, le=1, description="Largest share that end in an ellipsis.")
    max_non_alpha_words_ratio: float = identity(
        0.8, ge=0, le=1, description="Least share of words with a letter (datatrove's name for it)."
    )
    min_stop_words: int = identity(
        2, ge=0, description="Fewest different words of the, be, to, of, and, that, have, with. For English."
    )


class C4Settings(Section):
    """Lines and documents as in C4 (Raffel et al., 2020, section 2.2); it drops single lines, too."""

    min_num_sentences: int = identity(5, ge=-1, description="Fewest sentences of a document; -1: any number.")
    min_words_per_line: int = identity(3, ge=-1, description="Fewest words of a line; -1: any number.")
    max_word_length: int = identity(1000, ge=-1, description="Longest word of a line, in characters; -1: any length.")
    filter_no_terminal_punct: bool = identity(True, description="Drop lines that do not end a sentence.")
    filter_curly_bracket: bool = identity(True, description="Drop documents with a curly bracket.")
    filter_lorem_ipsum: bool = identity(True, description="Drop documents with `lorem ipsum`.")
    filter_javascript: bool = identity(True, description="Drop lines that speak of JavaScript.")
    filter_policy: bool = identity(True, description="Drop lines that speak of cookies or terms of use.")
    remove_citations: bool = identity(True, description="Take out `[1]`, `[edit]` and `[citation needed]`.")


class FineWebSettings(Section):
    """Quality as in FineWeb (Penedo et al., 2024, section 3.6)."""

    line_punct_thr: float = identity(0.12, ge=0, le=1, description="Least share of lines that end a sentence.")
    short_line_thr: float = identity(0.67, ge=0, le=1, description="Largest share of short lines.")
    short_line_length: int = identity(30, ge=0, description="Characters up to which a line is short.")
    char_duplicates_ratio: float = identity(
        0.01, ge=0, le=1, description="Largest share of characters in repeated lines."
    )
    new_line_ratio: float = identity(0.3, ge=0, description="Most line ends for each word.")


class PersonalDataSettings(Section):
    """Personal data, put out of sight: each find is counted, none is written anywhere."""

    email: bool = identity(True, description="E-mail addresses become `<email>`.")
    ip_address: bool = identity(True, description="Public IPv4 and IPv6 addresses become `<ip-address>`.")
    telephone: bool = identity(True, description="Valid telephone numbers become `<telephone>`.")
    region: str | None = identity(
        None,
        pattern="^[A-Z]{2}$",
        description="Country (ISO 3166) whose national telephone numbers are known; null: those with `+` alone.",
    )


class PassageSettings(Section):
    """Very long documents, split where a paragraph, a line, a sentence or a word ends: nothing is lost."""

    max_characters: int = identity(100_000, ge=100, description="Characters of the longest passage.")


class CleaningSettings(Section):
    """The steps; null: not done. Each counts what it drops and changes, and shows examples of what it dropped."""

    unicode: UnicodeSettings | None = identity(None, description="Unicode repair and normalisation.")
    length: LengthSettings | None = identity(None, description="Bounds of a document's length.")
    language: LanguageSettings | None = identity(None, description="Language identification.")
    gopher_repetition: GopherRepetitionSettings | None = identity(None, description="Gopher's bounds of repetition.")
    gopher: GopherSettings | None = identity(None, description="Gopher's bounds of quality.")
    c4: C4Settings | None = identity(None, description="C4's rules for lines and documents.")
    fineweb: FineWebSettings | None = identity(None, description="FineWeb's bounds of quality.")
    personal_data: PersonalDataSettings | None = identity(None, description="Masks for personal data.")
    passages: PassageSettings | None = identity(None, description="Splitting of very long documents.")

    def is_nothing(self) -> bool:
        """Whether no step is asked for."""
        return not self.model_dump(exclude_none=True)
