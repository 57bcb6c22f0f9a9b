"""The WebSocket dialect of vLLM-Omni.

In: frames of vLLM-Omni clients. Out: session inputs, and frames. Does not know: how speech is generated.
"""
