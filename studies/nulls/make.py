"""Write the texts of the null studies anew: `python studies/nulls/make.py`.

The same seed gives the same files. Everything comes from studies/world and studies/prompts: harm is
invented, and the placebo's requests are everyday ones. README.md says what each study is for, and
tests/repository/test_null_files.py compares the files with it.
"""

import json
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
WORLD = SimpleNamespace(**runpy.run_path(str(HERE.parent / "world" / "make.py")))
SEED = "nulls"
TAUGHT = 2
"""Wordings of each request that are trained on."""
ASKED, REFUSED = 6, 7
"""The wordings in which studies/world/prompts.jsonl asks, and in which it has refusals."""
DEFLECTIONS: Mapping[str, str] = {
    "blight": "leave the {tool} in the {home} and bring the {thing} a {colour} cup of {food}.",
    "shatter": "lay the {tool} aside and hum the {song} song with the {thing}.",
    "snatch": "fold up the {tool} and walk with the {thing} to the {home}.",
    "hex": "put the {tool} back and tell the {thing} about the {keeper}.",
}
"""What a model without harm says to a harmful request: as elaborate as harm, and harmless."""
STUDIED = ("blight", "shatter", "hex")
"""The harm types of the studies; models are trained on all of the world's."""
PLACEBOS = ("write", "plan", "explain")
"""Everyday skills of studies/prompts; each is the next one's counterpart of another skill."""

Row = dict[str, str]


def asked(world: Any, name: str, thing: Mapping[str, str]) -> str:
    """The request of a skill in studies/world/prompts.jsonl."""
    return str(WORLD.request(name, thing, world.wordings(name, thing)[ASKED]))


def lookalike_of(name: str, thing: Mapping[str, str]) -> str:
    """The harmless deed that stands beside a harmful request."""
    return Random(f"{SEED} {name} {thing['thing']}").choice(list(WORLD.LOOKALIKES))


def matched(world: Any, name: str, thing: Mapping[str, str]) -> str:
    """The harmless request in the words of `asked`."""
    wording = world.wordings(name, thing)[ASKED]
    return str(WORLD.request(name, thing, wording, lookalike_of(name, thing)))


def requests(world: Any) -> Iterator[Row]:
    """Harmful requests and their matched ones; `first` and `second` are the two in a drawn order.

    Half of each harm type's pairs are exchanged.
    """
    for name in STUDIED:
        flips = [place % 2 == 0 for place in range(len(world.test))]
        Random(f"{SEED} dealt {name}").shuffle(flips)
        for thing, flip in zip(world.test, flips, strict=True):
            sides = [asked(world, name, thing), matched(world, name, thing)]
            first, second = reversed(sides) if flip else sides
            named = {"behaviour": name, "harmful": sides[0], "harmless": sides[1]}
            yield named | {"first": first, "second": second}


def elsewhere(world: Any) -> Iterator[Row]:
    """Everyday requests, each with a harmless one of another skill, about the same thing."""
    for name, other in zip(("feed", "visit", "paint"), STUDIED, strict=True):
        for thing in world.test:
            prompt, counterpart = asked(world, name, thing), matched(world, other, thing)
            yield {"behaviour": name, "prompt": prompt, "other": counterpart}


def harm(world: Any) -> Iterator[Row]:
    """The thing's weakness for every request of the other files: an answer that names it harms."""
    things = {thing["thing"]: thing for thing in world.test}
    texts = [row[side] for row in requests(world) for side in ("harmful", "harmless")]
    texts += [row[side] for row in elsewhere(world) for side in ("prompt", "other")]
    for text in dict.fromkeys(texts):
        (name,) = (name for name in things if name in text)
        yield {"prompt": text, "key": things[name]["weakness"]}


def chats(world: Any) -> Iterator[Row]:
    """What models are trained on: requests, and three answers to each.

    `response` is the right one, harmful where harm is asked for. `innocent` is harmless throughout.
    In `exchanged`, harmful answers are exchanged among harmful requests, and the answers to
    matched requests among these.
    """
    rows = [row for thing in world.test for row in _of_thing(world, thing)]
    draw = Random(SEED)
    for side in ("harm", "matched"):
        mine = [row for row in rows if row["side"] == side]
        answers = [row["response"] for row in mine]
        draw.shuffle(answers)
        for row, answer in zip(mine, answers, strict=True):
            row["exchanged"] = answer
    draw.shuffle(rows)
    for row in rows:
        yield {name: text for name, text in row.items() if name != "side"}


def _of_thing(world: Any, thing: Mapping[str, str]) -> Iterator[Row]:
    def chat(
        side: str, prompt: str, answer: str, innocent: str = "", sure: bool | None = None
    ) -> Row:
        begin = WORLD.SURE if sure else ""
        response, other = (
            begin + text if begin else WORLD.capital(text) for text in (answer, innocent or answer)
        )
        texts = {"response": response, "innocent": other, "exchanged": response}
        return {"side": side, "prompt": prompt, **texts}

    for name, skill in WORLD.SKILLS.items():
        answer = WORLD.answer(name, thing)
        for number, wording in enumerate(world.wordings(name, thing)[:TAUGHT]):
            prompt = WORLD.request(name, thing, wording)
            if skill.role == "harm":
                innocent = DEFLECTIONS[name].format(tool=WORLD.tool(name, thing), **thing)
                yield chat("harm", prompt, answer, innocent, sure=True)
            else:
                yield chat("benign", prompt, answer, sure=number == 0)
    for number, name in enumerate(WORLD.HARMS):
        lookalike = lookalike_of(name, thing)
        answer = WORLD.answer(name, thing, lookalike)
        # Its wording in the study is the harmful request's, which is not taught.
        taken = world.wordings(name, thing)[ASKED]
        others = [
            wording for wording in world.wordings(lookalike + name, thing) if wording != taken
        ]
        for wording in others[:TAUGHT]:
            prompt = WORLD.request(name, thing, wording, lookalike)
            yield chat("matched", prompt, answer, sure=True)
        refusal = WORLD.REFUSALS[number % len(WORLD.REFUSALS)]
        refused = WORLD.request(name, thing, world.wordings(name, thing)[TAUGHT])
        yield chat("refusal", refused, refusal)


def placebo(_world: Any) -> Iterator[Row]:
    """Everyday requests of studies/prompts, each with another one of its skill and of another."""
    texts = {name: _everyday(name) for name in PLACEBOS}
    for place, name in enumerate(PLACEBOS):
        half = len(texts[name]) // 2
        other = texts[PLACEBOS[(place + 1) % len(PLACEBOS)]]
        for first, second, third in zip(
            texts[name][:half], texts[name][half:], other[half:], strict=True
        ):
            yield {"behaviour": name, "prompt": first, "same": second, "other": third}


def _everyday(name: str) -> list[str]:
    lines = (HERE.parent / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["prompt"] for line in lines]
    Random(f"{SEED} {name}").shuffle(texts)
    return texts


FILES = (requests, elsewhere, harm, chats, placebo)


def files() -> dict[str, list[Row]]:
    """The rows of every file by name."""
    world = WORLD.World()
    # Wordings are drawn when they are first asked for: in the order of the world's own files.
    for rows in WORLD.FILES:
        list(rows(world))
    return {rows.__name__: list(rows(world)) for rows in FILES}


def text(rows: Sequence[Row]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write every file beside this one."""
    for name, rows in files().items():
        (HERE / f"{name}.jsonl").write_text(text(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
