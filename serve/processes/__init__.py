"""Several processes that answer on one port, as `cnnkit serve --processes N` has them.

A parent listens and hands each connection to the process that has the fewest; it opens no model and sees no
request. Its processes are started anew, not forked: engines and their threads do not live through a fork, and
one that is replaced is made as the first ones were. Of the other two ways, one listening socket that all of
them wait at lets whoever wakes up first take most connections, and SO_REUSEPORT deals them out by a hash of
the client's address (of 8 kept connections one process may get 7) and resets what waits for a process that
dies or stops. gRPC's library opens its port itself, so that there it is SO_REUSEPORT all the same.

What concerns all of them goes through the parent, in messages over a socket to each: counts are added up, a
newer artifact is opened by all before any of them answers with it, models are loaded and unloaded by all, and
a stop is one stop. The first process has the page, and the others pass the page's requests on to it.
"""
