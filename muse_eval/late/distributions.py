"""Which distribution a package came with, looked up when asked and not for all that is installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata

_packages_distributions = metadata.packages_distributions


class Distributions(Mapping[str, list[str]]):
    """What ``importlib.metadata.packages_distributions`` returns, read whole only where a lookup needs it.

    A package whose distribution has its name, as nearly all have, is found without reading the others.
    """

    @cached_property
    def _all(self) -> Mapping[str, list[str]]:
        return _packages_distributions()

    def __getitem__(self, package: str) -> list[str]:
        try:
            return [metadata.distribution(package.replace("_", "-")).metadata["Name"]]
        except metadata.PackageNotFoundError:
            return self._all[package]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


@contextmanager
def looked_up() -> Iterator[None]:
    """Hand such a mapping to whoever asks for all distributions meanwhile."""
    metadata.packages_distributions = Distributions
    try:
        yield
    finally:
        metadata.packages_distributions = _packages_distributions
