"""The conversation of one connection, as a pure state machine driven by tables.

In: client messages, reports of the engine, ticks, interrupts. Out: effects for the connection to perform.
Does not know: sockets, clocks, event loops, arrays, engines.
"""
