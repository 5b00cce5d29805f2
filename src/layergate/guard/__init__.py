"""What guards know while they are in force: who is nearest to a limit, who is banned. Read from the kernel's maps.

`calibration` needs none of that: it is what sources did in a capture, and which limits would have touched them.
Any process that may look (root) finds the maps of the runs there are by their names; a run need not be asked.
"""
