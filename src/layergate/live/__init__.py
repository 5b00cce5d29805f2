"""A live host: what attaches where, trace, enforcement, who owns a socket, flows.

`session` puts the programs and a policy in force for a cgroup and takes both away again; `narrator` turns the kernel's
records into indications, in ring order, through `layergate.path`; `identities` keeps the executables and units that a
policy names as the kernel knows them; `pinning` is what outlives us; `names` resolves names as this host knows them.
"""
