"""One utterance as it arrives.

In: chunks and the terminal message, from the client's reader. Out: an async iterator of chunks, a file,
sound, measurements, and how much of the text was heard. Does not know: sockets, other utterances.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from makima_tts.client.failures import UtteranceCancelled, cancelled_here
from makima_tts.client.playing import Player
from makima_tts.client.saving import wav_file
from makima_tts.client.writing import OutgoingText
from makima_tts.errors import NothingToSay
from makima_tts.protocol import AudioFormat, Cancel, Complete, Sentence, TimedWord, Words

# What belongs to the word before it. An opening bracket does not.
_PUNCTUATION = re.compile(r"[^\w\s(\[{<]*")

# Above this the reader stops, and so, through TCP, the service.
MAX_BUFFERED_BYTES = 8 * 1024 * 1024

SendCancel = Callable[[str, int | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """``pcm``: whole samples, mono, little endian, in the session's encoding.

    ``received_s`` is when it left the socket, on ``time.monotonic``.
    """

    pcm: bytes = field(repr=False)
    utterance_id: str
    received_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """``spoken + remaining`` is the text written so far, split between words."""

    spoken: str = field(repr=False)
    remaining: str = field(repr=False)


class Speech:
    """Iterate once, or ``save``, ``play`` or ``read`` it.

    ``words`` grows, if ``timings`` were asked for: each word is there before its audio is due to be played.
    Ends after ``complete``; raises ServiceError, UtteranceCancelled or ConnectionLost. A caller that stops
    early must cancel: untaken audio holds up the utterances behind it.
    """

    def __init__(
        self, utterance_id: str, outgoing: OutgoingText, audio_format: AudioFormat, send_cancel: SendCancel
    ) -> None:
        self.utterance_id = utterance_id
        self.audio_format = audio_format
        self.complete: Complete | None = None
        self.sentences: list[Sentence] = []
        self.words: list[TimedWord] = []
        self.sent_s: float | None = None
        self.first_audio_s: float | None = None
        # The service has begun to speak it: after a reconnect it is not sent again.
        self.begun = False
        self.cancelled = False
        self.buffered_bytes = 0
        self.received_bytes = 0
        # The client's: the text to send, and the task that writes it.
        self.outgoing = outgoing
        self.writer: asyncio.Task[None] | None = None
        self._send_cancel = send_cancel
        self._player: Player | None = None
        # Of the service's utterances for it that have ended, if its writer paused for long.
        self._earlier: Complete | None = None
        self._known_played_ms: int | None = None
        self._chunks: deque[SpeechChunk] = deque()
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """The terminal message has come; chunks may still be buffered."""
        return self._over.is_set()

    @property
    def audible(self) -> bool:
        return not self.over or bool(self._chunks) or self._player is not None

    @property
    def ttfa_s(self) -> float | None:
        """``speak`` sent → first PCM byte received, by this side's clock; None without audio."""
        if self.sent_s is None or self.first_audio_s is None:
            return None
        return self.first_audio_s - self.sent_s

    @property
    def audio_ms(self) -> int:
        return self.audio_format.duration_ms(self.received_bytes // self.audio_format.bytes_per_sample)

    @property
    def played_ms(self) -> int | None:
        """How much of it was played; None if no player of this package plays it and no caller reported it."""
        return self._known_played_ms if self._player is None else self._player.played_ms

    async def read(self) -> bytes:
        """All of its PCM."""
        return b"".join([chunk.pcm async for chunk in self])

    async def save(self, path: Path | str) -> Path:
        """Write it to a WAV file as it arrives; the file gets its name once it is complete."""
        with wav_file(Path(path), self.audio_format) as write:
            async for chunk in self:
                write(chunk.pcm)
        return Path(path)

    async def play(self, player: Player | None = None) -> None:
        """Play it to its end, through the sound card or this player; a cancel silences it at once.

        Raises PlayerUnavailable.
        """
        with nullcontext(player) if player else Player(self.audio_format) as card:
            await self._play(card)
        if self._failure is not None:
            raise self._failure

    async def _play(self, player: Player) -> None:
        self._player = player
        player.begin()
        try:
            async for chunk in self:
                await player.write(chunk.pcm)
            await player.drain()
        finally:
            if not self.cancelled:
                self._known_played_ms = player.played_ms
            self._player = None

    async def cancel(self, played_ms: float | None = None) -> None:
        """Silence it: buffered audio is dropped at once, and iteration raises UtteranceCancelled.

        ``played_ms``: how much was heard, for the service's answer; a player of this package knows it.
        """
        if self.cancelled:
            return
        hint = Cancel.model_validate({"played_ms": played_ms}).played_ms
        self._known_played_ms = self.played_ms if hint is None else hint
        self.cancelled = True
        self._chunks.clear()
        self.buffered_bytes = 0
        self._room.set()
        if self._player is not None:
            self._player.silence()
        if self.over:
            self._end_cancelled()
        else:
            await self._send_cancel(self.utterance_id, self._played_of_the_last_ms())

    def _played_of_the_last_ms(self) -> int | None:
        """Of the service's utterance that has not ended."""
        played_ms = self._known_played_ms
        if played_ms is None or self._earlier is None:
            return played_ms
        return max(0, played_ms - self._earlier.audio_length_ms)

    async def interrupt(self, played_ms: float | None = None) -> Heard:
        """Cancel it, and say how much of its text was heard."""
        await self.cancel(played_ms)
        await self._over.wait()
        return self.heard()

    def heard(self) -> Heard:
        """Its text, before and after the last position that was played.

        As the service reported it, if it was cancelled there; else computed from its words or sentences, and
        all audio that arrived counts as played unless a player or the caller knows better.
        """
        match self._failure:
            case UtteranceCancelled(text_spoken=str(spoken), text_remaining=str(rest)) if not self._earlier:
                return Heard(spoken, rest)
        played_ms = self.audio_ms if self.played_ms is None else self.played_ms
        return heard_of(self.outgoing.text, self.sentences, self.words, played_ms)

    def __aiter__(self) -> "Speech":
        return self

    async def __anext__(self) -> SpeechChunk:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self.complete is not None:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        chunk = self._chunks.popleft()
        self.buffered_bytes -= len(chunk.pcm)
        self._room.set()
        return chunk

    async def deliver(self, pcm: bytes) -> None:
        """Audio from the reader; waits while too much is buffered."""
        now_s = time.monotonic()
        self.begun = True
        self.first_audio_s = self.first_audio_s or now_s
        if self.cancelled:
            return
        self._chunks.append(SpeechChunk(pcm, self.utterance_id, now_s))
        self.buffered_bytes += len(pcm)
        self.received_bytes += len(pcm)
        self._changed.set()
        while self.buffered_bytes > MAX_BUFFERED_BYTES:
            self._room.clear()
            await self._room.wait()

    def describe(self, part: Sentence | Words) -> None:
        """The service has told where a part of the text is in the audio."""
        chars, ms = self.outgoing.resumed_chars, self._earlier.audio_length_ms if self._earlier else 0
        if isinstance(part, Words):
            self.words += [_moved(word, ms, offset=word.offset + chars) for word in part.words]
        else:
            self.sentences.append(_moved(part, ms))

    def resume(self, complete: Complete | None, utterance_id: str) -> bool:
        """The service has closed the text because its writer paused: the rest is another utterance there.

        ``complete`` None: it had no words so far. False if the text has ended and nothing of it is left.
        """
        received_chars = 0 if complete is None else complete.text_length
        if self.cancelled or not self.outgoing.resume(received_chars, utterance_id):
            return False
        self._earlier = self._earlier if complete is None else _joined(self._earlier, complete)
        self.utterance_id, self.begun = utterance_id, False
        return True

    def finish(self, complete: Complete) -> None:
        """The service has sent all of it."""
        if self.over:
            return
        self.complete = _joined(self._earlier, complete)
        self._end()
        if self.cancelled:
            self._end_cancelled()

    def fail(self, failure: Exception) -> None:
        """Ends it; chunks that came before are still returned, except those of a cancelled utterance."""
        if not self.over:
            self._failure = failure
            if getattr(failure, "reason", None) == NothingToSay.reason and self._earlier is not None:
                self._failure, self.complete = None, self._earlier
            self._end()

    def _end_cancelled(self) -> None:
        """The service had sent all of it before it received the cancel."""
        message = "The utterance was cancelled by this side, after the service had sent all of it."
        played_ms = self._known_played_ms
        self._failure = self._failure or cancelled_here(self.utterance_id, message, played_ms)
        self._changed.set()

    def _end(self) -> None:
        self._over.set()
        self._changed.set()


_Timed = TypeVar("_Timed", Sentence, TimedWord)


def _moved(part: _Timed, ms: int, **fields: int) -> _Timed:
    return part.model_copy(update={"start_ms": part.start_ms + ms, "end_ms": part.end_ms + ms, **fields})


def _joined(earlier: Complete | None, last: Complete) -> Complete:
    """The figures of both; those of the begin are the earlier ones."""
    if earlier is None:
        return last
    counts = ("duration_ms", "audio_length_ms", "characters_processed", "text_length", "total_chunks")
    sums = {name: getattr(earlier, name) + getattr(last, name) for name in counts}
    return earlier.model_copy(update=sums | {"finish_reason": last.finish_reason})


def heard_of(text: str, sentences: Sequence[Sentence], words: Sequence[TimedWord], played_ms: int) -> Heard:
    """Of a sentence that was played in part, the words that ended; without ``words``, its share of time."""
    if words:
        played = [sentence for sentence in sentences if sentence.end_ms <= played_ms]
        end = max(_end_by_words(text, words, played_ms), _end_by_share(text, played, played_ms))
    else:
        end = _end_by_share(text, sentences, played_ms)
    return Heard(text[:end], text[end:])


def _end_by_words(text: str, words: Sequence[TimedWord], played_ms: int) -> int:
    """The end of the last word that was played, with the punctuation after it."""
    ends = [word.offset + word.length for word in words if word.end_ms <= played_ms]
    after = _PUNCTUATION.match(text, ends[-1]) if ends else None
    return after.end() if after else 0


def _end_by_share(text: str, sentences: Sequence[Sentence], played_ms: int) -> int:
    end = 0
    for sentence in sentences:
        begin = max(end, text.find(sentence.text, end))
        length_ms = sentence.end_ms - sentence.start_ms
        if played_ms < sentence.end_ms:
            share = max(0.0, (played_ms - sentence.start_ms) / length_ms)
            end = _end_of_word(text, end, begin + int(share * len(sentence.text)))
            break
        end = begin + len(sentence.text)
    return end


def _end_of_word(text: str, start: int, cut: int) -> int:
    """The end of the last whole word between these positions."""
    words = text[start:cut]
    if text[cut : cut + 1].strip():
        words = words[: words.rfind(" ") + 1]
    return start + len(words.rstrip())
