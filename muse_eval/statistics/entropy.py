"""How evenly things are spread over their kinds."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable


def entropy(things: Iterable[Hashable]) -> float:
    """Return −Σ p log p over the shares p of the different things, in nats; 0 where there is none."""
    counts = Counter(things)
    total = counts.total()
    if not total:
        return 0.0
    return math.log(total) - sum(count * math.log(count) for count in counts.values()) / total
