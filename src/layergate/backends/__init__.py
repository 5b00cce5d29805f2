"""Running the tables: one meaning, several backends, proved equal to the engine.

`plain` is pure Python, the twin of the kernel's own loop, test for test.
"""
