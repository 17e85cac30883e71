"""How good a model is: the tables of the original, a report of them, comparisons and studies."""
