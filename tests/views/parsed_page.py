"""A page as a tree of elements, read strictly: a tag left open or closed twice is an error."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID_TAGS = frozenset({"meta", "link", "br", "img", "input", "hr", "wbr"})


@dataclass(slots=True)
class Element:
    """One element; `parts` are its elements and texts in order."""

    tag: str
    attributes: dict[str, str | None]
    parts: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, white space folded."""
        return " ".join("".join(self._texts()).split())

    def walk(self) -> Iterator["Element"]:
        """This element and all inside it, in order."""
        yield self
        for part in self.parts:
            if isinstance(part, Element):
                yield from part.walk()

    def all(self, tag: str) -> list["Element"]:
        """All elements inside with this tag."""
        return [element for element in self.walk() if element.tag == tag]

    def by_id(self, name: str) -> "Element":
        """The one element with this id."""
        (found,) = (element for element in self.walk() if element.attributes.get("id") == name)
        return found

    def _texts(self) -> Iterator[str]:
        for part in self.parts:
            if isinstance(part, Element):
                yield from part._texts()
            else:
                yield part


class _TreeBuilder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute given twice: {self.get_starttag_text()}"
        element = Element(tag, dict(attrs))
        self.open[-1].parts.append(element)
        if tag not in VOID_TAGS:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse_page(text: str) -> Element:
    """The document; fails where tags do not nest."""
    builder = _TreeBuilder()
    builder.feed(text)
    builder.close()
    assert builder.open == [builder.root], f"left open: {[element.tag for element in builder.open[1:]]}"
    return builder.root


def figures(row: Element) -> dict[str, float | None]:
    """The exact values in a table row by the name of their column; None where nothing was measured."""
    found: dict[str, float | None] = {}
    for cell in row.all("td"):
        name = cell.attributes.get("data-label")
        values = [element.attributes["value"] for element in cell.all("data")]
        if name and values:
            (found[name],) = (float(value or "nan") for value in values)
        elif name and "not measured" in [element.attributes.get("title") for element in cell.all("span")]:
            found[name] = None
    return found
