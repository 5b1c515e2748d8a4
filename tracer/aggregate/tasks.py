"""How a piece of work that falls into blocks is spread: in this process, or by what is handed in (Ray, by `run`)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Shared = TypeVar("Shared")
Block = TypeVar("Block")
Result = TypeVar("Result")


@runtime_checkable
class TaskMap(Protocol):
    """Does `function(shared, block)` for every block and gives the results in the order of the blocks.

    `function` is a function of a module, and everything that goes in or comes out can be sent to another process;
    arrays in `shared` may be read-only there.
    """

    def __call__(
        self, function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block]
    ) -> Iterator[Result]:
        """The results, one after another."""


def in_process(
    function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block]
) -> Iterator[Result]:
    """One block after another, here."""
    return (function(shared, block) for block in blocks)
