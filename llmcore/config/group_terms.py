"""Words that name groups of people, and words of praise and blame: what bias at the source is counted by."""

from pydantic import model_validator

from llmcore.config.base import Section, identity

__all__ = ["GroupTermSettings"]

_GROUPS = {
    "female": "she her hers herself woman women girl girls mother mothers daughter daughters sister sisters wife wives "
    "aunt aunts grandmother lady ladies female females queen madam mrs ms",
    "male": "he him his himself man men boy boys father fathers son sons brother brothers husband husbands "
    "uncle uncles grandfather gentleman gentlemen male males king sir mr",
}
_POSITIVE = (
    "good great excellent brilliant wise clever intelligent honest brave kind gentle strong successful talented "
    "skilled capable competent reliable loyal generous beautiful happy admired respected honorable noble "
    "famous gifted able"
)
_NEGATIVE = (
    "bad poor terrible stupid foolish ignorant dishonest cowardly cruel rude weak unsuccessful lazy incompetent "
    "incapable unreliable disloyal greedy ugly unhappy despised criminal violent dangerous dirty "
    "evil wicked hysterical emotional"
)


class GroupTermSettings(Section):
    """How often groups of people are named, and beside what."""

    groups: dict[str, list[str]] = identity(
        {name: words.split() for name, words in _GROUPS.items()},
        description="Words of each group, in lower case. The default is a short English list of gendered words: bring "
        "your own for other groups and languages.",
    )
    positive: list[str] = identity(_POSITIVE.split(), description="Words of praise.")
    negative: list[str] = identity(_NEGATIVE.split(), description="Words of blame.")
    window_words: int = identity(10, ge=1, description="Words before and after a group's word that are beside it.")

    @model_validator(mode="after")
    def _single_words(self) -> "GroupTermSettings":
        lists = {**self.groups, "positive": self.positive, "negative": self.negative}
        if not self.groups:
            raise ValueError("name one group at least, or leave `group_terms` out")
        for name, words in lists.items():
            if wrong := [word for word in words if not word.isalnum() or word != word.lower()]:
                raise ValueError(f"{name}: {wrong} are no single words in lower case")
        return self
