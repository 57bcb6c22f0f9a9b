"""The model: talker, code predictor, codec, encoders, loaded from a checkpoint.

In: a checkpoint, a device, a number type. Out: a SpeechModel. Does not know: utterances, slots.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import ModelConfig
from makima_tts.model.checkpoint.folder import Checkpoint, unexplained
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_encoder import CodecEncoder
from makima_tts.model.codec_ops import loud_and_finite
from makima_tts.model.devices import settle
from makima_tts.model.language_model import CodePredictor, FrameGenerator, Talker
from makima_tts.model.ops.self_test import select_ops
from makima_tts.model.ops.table import Ops, ops_for
from makima_tts.model.prompt import PromptWriter
from makima_tts.model.speaker_encoder import SpeakerEncoder
from makima_tts.model.tokenizer import TextTokenizer

_log = structlog.get_logger(__name__)

# The language model is by far the larger file.
_MODEL_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """``codec`` decodes frames to samples; ``codec_encoder`` and ``speaker_encoder`` encode voices."""

    config: ModelConfig
    tokenizer: TextTokenizer
    talker: Talker
    predictor: CodePredictor
    prompts: PromptWriter
    frames: FrameGenerator
    codec: CodecDecoder
    codec_encoder: CodecEncoder
    speaker_encoder: SpeakerEncoder
    device: torch.device
    dtype: torch.dtype
    ops: Ops

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        *,
        positions: int,
        weight_bits: int | None = None,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> "SpeechModel":
        """``positions``: as many rows as an utterance's prompt and frames may have together.

        ``weight_bits`` 8 or 4: the layers' weights are quantized, and the codec's decoder has sixteen bits;
        then ``dtype`` must be float32, and ``device`` a CPU. The thread that loads must also generate: the
        current CUDA device belongs to a thread.

        Raises TtsUnavailable, naming file and tensor, for a checkpoint that does not match its configuration.
        """
        settle(device)
        config, ops = checkpoint.config, ops_for(device, weight_bits)
        if "triton" in ops.implementations.values():
            ops = select_ops(checkpoint, device, dtype)
        weights = checkpoint.model_weights(device, dtype, lambda share: progress(share * _MODEL_SHARE))
        talker = Talker.load(config.talker_config, weights.within("talker"), positions, ops)
        predictor = CodePredictor.load(
            config.predictor, config.talker_config.hidden_size, weights.within("talker.code_predictor"), ops
        )
        speaker_encoder = SpeakerEncoder.load(
            config.speaker_encoder_config, weights.within("speaker_encoder")
        )
        codec_weights = checkpoint.codec_weights(
            device, dtype, lambda share: progress(_MODEL_SHARE + share * (1 - _MODEL_SHARE))
        )
        codec_encoder = CodecEncoder.load(
            config.codec.encoder_config,
            codec_weights.within("encoder"),
            codebooks=config.codec.encoder_valid_num_quantizers,
        )
        codec = ops.codec(config.codec.decoder_config, codec_weights.within("decoder"))
        if strange := unexplained(weights, codec_weights):
            _log.warning("checkpoint_holds_unknown_tensors", count=len(strange), first=strange[0])
        prompts = PromptWriter(config, talker, predictor, checkpoint.tokenizer.role_ids)
        frames = FrameGenerator(talker, predictor, prompts.pad, ops.sampler)
        return cls(
            config,
            checkpoint.tokenizer,
            talker,
            predictor,
            prompts,
            frames,
            codec,
            codec_encoder,
            speaker_encoder,
            device,
            dtype,
            ops,
        )

    @property
    def frame_samples(self) -> int:
        return self.codec.frame_samples

    @property
    def sample_rate_hz(self) -> int:
        return self.config.codec.output_sample_rate

    def loud_and_finite(self, samples: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Which frames are loud, and which hold numbers only."""
        return loud_and_finite(samples, frames, self.sample_rate_hz)

    def finish(self, samples: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples of 16 bits, and ``loud_and_finite``."""
        return self.ops.finish(samples, frames, self.sample_rate_hz)
