"""Speak, be answered, and interrupt: a voice conversation in a terminal.

In: a microphone. Out: a loudspeaker, and the transcript. Does not know: how speech is recognized, generated
or synthesized; it connects the three.
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
    """A voice from the microphone interrupts the answer (barge-in)."""

    def __init__(self, client: SpeechClient, player: Player, answer: Answer) -> None:
        self._client, self._player, self._answer = client, player, answer
        self._history: list[Message] = [{"role": "system", "content": SYSTEM}]
        self._speech: Speech | None = None
        self._playing: asyncio.Task[None] | None = None

    async def hold(self, ears: Ears, sound: AsyncIterator[bytes]) -> None:
        """Runs until the microphone ends."""
        async for event in ears.listen(sound):
            await self._interrupt()
            if isinstance(event, TurnEnded) and event.text:
                self._record("user", event.text)
                self._speech = self._client.speak(self._answer(list(self._history)))
                self._playing = asyncio.create_task(self._play(self._speech))
        await self._interrupt()

    async def _interrupt(self) -> None:
        if self._speech is not None and self._playing is not None and not self._playing.done():
            await self._speech.interrupt()
            await self._playing

    async def _play(self, speech: Speech) -> None:
        """Only the part of the answer that was heard goes into the model's history."""
        ending = ""
        try:
            await speech.play(self._player)
        except UtteranceCancelled:
            ending = " [interrupted]"
        except Exception as failure:  # the model's client has errors of its own
            print(failure)
        self._record("assistant", speech.heard().spoken.strip() + ending)

    def _record(self, role: str, content: str) -> None:
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
    add("--url", default="ws://127.0.0.1:8001/api/v1/speak", help="the service's WebSocket")
    add("--voice", help="a voice's id; else the default voice")
    add("--model", help="the name of a model that answers; else an echo")
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
