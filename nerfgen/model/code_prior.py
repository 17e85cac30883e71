"""A prior over vector-quantised codes: which entries of the codebooks go together.

Chow and Liu, "Approximating discrete probability distributions with dependence trees", 1968: each group's entry depends
on that of one other group, along the tree with the most mutual information. It is estimated from counts, in
milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

# Pseudo-counts of the even distribution for single groups, and those of a group's own distribution, of which the best
# is chosen, for groups that depend on another.
_EVEN, _CHOICES = 0.5, (1.0, 4.0, 16.0, 64.0, 256.0, 1e6)
# Every so many rows are left out to choose.
_HELD_OUT = 10
# Added to mutual information, whose zeros a sparse graph would drop.
_PRESENT = 1.0


@dataclass(frozen=True)
class CodePrior:
    """A distribution of the entries of all groups.

    Attributes:
        order: groups so that each comes after the one that it depends on.
        parent: group that each depends on; -1 for the first of the order.
        first: probabilities of the first group's entries.
        given: probabilities of each group's entries, given the entry of its parent; unused for the first group.
    """

    order: Int[np.ndarray, "groups"]
    parent: Int[np.ndarray, "groups"]
    first: Float[np.ndarray, "entries"]
    given: Float[np.ndarray, "groups entries entries"]

    def log_likelihood(self, indices: Int[np.ndarray, "rows groups"]) -> Float[np.ndarray, "rows"]:
        """Natural logarithm of the probability of each row's entries."""
        total = np.log(self.first[indices[:, self.order[0]]])
        for group in self.order[1:]:
            total += np.log(self.given[group, indices[:, self.parent[group]], indices[:, group]])
        return np.asarray(total)

    def draw(self, count: int, truncation: float, seed: int) -> Int[np.ndarray, "samples groups"]:
        """Entries of new objects; those of sample i depend on (seed, i) only.

        Args:
            truncation: temperature up to 1: probabilities are raised to its inverse. 0 gives the likeliest entries.
        """
        drawn = np.zeros((count, len(self.order)), np.int64)
        for sample in range(count):
            uniform = np.random.default_rng([seed, sample]).random(len(self.order))
            for place, group in enumerate(self.order):
                probabilities = (
                    self.first if not place else self.given[group, drawn[sample, self.parent[group]]]
                )
                drawn[sample, group] = _entry(probabilities, min(truncation, 1.0), uniform[place])
        return drawn


def fit_code_prior(indices: Int[np.ndarray, "rows groups"], entries: int) -> CodePrior:
    """The prior of a table's codes.

    How far a group depends on its parent is chosen by the likelihood of a tenth of the rows, left out.

    Args:
        entries: number of a codebook's entries.
    """
    held_out = np.arange(len(indices)) % _HELD_OUT == _HELD_OUT - 1
    best = _CHOICES[-1]
    if held_out.any():
        tried = {weight: _fitted(indices[~held_out], entries, weight) for weight in _CHOICES}
        best = max(tried, key=lambda weight: tried[weight].log_likelihood(indices[held_out]).mean())
    return _fitted(indices, entries, best)


def _fitted(indices: Int[np.ndarray, "rows groups"], entries: int, weight: float) -> CodePrior:
    groups = indices.shape[1]
    single = np.stack([np.bincount(column, minlength=entries) for column in indices.T]) + _EVEN
    single = single / single.sum(1, keepdims=True)
    order, parent = _tree(indices, entries)
    given = np.zeros((groups, entries, entries))
    for group in order[1:]:
        pairs = _pairs(indices[:, parent[group]], indices[:, group], entries)
        counts = pairs + weight * single[group]
        given[group] = counts / counts.sum(1, keepdims=True)
    return CodePrior(order, parent, single[order[0]], given)


def _tree(
    indices: Int[np.ndarray, "rows groups"], entries: int
) -> tuple[Int[np.ndarray, "groups"], Int[np.ndarray, "groups"]]:
    """Order and parents of the groups in the tree with the most mutual information, from the first group on."""
    groups = indices.shape[1]
    information = np.zeros((groups, groups))
    for one in range(groups):
        for other in range(one):
            joint = _pairs(indices[:, one], indices[:, other], entries) / len(indices)
            independent = joint.sum(1, keepdims=True) * joint.sum(0)
            present = joint > 0
            shared = (joint[present] * np.log(joint[present] / independent[present])).sum()
            information[one, other] = shared
    # The smallest tree of what is left of a common bound.
    weights = np.where(np.tri(groups, k=-1) > 0, information.max() + _PRESENT - information, 0.0)
    tree = minimum_spanning_tree(weights)
    order, parent = breadth_first_order(tree, 0, directed=False)
    return order.astype(np.int64), np.where(parent < 0, -1, parent).astype(np.int64)


def _pairs(
    one: Int[np.ndarray, "rows"], other: Int[np.ndarray, "rows"], entries: int
) -> Float[np.ndarray, "entries entries"]:
    """How often each pair of entries occurs."""
    counts = np.bincount(one * entries + other, minlength=entries**2)
    return counts.reshape(entries, entries).astype(np.float64)


def _entry(probabilities: Float[np.ndarray, "entries"], temperature: float, uniform: float) -> int:
    if temperature <= 0:
        return int(probabilities.argmax())
    logarithms = np.log(probabilities) / temperature
    cumulated = np.cumsum(np.exp(logarithms - logarithms.max()))
    return int(np.searchsorted(cumulated, uniform * cumulated[-1], side="right").clip(0, len(cumulated) - 1))
