"""What guards know while they are in force: who is nearest to a limit, who is banned. Read from the kernel's maps.

Any process that may look (root) finds the maps of the runs there are by their names; a run need not be asked.
"""
