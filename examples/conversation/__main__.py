"""Speak, be answered, and interrupt: a voice conversation in a terminal.

In: a microphone. Out: a loudspeaker, and what was said in words. Does not know: how speech is recognized,
written or spoken; it holds the three together.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from examples.conversation.answers import Answer, Message, echo, model
from examples.conversation.ears import Ears, TurnEnded
from examples.conversation.room import RoomOfFiles, microphone
from makima_tts.client import ClientError, Player, Speech, SpeechClient, UtteranceCancelled
from makima_tts.protocol import Start

SYSTEM = "You are in a spoken conversation. Answer in a few plain sentences, without markup."


class Conversation:
    """Whoever speaks last is listened to: a voice from the microphone silences the answer."""

    def __init__(self, client: SpeechClient, player: Player, answer: Answer) -> None:
        self._client, self._player, self._answer = client, player, answer
        self._history: list[Message] = [{"role": "system", "content": SYSTEM}]
        self._speech: Speech | None = None
        self._playing: asyncio.Task[None] | None = None

    async def hold(self, ears: Ears, sound: AsyncIterator[bytes]) -> None:
        """Until the microphone ends."""
        async for event in ears.hear(sound):
            await self._be_silent()
            if isinstance(event, TurnEnded) and event.text:
                self._tell("user", event.text)
                self._speech = self._client.speak(self._answer(list(self._history)))
                self._playing = asyncio.create_task(self._play(self._speech))
        await self._be_silent()

    async def _be_silent(self) -> None:
        if self._speech is not None and self._playing is not None and not self._playing.done():
            await self._speech.interrupt()
            await self._playing

    async def _play(self, speech: Speech) -> None:
        """What the model remembers of its answer is what was heard of it."""
        ending = ""
        try:
            await speech.play(self._player)
        except UtteranceCancelled:
            ending = " [interrupted]"
        except Exception as failure:  # whoever answers fails in ways of its own
            print(failure)
        self._tell("assistant", speech.heard().spoken.strip() + ending)

    def _tell(self, role: str, content: str) -> None:
        self._history.append({"role": role, "content": content})
        print(f"{role}: {content}", flush=True)


async def main(options: argparse.Namespace) -> None:
    """One conversation."""
    answer = model(options.model, options.model_url) if options.model else echo
    files = RoomOfFiles(options.from_wav, options.to_wav) if options.from_wav else None
    ears = Ears()
    async with SpeechClient.connect(options.url, Start(voice=options.voice)) as client:
        if client.started.warning:
            print(client.started.warning)
        with Player(client.audio_format, files.open if files else None) as player:
            print("Listening. Speak; interrupt whenever you like; Ctrl-C ends it.", flush=True)
            sound = files.microphone() if files else microphone()
            await Conversation(client, player, answer).hold(ears, sound)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.conversation", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--url", default="ws://127.0.0.1:8001/api/v1/speak", help="where the service speaks")
    add("--voice", help="a voice's id; else the default voice")
    add("--model", help="the name of a model that answers; else an echo does")
    add("--model-url", help="an OpenAI-compatible API, such as http://127.0.0.1:11434/v1; else OpenAI's")
    add("--from-wav", type=Path, help="hear this instead of the microphone")
    add("--to-wav", type=Path, default=Path("conversation.wav"), help="with --from-wav: speak into this")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except ClientError as failure:
        raise SystemExit(str(failure)) from None
    except KeyboardInterrupt:
        print()
