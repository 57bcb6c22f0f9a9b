"""Sound becomes frames of codes: the encoder half of the codec, for reference audio.

In: a clip of 24 kHz. Out: its codes, in slices of work. Does not know: where clips come from, who speaks
meanwhile.

T frames · Q codebooks · E hidden size.

The source is ``Qwen3TTSTokenizerV2Model.encode`` of ``qwen-tts`` 0.1.1, which is ``MimiModel.encode`` of
``transformers``. All of it is causal, so slices of a clip come to the same codes as all of it at once. It is
computed in float32 whatever the model is: a code is the nearest of many, and rounding may choose another.
"""

from collections.abc import Generator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from makima_tts.errors import InvalidClip
from makima_tts.model.checkpoint.config import CodecEncoderConfig
from makima_tts.model.checkpoint.weights import Weights
from makima_tts.model.codec_encoder_convs import EncoderConv, Pasts, WaveEncoder
from makima_tts.model.codec_encoder_transformer import EncoderTransformer
from makima_tts.model.codec_quantizer import SplitQuantizer
from makima_tts.model.pace import Pace

# The transformer runs at twice the frame rate; what follows it halves that.
_POSITIONS_PER_FRAME = 2
# About as much as four published frames take in the convolutions.
_MULTIPLY_ADDS_PER_SLICE = 350_000_000


@dataclass(frozen=True, slots=True)
class CodecEncoder:
    """``frame_samples``: samples in a frame, 1920 at the published sizes.

    ``wave_frames``: how many frames one slice takes through the convolutions. ``code_frames``: how many go
    through all that comes after them together, in slices of ``work_per_slice`` multiply-adds.
    """

    wave: WaveEncoder
    transformer: EncoderTransformer
    down: EncoderConv
    quantizer: SplitQuantizer
    frame_samples: int
    device: torch.device
    wave_frames: int = 4
    code_frames: int = 40
    work_per_slice: int = _MULTIPLY_ADDS_PER_SLICE

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights, *, codebooks: int) -> "CodecEncoder":
        """``codebooks``: Q, the first so many. Raises TtsUnavailable for tensors of other shapes."""
        exact, hidden = weights.as_dtype(torch.float32), config.hidden_size
        down = EncoderConv.load(
            exact.within("downsample"),
            hidden,
            hidden,
            2 * _POSITIONS_PER_FRAME,
            stride=_POSITIONS_PER_FRAME,
            biased=False,
            pad_mode="replicate",
        )
        return cls(
            wave=WaveEncoder.load(config, exact.within("encoder")),
            transformer=EncoderTransformer.load(config, exact.within("encoder_transformer")),
            down=down,
            quantizer=SplitQuantizer.load(config, exact.within("quantizer"), codebooks),
            frame_samples=prod(config.upsampling_ratios) * _POSITIONS_PER_FRAME,
            device=weights.device,
        )

    def encode(self, pcm: Tensor) -> Generator[None, None, Tensor]:
        """float32 [samples] at 24 kHz → codes int64 [T, Q]; T is samples / ``frame_samples``, rounded up.

        Yields between slices of work. Raises InvalidClip when there is no sample.
        """
        if not len(pcm):
            raise InvalidClip("The reference audio holds no sound.")
        features = yield from self._features(pcm.to(self.device, torch.float32))
        return (yield from self._codes(features))

    def _features(self, pcm: Tensor) -> Generator[None, None, Tensor]:
        """[samples] → [2 * T or one less, E]."""
        pasts: Pasts = {}
        features = []
        for part in torch.split(pcm, self.wave_frames * self.frame_samples):
            features.append(self.wave(part, pasts))
            yield
        return torch.cat(features)

    def _codes(self, features: Tensor) -> Generator[None, None, Tensor]:
        """[2 * T or one less, E] → [T, Q]."""
        pasts: Pasts = {}
        pace = Pace(self.work_per_slice)
        seen = self.transformer.begin(self.device)
        codes = []
        for part in torch.split(features, self.code_frames * _POSITIONS_PER_FRAME):
            x = yield from self.transformer(part, seen, pace)
            codes.append((yield from self.quantizer(self.down(x, pasts), pace)))
        return torch.cat(codes)
