"""Linux, raw: BPF programs (C, one file per hook family), loader, maps, event ring, netlink. Decides nothing.

`hooks` says which hook stands for which layer, what it can know there and what a block does; `loader` opens and loads
the objects and links them to cgroups, interfaces and tracepoints; `tables` writes compiled filters into the maps;
`ring` reads what the programs wrote; `sockdiag` destroys sockets; `cgroups` finds and makes them.
"""
