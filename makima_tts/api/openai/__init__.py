"""The OpenAI audio API under /v1.

In: HTTP requests of OpenAI clients. Out: responses in OpenAI's shape. Does not know: how speech is generated.
"""
