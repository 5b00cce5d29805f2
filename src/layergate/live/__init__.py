"""A live host: what attaches where, who owns a socket, and what names mean here.

`names` resolves a policy's names (users, services, executables, interfaces, units) as this host knows them.
"""
