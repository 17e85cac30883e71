"""Measurements of the program by itself.

Alternatives are measured in turns in one process or command, and the median of the turns counts: other load on the
machine affects all alike. Nothing is imported here: a child process reports at least the memory of its parent.
"""
