"""The answers: from a language model, or an echo.

In: the conversation so far. Out: the answer, while it is written. Does not know: sound.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypedDict, cast

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


class Message(TypedDict):
    """Of the chat completions API."""

    role: str
    content: str


Answer = Callable[[list[Message]], AsyncIterator[str]]


async def echo(history: list[Message]) -> AsyncIterator[str]:
    """Repeats the user, and is long enough to be interrupted."""
    yield f"You said: {history[-1]['content']} "
    yield "I am only an echo, with nothing of my own to say, so I repeat what I hear, "
    yield "and go on for a while, until you have heard enough and interrupt me. "
    yield "Start me with a model, and I will answer you."


def model(name: str, url: str | None) -> Answer:
    """An OpenAI-compatible chat completions endpoint; the key is in OPENAI_API_KEY."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - an echo needs none

    client = AsyncOpenAI(base_url=url)

    async def answer(history: list[Message]) -> AsyncIterator[str]:
        chunks = await client.chat.completions.create(
            model=name,
            messages=cast("list[ChatCompletionMessageParam]", history),
            stream=True,
        )
        async with chunks:  # an interruption stops the model, too
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    return answer
