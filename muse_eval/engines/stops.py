"""Where an answer ends at a stop string, told from token ids: text is made only where one may have ended."""

from functools import cached_property

from muse_eval.engines.tokens import Tokens, has_stop

ANCHORS = ("a", "the", "x", "1", "A")
"""Texts whose last token may stand beside another one, to see what that one adds."""
BROKEN = "\N{REPLACEMENT CHARACTER}"


class StopRule:
    """Tells whether new token ids hold a stop string; asked after each id, it decodes few of them.

    Each id that is met is decoded once alone, behind another and between two. Where it adds plain text, a
    stop string can end with it only if that text holds the stop string's last character. The whole is decoded
    as ever where decoding may be more than joining what each id adds: at an id that adds no text (special
    tokens) or a part of a character, or that changes what another one adds, and at the id behind such a one;
    and for a stop string that ends in a space (which decoders put between tokens) or outside of ASCII (a
    character that several ids make).
    """

    def __init__(self, tokens: Tokens) -> None:
        """Take the tokens of a model."""
        self._tokens = tokens
        self._added: dict[int, frozenset[str] | None] = {}

    def ended(self, ids: list[int], stop: tuple[str, ...]) -> bool:
        """Tell whether a stop string is in the text of ``ids``, none being in that of all but the last."""
        return self._may_end(ids[-2:], stop) and has_stop(self._tokens.decode(ids), stop)

    def _may_end(self, last: list[int], stop: tuple[str, ...]) -> bool:
        """Tell whether a stop string may end with the last of one or two ids."""
        if not all(string and string[-1].isascii() and string[-1] != " " for string in stop):
            return True
        for token in last:
            if token not in self._added:
                self._added[token] = self._characters(token)
        added = [self._added[token] for token in last]
        return added[-1] is None or None in added or any(string[-1] in added[-1] for string in stop)

    def _characters(self, token: int) -> frozenset[str] | None:
        """Return the characters that an id adds to a text; None where that is not plain."""
        if self._anchor is None:
            return None
        anchor, before, more = self._anchor
        alone, behind, between = (
            self._tokens.decode(ids) for ids in ([token], [anchor, token], [anchor, token, anchor])
        )
        added = behind.removeprefix(before)
        joined = behind.startswith(before) and between == behind + more
        plain = joined and alone and added and BROKEN not in alone + added
        return frozenset(alone + added) if plain else None

    @cached_property
    def _anchor(self) -> tuple[int, str, str] | None:
        """A token of plain text, that text, and what the token adds behind itself."""
        for text in ANCHORS:
            ids = self._tokens.tokenizer(text, add_special_tokens=False, verbose=False).input_ids[-1:]
            once, twice = self._tokens.decode(ids), self._tokens.decode(ids * 2)
            more = twice.removeprefix(once)
            if ids and once and twice.startswith(once) and more and BROKEN not in twice:
                return ids[0], once, more
        return None
