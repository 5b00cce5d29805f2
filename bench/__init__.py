"""`make bench`: what layergate costs, as ratios taken in one run, beside the floor that no program can pass.

`place` makes a network namespace and a control group of its own; `load` runs traffic there; `variants` are what is
attached meanwhile; `measure` takes every variant once a round; `figures` turns rounds into medians with their spread;
`report` prints them and appends a line to the history. README.md says how to read it.
"""
