"""Two labellers behind the test server: one that knows everything, one that knows nothing."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.autointerp.demo_harvest import Document, Key
from tracer.autointerp.prompts import instructions
from tracer.tables.database import query

NAMES = ("explain", "settle", "group", "detect", "fuzz", "intruder", "simulate", "output")
LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
UNKNOWN = (-1, -1)
UNIT = re.compile(r"unit L(\d+)/(\d+)")
MARKED = re.compile(r"«([^»]*)»")
HOSTILE = " <script>alert(1)</script> [red]$\\frac$ \x1b[31m\u202e"
"""What a page, a terminal or a figure would obey if it were not escaped."""


def sort_of(messages: list[dict[str, str]]) -> str:
    """Which instructions a call begins with."""
    for name in NAMES:
        if messages[0]["content"].startswith(instructions(name).text):
            return name
    return "probe"


def marked_places(line: str) -> tuple[str, frozenset[int]]:
    """A text without its marks, and the places of the marked words."""
    places, words, is_inside = set(), [], False
    for word in line.split():
        is_inside = is_inside or word.startswith("«")
        if is_inside:
            places.add(len(words))
        if word.endswith("»"):
            is_inside = False
        words.append(word.strip("«»"))
    return " ".join(words), frozenset(places)


class Oracle:
    """Recognises a feature by what it promotes, names it by its number, and knows where every feature fires. Of what it
    does not recognise, such as a random direction, it says so, and guesses in its tests.
    """

    def __init__(self, documents: list[Document], harvest: Path, run: Path) -> None:
        self.firing = {" ".join(document.tokens): document.firing for document in documents}
        self.feature_of: dict[str, Key] = {}
        self.promoted: dict[Key, set[str]] = {}
        self.hostile: set[Key] = set()
        self.largest: dict[Key, float] = defaultdict(float)
        for document in documents:
            for key, firing in document.firing.items():
                self.largest[key] = max(self.largest[key], *firing.values())
        for layer, feature, tokens, logits in features(harvest):
            shown = ", ".join(f"{token} {logit:+.2f}" for token, logit in list(zip(tokens, logits, strict=True))[:12])
            self.feature_of[shown] = (layer, feature)
            self.promoted[layer, feature] = {token for token, logit in zip(tokens, logits, strict=True) if logit > 0}
        prompts = query(run / "results.duckdb", "SELECT array_to_string(tokens, ' ') AS text, task FROM prompts")
        self.task_of = dict(prompts.rows())

    def __call__(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        """The answer, as JSON."""
        content, sort = messages[1]["content"] if len(messages) > 1 else "", sort_of(messages)
        if sort == "probe":
            from tests.autointerp.replies import example_of

            return example_of(messages, schema)
        return json.dumps(getattr(self, sort)(content))

    def explain(self, content: str) -> dict[str, Any]:
        """The feature's number."""
        promotes = re.search(r"^Promotes: (.*)$", content, re.MULTILINE)
        key = self.feature_of.get(promotes[1]) if promotes else None
        name = f"unit L{key[0]}/{key[1]}" if key else f"unknown {hashlib.sha256(content.encode()).hexdigest()[:8]}"
        if key in self.hostile:
            name += HOSTILE
        return {"reasoning": "I know it.", "kind": "both", "label": name, "description": f"It is {name}."}

    def settle(self, content: str) -> dict[str, Any]:
        """The first draft, on which all agree."""
        return {"n_agreeing": content.split("\n\n")[0].count("unit L") // 2} | self.explain(content)

    def group(self, content: str) -> dict[str, Any]:
        """The task of most of the prompts shown."""
        tasks = Counter(
            self.task_of.get(line.split(" → ")[0], "") for _, line in LINE.findall(content) if " → " in line
        )
        task = max(tasks, key=lambda name: tasks[name]) if tasks else "none"
        return {"reasoning": "I know the prompts.", "label": f"task {task}", "description": f"Solves {task}."}

    def detect(self, content: str) -> dict[str, Any]:
        """Where the described feature fires."""
        key = described(content)
        return verdicts(content, lambda line: key in self.firing.get(line, {}))

    def fuzz(self, content: str) -> dict[str, Any]:
        """Whether the marks are the described feature's firings."""
        key = described(content)

        def is_right(line: str) -> bool:
            text, places = marked_places(line)
            return places == frozenset(self.firing.get(text, {}).get(key, {}))

        return verdicts(content, is_right)

    def intruder(self, content: str) -> dict[str, Any]:
        """The text whose marks no feature shares with the others."""
        fitting = []
        for _, line in LINE.findall(content):
            text, places = marked_places(line)
            fitting.append({key for key, firing in self.firing.get(text, {}).items() if frozenset(firing) == places})
        commonest = Counter(key for keys in fitting for key in keys).most_common(1)
        odd = [number for number, keys in enumerate(fitting, 1) if not commonest or commonest[0][0] not in keys]
        return {"reasoning": "The others share one.", "intruder": odd[0] if odd else 1}

    def simulate(self, content: str) -> dict[str, Any]:
        """The described feature's activations."""
        key, texts = described(content), []
        for number, line in LINE.findall(content):
            tokens = line.strip("[]").split(" | ")
            firing = self.firing.get(" ".join(tokens), {}).get(key, {})
            values = [round(10 * firing.get(pos, 0.0) / (self.largest[key] or 1.0)) for pos in range(len(tokens))]
            texts.append({"number": int(number), "activations": values})
        return {"texts": texts}

    def output(self, content: str) -> dict[str, Any]:
        """What the described feature promotes."""
        promoted = self.promoted.get(described(content), set())
        return verdicts(content, lambda token: token in promoted)


def described(content: str) -> Key:
    """The feature that a description of the oracle names."""
    found = UNIT.search(content)
    return (int(found[1]), int(found[2])) if found else UNKNOWN


def verdicts(content: str, is_right: Callable[[str], bool]) -> dict[str, Any]:
    """Sure answers to yes or no, line by line; guesses where nothing that the oracle knows is described."""
    lines = LINE.findall(content)
    if described(content) == UNKNOWN:
        return {"verdicts": [{"number": int(number), "chance": chance(content, number)} for number, _ in lines]}
    return {"verdicts": [{"number": int(number), "chance": 0.95 if is_right(line) else 0.05} for number, line in lines]}


def chance(content: str, number: str, seed: int = 0) -> float:
    """A guess by a hash of what is asked."""
    digest = hashlib.sha256(f"{seed}|{content}|{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


class RandomLabeller:
    """Answers everything by a hash of what is asked."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        """The answer, as JSON."""
        content, sort = messages[1]["content"] if len(messages) > 1 else "", sort_of(messages)
        if sort == "probe":
            from tests.autointerp.replies import example_of

            return example_of(messages, schema)
        lines = LINE.findall(content)
        if sort == "intruder":
            return json.dumps({"reasoning": "?", "intruder": 1 + int(chance(content, "", self.seed) * len(lines))})
        if sort in ("detect", "fuzz", "output"):
            guessed = [{"number": int(number), "chance": chance(content, number, self.seed)} for number, _ in lines]
            return json.dumps({"verdicts": guessed})
        name = f"about {hashlib.sha256(content.encode()).hexdigest()[:8]}"
        answer = {"reasoning": "?", "label": name, "description": name}
        return json.dumps(answer if sort == "group" else answer | {"kind": "input"})


def features(harvest: Path) -> list[tuple[int, int, list[str], list[float]]]:
    """(layer, feature, promoted tokens, their logits) of all features of a harvest."""
    import duckdb

    with duckdb.connect(str(harvest / "results.duckdb"), read_only=True) as connection:
        return connection.execute("SELECT layer, feature, top_tokens, top_token_logits FROM features").fetchall()


class KeywordLabeller:
    """Reads what it is told and repeats its commonest words; judges by whether a text holds them."""

    def __call__(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        """The answer, as JSON."""
        content, sort = messages[1]["content"] if len(messages) > 1 else "", sort_of(messages)
        if sort == "probe":
            from tests.autointerp.replies import example_of

            return example_of(messages, schema)
        lines = LINE.findall(content)
        if sort in ("detect", "fuzz", "output"):
            words = set(re.findall(r"`([^`]+)`", content.split("\n\n")[0]))
            judged = [
                {"number": int(number), "chance": 0.9 if words & set(re.findall(r"\w+", line)) else 0.1}
                for number, line in lines
            ]
            return json.dumps({"verdicts": judged})
        if sort == "intruder":
            marked = [frozenset(" ".join(re.findall(r"«([^»]*)»", line)).split()) for _, line in lines]
            shared = Counter(word for words in marked for word in words)
            odd = min(range(len(marked)), key=lambda place: sum(shared[word] for word in marked[place]))
            return json.dumps({"reasoning": "The others share words.", "intruder": odd + 1})
        if sort == "group":
            answers = Counter(line.split(" → ")[1].split()[0] for _, line in lines if " → " in line)
            said = ", ".join(word for word, _ in answers.most_common(3))
            name = f"ends in {said}"
            return json.dumps({"reasoning": "What the prompts say next.", "label": name[:80], "description": name})
        return json.dumps(self._feature(content))

    def _feature(self, content: str) -> dict[str, str]:
        found = {
            name: re.findall(rf"(\S+) {figure}", line[1])[:6]
            for name, title, figure in (
                ("on", "Active on these tokens", r"\d+/"), ("after", "Active right after", r"\d+/"),
                ("says", "Promotes", r"\+"),
            )
            if (line := re.search(rf"^{title}[^:]*: (.*)$", content, re.MULTILINE))
        }  # fmt: skip
        marked = Counter(word for text in MARKED.findall(content) for word in re.findall(r"\w+", text))
        on = [word for word, _ in marked.most_common(3)] or found.get("on", [])[:3]
        label = f"on {', '.join(on)}" if on else "unclear"
        words = [*on, *found.get("after", []), *found.get("says", [])]
        description = "Texts with " + ", ".join(f"`{word}`" for word in dict.fromkeys(words)) if words else "unclear"
        return {"reasoning": "Counted words.", "kind": "both", "label": label[:80], "description": description[:500]}
