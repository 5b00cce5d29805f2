"""The connection table: endpoints, who holds them, how they fare, what is wrong with them.

`endpoint` is one socket as the kernel's list tells it, `owners` who holds it, `table` the list of a network namespace
or of all of them; `filters` understands words like `state:established port:443`; `lines` writes endpoints as data.
"""
