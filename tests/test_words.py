"""Words that shall not come back: they mean something else in radiology or machine learning, or nothing there.

`WORD_COUNTS` may only fall. A change that uses a word more often takes a word of the field instead; one
that uses it less often lowers the number.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ct3d_edge

PACKAGE = Path(ct3d_edge.__file__).parent

WORD_COUNTS: dict[str, int] = {
    "cohort": 0,
    "crew": 0,
    "door": 0,
    "embedding": 3,
    "finding": 3,
    "findings": 4,
    "inbox": 0,
    "judge": 0,
    "judged": 0,
    "passport": 0,
    "proof": 2,
    "proofs": 0,
    "proven": 0,
    "receipt": 2,
    "room": 4,
    "rooms": 0,
    "said": 0,
    "told": 0,
    "verdict": 0,
    "verdicts": 0,
    "witness": 0,
}
"""How often each word occurs in names and string literals of the package, docstrings included."""

SERIALISED = {"findings", "proof", "further_proofs", "receipt", "verdict"}
"""Keys of files; literals that are nothing but one of them do not count."""

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def names_and_literals(tree: ast.AST) -> Iterator[str]:
    """Every identifier and every text of a module."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                yield text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text) | ast.alias(name=text):
                yield text
            case ast.keyword(arg=str(text)):
                yield text
            case ast.Constant(value=str(text)) if text not in SERIALISED:
                yield text


def count_words() -> Counter[str]:
    """Hits of the words in `WORD_COUNTS`."""
    found: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        for text in names_and_literals(ast.parse(path.read_text(encoding="utf-8"))):
            found.update(word.lower() for word in WORD.findall(text) if word.lower() in WORD_COUNTS)
    return found


def test_words_are_found_in_names_and_literals() -> None:
    tree = ast.parse("class FindingList:\n  '''A verdict.'''\n  def in_room(self, door): return f'{door.JUDGE} proof'")
    words = {word.lower() for text in names_and_literals(tree) for word in WORD.findall(text)}
    assert {"finding", "verdict", "room", "door", "judge", "proof"} <= words


def test_house_words_do_not_come_back() -> None:
    found = count_words()
    more = {word: (allowed, found[word]) for word, allowed in WORD_COUNTS.items() if found[word] > allowed}
    assert not more, f"take a word of the field instead; allowed, found: {more}"


def test_what_is_gone_stays_gone() -> None:
    found = count_words()
    fewer = {word: found[word] for word, allowed in WORD_COUNTS.items() if found[word] < allowed}
    assert not fewer, f"lower the numbers in WORD_COUNTS to {fewer}"
