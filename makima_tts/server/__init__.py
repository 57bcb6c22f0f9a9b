"""The process around the app.

In: an ASGI app and an address. Out: a server that drains on the first signal and stops on the second.
Does not know: sessions, engines, the app's responses.
"""
