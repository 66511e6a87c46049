"""The largest of several draws, estimated without bias from more of them."""

from collections.abc import Sequence
from math import comb

import numpy as np


def expected_max(values: Sequence[float], k: int) -> float:
    """Return the mean, over all choices of k of the n values, of the largest (leak@k, arXiv 2511.04934).

    Of the values in rising order the i-th, from 1, is the largest of C(i − 1, k − 1) of the C(n, k) choices.
    Of zeros and ones that is 1 − C(n − c, k) / C(n, k), with c ones.

    Args:
        values: (n,) scores of independent draws.
        k: from 1 to n.
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}, of {n} values")
    weights = [comb(i - 1, k - 1) / comb(n, k) for i in range(1, n + 1)]
    return float(np.dot(np.sort(np.asarray(values, dtype=np.float64)), weights))
