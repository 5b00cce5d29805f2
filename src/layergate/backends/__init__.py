"""Running the tables: one meaning, several backends, proved equal to the engine.

`plain` is pure Python: the definition of the steps, and the twin of the kernel's loop. `columns` decides batches by
Numba (the extra `columns`), at millions of rows a second.
"""
