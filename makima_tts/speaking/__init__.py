"""One utterance from an engine to its listener, the same for every protocol and for the command line.

In: text, an engine, the format of the audio. Out: encoded chunks and metrics. Does not know: sessions,
sockets, HTTP, files.
"""
