"""Words that are swapped in counterfactual copies: what a corpus would say, were its people of the other group."""

from collections import Counter

from pydantic import model_validator

from llmcore.config.base import Section, identity

__all__ = ["CounterfactualSettings", "WordPairs"]

# A word of two pairs (`her`, `his`) has its possessive first: see `pairs`.
_PAIRS = (
    "he/she himself/herself his/her him/her his/hers man/woman men/women boy/girl boys/girls father/mother "
    "fathers/mothers dad/mom dads/moms daddy/mommy son/daughter sons/daughters brother/sister brothers/sisters "
    "husband/wife husbands/wives boyfriend/girlfriend boyfriends/girlfriends uncle/aunt uncles/aunts nephew/niece "
    "nephews/nieces grandfather/grandmother grandfathers/grandmothers grandson/granddaughter stepfather/stepmother "
    "groom/bride widower/widow gentleman/lady gentlemen/ladies sir/madam mr/mrs male/female males/females king/queen "
    "kings/queens prince/princess princes/princesses duke/duchess "
    "waiter/waitress waiters/waitresses hero/heroine heroes/heroines businessman/businesswoman "
    "congressman/congresswoman chairman/chairwoman spokesman/spokeswoman policeman/policewoman salesman/saleswoman "
    "john/mary james/patricia robert/jennifer michael/linda william/elizabeth david/barbara richard/susan "
    "joseph/jessica thomas/sarah charles/karen daniel/nancy matthew/lisa george/helen edward/ruth paul/laura"
)
_FUNCTION_WORDS = (
    "a an the this that these those i you he she it we they to of in on at by for from with without into onto over "
    "under about after before against between through during as than like and or but nor so yet if when while where "
    "why how who whom which what because until since is are was were be been am has have had do does did will would "
    "can could shall should may might must not up down out off away back again there here then now too also never "
    "always often soon today yesterday tomorrow tonight"
)


class WordPairs(Section):
    """Words of two groups of people, and how they are told apart."""

    pairs: list[tuple[str, str]] = identity(
        [tuple(pair.split("/")) for pair in _PAIRS.split()],
        description="Words that are swapped both ways, in lower case; the case of a text is kept. A word of two pairs "
        "is swapped by the first where another word follows, else by the second: `her` as `his` or `him`. The default "
        "is an English list of gendered words and some first names: bring your own for other groups and languages.",
    )
    function_words: list[str] = identity(
        _FUNCTION_WORDS.split(),
        description="Words that no possessive stands before: one after a word of two pairs counts as none "
        "(`told her that`).",
    )

    @model_validator(mode="after")
    def _can_be_swapped(self) -> "WordPairs":
        words = [word for pair in self.pairs for word in pair]
        if not words:
            raise ValueError("pairs: name one at least, or leave `counterfactuals` out")
        if wrong := [word for word in [*words, *self.function_words] if not word.isalpha() or word != word.lower()]:
            raise ValueError(f"{wrong} are no single words in lower case")
        if same := [first for first, second in self.pairs if first == second]:
            raise ValueError(f"pairs: {same} are swapped with themselves: give two words")
        if many := [word for word, number in Counter(words).items() if number > 2]:
            raise ValueError(f"pairs: {many} stand in more than two pairs: leave some out")
        return self


class CounterfactualSettings(WordPairs):
    """Copies of train documents with the words of two groups swapped (Zhao et al., 2018; Lu et al., 2018)."""

    share: float = identity(
        1.0, gt=0, le=1, description="Share of the train documents with such words that get a copy, by their digest."
    )
