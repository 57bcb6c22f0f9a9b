"""The process around the app.

In: an ASGI app and where to listen. Out: a server that drains on the first signal and stops on the second.
Does not know: sessions, engines, what the app answers.
"""
