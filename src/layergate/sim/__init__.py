"""A world for TCP: virtual clock, seeded chance, links that lose and reorder, hosts with an engine and policy each."""
