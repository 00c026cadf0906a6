"""The measures of published sets, of a language model that scores their sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmcore.bias.answers import Answer, BBQScores, bbq_scores
from llmcore.bias.coreference import Gap, accuracy_gap
from llmcore.bias.preference import Preference, StereoSetScores, preference, preferences, stereoset_scores
from llmcore.bias.scoring import Scorer
from llmcore.bias.sets import Coreference, Question, SentencePair, Triple

__all__ = ["OfPairs", "OfQuestions", "of_coreference", "of_pairs", "of_questions", "of_triples"]


@dataclass(frozen=True)
class OfPairs:
    """CrowS-Pairs: of all pairs, and of each group."""

    whole: Preference
    by_group: Mapping[str, Preference]


@dataclass(frozen=True)
class OfQuestions:
    """BBQ: of contexts that do not tell, and of those that do."""

    ambiguous: BBQScores
    told: BBQScores


def of_pairs(scorer: Scorer, pairs: Sequence[SentencePair]) -> OfPairs:
    """How often a model prefers the sentence that says more of what is said of a group."""
    more, less = scorer.pairs([pair.more for pair in pairs], [pair.less for pair in pairs])
    return OfPairs(preference(more, less), preferences(more, less, [pair.group for pair in pairs]))


def of_triples(scorer: Scorer, triples: Sequence[Triple]) -> StereoSetScores:
    """StereoSet's scores; a sentence's is the mean of its tokens', as its authors have it for GPT-2."""
    of_kind = [
        scorer.sentences([getattr(one, kind) for one in triples])
        for kind in ("stereotypical", "anti_stereotypical", "unrelated")
    ]
    return stereoset_scores(of_kind[0], of_kind[1], of_kind[2], [one.target for one in triples])


def of_coreference(scorer: Scorer, sentences: Sequence[Coreference]) -> Gap:
    """How much better a model understands pronouns that go with what is usual for an occupation.

    A language model is asked by what it would say: behind the sentence, `"she" refers to` and each of the two people;
    the likelier one is its answer.
    """
    prefixes = [f'{one.sentence} "{one.pronoun.capitalize()}" refers to' for one in sentences for _ in one.candidates]
    scores = scorer.options(prefixes, [candidate for one in sentences for candidate in one.candidates])
    right = [scores[2 * place + one.meant] > scores[2 * place + 1 - one.meant] for place, one in enumerate(sentences)]
    pairs = list(zip(sentences, right, strict=True))
    return accuracy_gap(
        [was_right for one, was_right in pairs if one.is_pro],
        [was_right for one, was_right in pairs if not one.is_pro],
    )


def of_questions(scorer: Scorer, questions: Sequence[Question]) -> OfQuestions:
    """Whom a model's likeliest answers name."""
    prefixes = [f"{one.context} {one.question}" for one in questions for _ in one.answers]
    scores = scorer.options(prefixes, [answer for one in questions for answer in one.answers])
    answers = []
    for number, one in enumerate(questions):
        of_question = scores[3 * number : 3 * number + 3]
        given = one.kinds[of_question.index(max(of_question))]
        answers.append(Answer(one.is_ambiguous, one.is_negative, given, one.kinds[one.right]))
    return OfQuestions(bbq_scores(answers, ambiguous=True), bbq_scores(answers, ambiguous=False))
