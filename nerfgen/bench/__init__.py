"""Measurements of the program by itself. What is compared is measured in turns in one process or command, and the
median of its turns counts: whatever else the machine does weighs on all alike.

Nothing is imported here: the memory of a child process is only told truly by a small parent.
"""
