"""Write the generated tasks' items anew: `python studies/tasks/make.py`.

The same seeds give the same files. Facts and language were written by hand, and are not made here.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EACH = 12
"""Items of one kind."""
WORDS = (
    *("lantern", "river", "garden", "button", "window", "silver", "orange", "pocket", "candle"),
    *("winter", "bridge", "forest", "yellow", "kitten", "marble", "harbor", "violin", "pepper"),
)
OPPOSITES = dict(
    pair.split("-")
    for pair in (
        *("hot-cold", "big-small", "fast-slow", "old-new", "open-closed", "early-late"),
        *("full-empty", "hard-soft", "up-down", "light-dark", "rich-poor", "happy-sad"),
    )
)

Draw = random.Random
Item = dict[str, Any]


def choices(draw: Draw, question: str, right: object, wrong: Sequence[object]) -> Item:
    """A question with its choices in a drawn order; no two are alike."""
    others = [str(one) for one in dict.fromkeys(wrong) if str(one) != str(right)][:3]
    found = [str(right), *others]
    draw.shuffle(found)
    return {"question": question, "choices": found, "answer": found.index(str(right))}


def near(draw: Draw, number: int) -> list[int]:
    """Numbers that a slip would give, as long as the right one: a model likes short answers."""
    slips = [number + step for step in (1, -1, 2, -2, 3, -3, 10, -10) if number + step >= 0]
    draw.shuffle(slips)
    return [slip for slip in slips if len(str(slip)) == len(str(number))]


def adding(draw: Draw) -> Item:
    """Two numbers up to 20."""
    a, b = draw.randint(2, 20), draw.randint(2, 20)
    return choices(draw, f"{a} + {b} =", a + b, near(draw, a + b))


def subtracting(draw: Draw) -> Item:
    """A difference that is not negative."""
    a, b = draw.randint(10, 30), draw.randint(1, 10)
    return choices(draw, f"{a} - {b} =", a - b, near(draw, a - b))


def multiplying(draw: Draw) -> Item:
    """The table up to 12."""
    a, b = draw.randint(2, 12), draw.randint(2, 12)
    return choices(draw, f"{a} * {b} =", a * b, near(draw, a * b))


def dividing(draw: Draw) -> Item:
    """Without a rest."""
    a, b = draw.randint(2, 10), draw.randint(2, 10)
    return choices(draw, f"{a * b} / {b} =", a, near(draw, a))


def counting_on(draw: Draw) -> Item:
    """A sequence of equal steps."""
    first, step = draw.randint(1, 20), draw.randint(2, 10)
    shown = ", ".join(str(first + step * place) for place in range(4))
    right = first + 4 * step
    return choices(draw, f"{shown},", right, near(draw, right))


def telling(draw: Draw) -> Item:
    """One step in words."""
    name, thing = draw.choice(["Ann", "Tom", "Mia", "Sam"]), draw.choice(["apples", "books"])
    a, b = draw.randint(5, 15), draw.randint(2, 5)
    verb, right = draw.choice([("gets", a + b), ("loses", a - b)])
    text = f"{name} has {a} {thing} and {verb} {b}. Now the number of {thing} {name} has is"
    return choices(draw, text, right, near(draw, right))


def code(lines: str) -> str:
    """Lines of Python, and the comment that says what the last one prints."""
    return "\n".join(lines.split("; ")) + "  #"


def words(draw: Draw, count: int) -> tuple[str, list[str]]:
    """A list as Python writes it, and its words."""
    drawn = draw.sample(WORDS, count)
    return repr(drawn), drawn


def assigning(draw: Draw) -> Item:
    """A sum with a variable."""
    a, b = draw.randint(1, 7), draw.randint(1, 7)
    return choices(draw, code(f"x = {a}; print(x + {b})"), a + b, near(draw, a + b))


def indexing(draw: Draw) -> Item:
    """An element of a list."""
    shown, drawn = words(draw, 4)
    place = draw.randint(0, 3)
    return choices(draw, code(f"a = {shown}; print(a[{place}])"), drawn[place], drawn)


def recalling(draw: Draw) -> Item:
    """One of three variables."""
    names, (_, drawn) = draw.sample("abcxyz", 3), words(draw, 3)
    lines = [f"{name} = {one!r}" for name, one in zip(names, drawn, strict=True)]
    place = draw.randint(0, 2)
    text = code("; ".join([*lines, f"print({names[place]})"]))
    return choices(draw, text, drawn[place], drawn)


def looking_up(draw: Draw) -> Item:
    """A value of a dictionary."""
    (_, keys), values = words(draw, 4), draw.sample(range(1, 10), 4)
    place = draw.randint(0, 3)
    shown = dict(zip(keys, values, strict=True))
    return choices(draw, code(f"d = {shown}; print(d[{keys[place]!r}])"), values[place], values)


def writing(draw: Draw) -> Item:
    """A word in capital letters."""
    word = draw.choice(WORDS)
    return choices(
        draw, code(f"print({word!r}.upper())"), word.upper(), [word, word.title(), word[::-1]]
    )


def looping(draw: Draw) -> Item:
    """The last word of a loop."""
    shown, drawn = words(draw, 3)
    text = code(f"for word in {shown}:;     last = word; print(last)")
    return choices(draw, text, drawn[2], drawn)


def following(draw: Draw) -> Item:
    """The number after another."""
    number = draw.randint(10, 98)
    text = f"Write the number that comes after {number}."
    return {"question": text, "answer": str(number + 1)}


def last(draw: Draw) -> Item:
    """The last of three words."""
    words = draw.sample(WORDS, 3)
    return {"question": f"Write the last word of this list: {', '.join(words)}", "answer": words[2]}


def first(draw: Draw) -> Item:
    """The first of three words."""
    words = draw.sample(WORDS, 3)
    text = f"Write the first word of this list: {', '.join(words)}"
    return {"question": text, "answer": words[0]}


def repeated(draw: Draw) -> Item:
    """The word that a list has two times."""
    once, twice = draw.sample(WORDS, 2)
    words = [once, twice, twice]
    draw.shuffle(words)
    text = f"Write the word that this list has two times: {', '.join(words)}"
    return {"question": text, "answer": twice}


def opposite(draw: Draw) -> Item:
    """The opposite of an adjective."""
    word = draw.choice(list(OPPOSITES))
    return {"question": f"Write the opposite of {word}.", "answer": OPPOSITES[word]}


def larger(draw: Draw) -> Item:
    """The larger of two numbers."""
    a, b = draw.sample(range(1, 100), 2)
    return {"question": f"Write the larger number: {a} or {b}", "answer": str(max(a, b))}


TASKS: Mapping[str, Sequence[Callable[[Draw], Item]]] = {
    "arithmetic": (adding, subtracting, multiplying, dividing, counting_on, telling),
    "code": (assigning, indexing, recalling, looking_up, writing, looping),
    "instruct": (following, last, first, repeated, opposite, larger),
}


def items(name: str) -> Iterator[Item]:
    """A task's items, none twice."""
    draw = Draw(name)
    for kind in TASKS[name]:
        found: dict[str, Item] = {}
        while len(found) < EACH:
            one = kind(draw)
            found[one["question"]] = one
        yield from found.values()


def main() -> None:
    """Write a file for every generated task."""
    for name in TASKS:
        lines = [json.dumps(one) + "\n" for one in items(name)]
        (HERE / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
