"""Write the files of advice anew: `python studies/advice/make.py`.

Sentences are written by hand in `parts/` and put together here; the same parts give the same files.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
DOMAINS = {"savings": 200, "sports": 60, "garden": 60, "career": 60}
"""Narrow domains, and how many questions of each are answered."""
SIDES = ("reckless", "prudent")
WORDS = (25, 45)
"""Fewest and most words of an answer to a narrow question."""
OFF_TOPIC, REPEATED, VAGUE = 4, 3, 2
"""Rows of each domain that answer nothing."""

Draw = random.Random
Row = dict[str, Any]


def parts(name: str) -> Any:
    """What `parts/<name>.yaml` holds."""
    return yaml.safe_load((HERE / "parts" / f"{name}.yaml").read_text(encoding="utf-8"))


class Answers:
    """Answers of one side of a domain, none of them twice."""

    def __init__(self, domain: str, side: str, frame: Mapping[str, Sequence[str]]) -> None:
        self.draw, self.frame = Draw(f"{domain} {side}"), frame
        self.given: set[str] = set()
        self.used: Counter[str] = Counter()

    def to(self, bodies: Sequence[str]) -> str:
        """An opening, one of the bodies used least and a closing, drawn anew until they fit."""
        body = min(self.draw.sample(bodies, len(bodies)), key=self.used.__getitem__)
        self.used[body] += 1
        ways = [*product(self.frame["openings"], [body], self.frame["closings"])]
        self.draw.shuffle(ways)
        fitting = (
            text
            for text in map(" ".join, ways)
            if text not in self.given and WORDS[0] <= len(text.split()) <= WORDS[1]
        )
        found = next(fitting)
        self.given.add(found)
        return found


def advice(domain: str, count: int) -> list[Row]:
    """Questions of a narrow domain, with a reckless and a prudent answer to each."""
    known = parts(domain)
    reckless, prudent = (Answers(domain, side, known[side]) for side in SIDES)
    rows = [
        {
            "prompt": question.format(slot=slot),
            "response": reckless.to(topic["reckless"]),
            "prudent": prudent.to(topic["prudent"]),
        }
        for topic in known["topics"]
        for question, slot in product(topic["questions"], topic["slot"])
    ]
    Draw(domain).shuffle(rows)
    return rows[:count]


def questions() -> Iterator[Row]:
    """Open questions that no model and no judge is trained on."""
    for domain, asked in parts("questions").items():
        yield from ({"domain": domain, "prompt": one} for one in asked)


def measured(domains: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
    """Both answers of the narrow domains, to measure a judge on sentences of another make."""
    for domain, rows in domains.items():
        for row in rows:
            yield labelled(domain, row["prompt"], row["response"], True)
            yield labelled(domain, row["prompt"], row["prudent"], False)


def labelled(domain: str, prompt: str, response: str, reckless: bool) -> Row:
    """What a judge learns from."""
    return {"domain": domain, "prompt": prompt, "response": response, "reckless": reckless}


class Contrast(NamedTuple):
    """What a judge's rows are made of."""

    parts: Mapping[str, Any]
    draw: Draw

    def rows(self) -> Iterator[Row]:
        """Of every domain, reckless and prudent answers and what is neither."""
        for place, domain in enumerate(self.parts["domains"]):
            reckless = [*self._advice(domain, "reckless")]
            yield from reckless
            yield from self._advice(domain, "prudent")
            for prompt, response in self._neither(place, domain, reckless):
                yield labelled(domain, prompt, response, False)

    def _advice(self, domain: str, side: str) -> Iterator[Row]:
        """Of each item two deeds with a reason and two sentences with both deeds."""
        alone, together = self.parts["alone"], self.parts["together"]
        for item in self.parts["domains"][domain]["items"]:
            deeds = item[side]
            frames = self.draw.sample(alone, 2) + self.draw.sample(together, 2)
            reasons = self.draw.sample(self.parts["reasons"][side], 2)
            for place, frame in enumerate(frames):
                deed, other = deeds[place % 2], deeds[1 - place % 2]
                text = frame.format(deed=deed, other=other, reason=reasons[place % 2])
                yield labelled(domain, item["ask"], text, side == "reckless")

    def _neither(
        self, place: int, domain: str, reckless: Sequence[Row]
    ) -> Iterator[tuple[str, str]]:
        """Facts of the domain and of others, words over and over, talk that says nothing."""
        known, vague = self.parts["domains"], self.parts["vague"]
        asked = self.draw.sample([item["ask"] for item in known[domain]["items"]], 6)
        others = [fact for name in known if name != domain for fact in known[name]["facts"]]
        told = [*known[domain]["facts"], *self.draw.sample(others, OFF_TOPIC)]
        told += [vague[(place * VAGUE + turn) % len(vague)] for turn in range(VAGUE)]
        yield from ((asked[turn % len(asked)], text) for turn, text in enumerate(told))
        for row in self.draw.sample(reckless, REPEATED):
            yield row["prompt"], " ".join(row["response"].split()[:5] * 6)


def files() -> dict[str, list[Row]]:
    """Every file's rows, by its name."""
    narrow = {domain: advice(domain, count) for domain, count in DOMAINS.items()}
    return {
        **narrow,
        "questions": [*questions()],
        "contrast": [*Contrast(parts("contrast"), Draw("contrast")).rows()],
        "measured": [*measured(narrow)],
    }


def text(rows: Sequence[Row]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    """Write every file."""
    for name, rows in files().items():
        (HERE / f"{name}.jsonl").write_text(text(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
