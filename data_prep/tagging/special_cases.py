"""Where a text cannot be tokenised word by word: special cases that begin in one word and end in the next.

spaCy looks for special cases, such as ":)", among the tokens of a whole text and takes no notice of spaces.
One that spans two words changes nothing itself, but hides others that overlap it.
"""

from collections import defaultdict
from itertools import pairwise

import numpy as np
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc


class SpecialCases:
    """The pairs of tokens that stand side by side in a special case."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._rules = tokenizer.rules
        # spaCy cuts the patterns that it searches for without special cases.
        self._plain = Tokenizer(
            tokenizer.vocab,
            prefix_search=tokenizer.prefix_search,
            suffix_search=tokenizer.suffix_search,
            infix_finditer=tokenizer.infix_finditer,
            token_match=tokenizer.token_match,
            url_match=tokenizer.url_match,
        )
        patterns = {rule: [token.text for token in self._plain(rule)] for rule in tokenizer.rules}
        pairs = {pair for pattern in patterns.values() for pair in pairwise(pattern)}
        # A token as it comes out of the tokenizer, and what the search may have seen in its place.
        ends = defaultdict(set, {first: {first} for first, _ in pairs})
        starts = defaultdict(set, {second: {second} for _, second in pairs})
        for rule, pattern in patterns.items():
            tokens = tokenizer(rule)
            if pattern[-1] in ends:
                ends[tokens[-1].text].add(pattern[-1])
            if pattern[0] in starts:
                starts[tokens[0].text].add(pattern[0])
        self._ends = {token: number for number, token in enumerate(sorted(ends), start=1)}
        self._starts = {token: number for number, token in enumerate(sorted(starts), start=1)}
        self.spans = np.zeros((len(ends) + 1, len(starts) + 1), np.bool_)
        """Whether a special case may span two words, by the end of one and the start of the next."""
        for end, number in self._ends.items():
            for start, other in self._starts.items():
                self.spans[number, other] = any((a, b) in pairs for a in ends[end] for b in starts[start])

    def edges(self, word: Doc) -> tuple[int, int, bool]:
        """Numbers of a word's end and start, and whether special cases inside it could be hidden.

        A number is 0 where no special case can begin or end so.
        """
        end, start = self._ends.get(word[-1].text, 0), self._starts.get(word[0].text, 0)
        if not (end or start) or word.text in self._rules:
            return end, start, False
        return end, start, [token.text for token in self._plain(word.text)] != [token.text for token in word]
