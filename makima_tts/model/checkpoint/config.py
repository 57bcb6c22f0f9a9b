"""A checkpoint's configuration: every dimension and every special id.

In: ``config.json``, ``generation_config.json`` and ``speech_tokenizer/config.json`` of a folder. Out: one
frozen ModelConfig. Does not know: weights, devices.

The defaults are those of the configuration classes of ``qwen-tts`` 0.1.1 and of ``transformers``' MimiConfig:
a published file leaves out what does not differ from them.
"""

from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from makima_tts.errors import TtsUnavailable

MODEL_CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
CODEC_CONFIG = "speech_tokenizer/config.json"
MODEL_WEIGHTS = "model.safetensors"
MODEL_INDEX = "model.safetensors.index.json"
CODEC_WEIGHTS = "speech_tokenizer/model.safetensors"

# At the end of the talker's vocabulary; of them, only the end of speech may be sampled.
CONTROL_IDS = 1024

Size = Annotated[int, Field(gt=0)]
Activation = Literal["silu", "gelu"]


_Config = TypeVar("_Config", bound=BaseModel)


class _ConfigSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _RopeScaling(_ConfigSection):
    """Only plain RoPE: mRoPE's three rows are equal for speech, which makes it plain."""

    # Where both are there, the older name wins, as in the reference.
    rope_type: Literal["default"] = Field("default", validation_alias=AliasChoices("type", "rope_type"))


class TransformerConfig(_ConfigSection):
    """A decoder-only transformer: grouped-query attention, RoPE, a gated MLP."""

    hidden_size: Size = 1024
    intermediate_size: Size = 3072
    num_hidden_layers: Size
    num_attention_heads: Size = 16
    num_key_value_heads: Size
    head_dim: Size | None = None
    hidden_act: Activation = "silu"
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: _RopeScaling | None = None
    attention_bias: bool = False

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @model_validator(mode="after")
    def _heads_share_keys(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class PredictorConfig(TransformerConfig):
    """The code predictor. ``vocab_size``: codes in each of the codebooks 1 to ``num_code_groups`` - 1."""

    vocab_size: Size = 2048
    num_hidden_layers: Size = 5
    num_key_value_heads: Size = 8
    head_dim: Size | None = 128
    num_code_groups: Size = 32
    use_sliding_window: bool = False
    sliding_window: Size | None = 4096
    max_window_layers: int = 28
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = None

    @model_validator(mode="after")
    def _layers_have_types(self) -> Self:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError("layer_types are not as many as num_hidden_layers")
        return self

    def window_of(self, layer: int) -> int | None:
        """How many positions this layer looks back over, itself included; None is all of them."""
        window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is not None:
            return window if self.layer_types[layer] == "sliding_attention" else None
        return window if layer >= self.max_window_layers else None


class TalkerConfig(TransformerConfig):
    """The talker, and the ids of its codec vocabulary."""

    vocab_size: Size = 3072
    intermediate_size: Size = 2048
    num_hidden_layers: Size = 20
    num_key_value_heads: Size = 2
    num_code_groups: Size = 32
    text_hidden_size: Size = 2048
    text_vocab_size: Size = 151936
    use_sliding_window: bool = False
    sliding_window: Size | None = 4096
    code_predictor_config: PredictorConfig = PredictorConfig()
    codec_eos_token_id: int = 4198
    codec_think_id: int = 4202
    codec_nothink_id: int = 4203
    codec_think_bos_id: int = 4204
    codec_think_eos_id: int = 4205
    codec_pad_id: int = 4196
    codec_bos_id: int = 4197
    codec_language_id: dict[str, int] = {}

    @property
    def control_ids(self) -> tuple[int, ...]:
        """Every id of the codec vocabulary that stands for no code."""
        return (
            self.codec_eos_token_id,
            self.codec_think_id,
            self.codec_nothink_id,
            self.codec_think_bos_id,
            self.codec_think_eos_id,
            self.codec_pad_id,
            self.codec_bos_id,
            *self.codec_language_id.values(),
        )

    @property
    def window(self) -> int | None:
        """How many positions a row looks back over, itself included; None is all of them."""
        return self.sliding_window if self.use_sliding_window else None

    @model_validator(mode="after")
    def _predictor_matches(self) -> Self:
        if self.code_predictor_config.num_code_groups != self.num_code_groups:
            raise ValueError("num_code_groups differs between talker and code predictor")
        return self


class SpeakerEncoderConfig(_ConfigSection):
    """ECAPA-TDNN. ``enc_dim`` is the size of the x-vector, the talker's hidden size."""

    mel_dim: Size = 128
    enc_dim: Size = 1024
    enc_channels: tuple[Size, ...] = (512, 512, 512, 512, 1536)
    enc_kernel_sizes: tuple[Size, ...] = (5, 3, 3, 3, 1)
    enc_dilations: tuple[Size, ...] = (1, 2, 3, 4, 1)
    enc_attention_channels: Size = 128
    enc_res2net_scale: Size = 8
    enc_se_channels: Size = 128
    sample_rate: Size = 24000


class CodecDecoderConfig(TransformerConfig):
    """The codec's decoder: its transformer (this class's base) and its convolutions."""

    attention_bias: Literal[False] = False
    codebook_size: Size = 2048
    codebook_dim: Size = 512
    latent_dim: Size = 1024
    num_hidden_layers: Size = 8
    num_key_value_heads: Size = 16
    rms_norm_eps: float = 1e-5
    sliding_window: Size = 72
    num_quantizers: Size = 16
    upsample_rates: tuple[Size, ...] = (8, 5, 4, 3)
    upsampling_ratios: tuple[Size, ...] = (2, 2)
    decoder_dim: Size = 1536


class CodecEncoderConfig(TransformerConfig):
    """The codec's encoder, a half of Mimi: its transformer (this class's base) and its convolutions."""

    sampling_rate: Size = 24000
    audio_channels: Literal[1] = 1
    hidden_size: Size = 512
    num_filters: Size = 64
    num_residual_layers: Size = 1
    upsampling_ratios: tuple[Size, ...] = (8, 6, 5, 4)
    kernel_size: Size = 7
    last_kernel_size: Size = 3
    residual_kernel_size: Size = 3
    dilation_growth_rate: Size = 2
    use_causal_conv: Literal[True] = True
    pad_mode: Literal["constant", "replicate"] = "constant"
    compress: Size = 2
    codebook_size: Size = 2048
    num_quantizers: Size = 32
    use_conv_shortcut: bool = False
    vector_quantization_hidden_dimension: Size = 256
    num_semantic_quantizers: Size = 1
    num_hidden_layers: Size = 8
    intermediate_size: Size = 2048
    num_attention_heads: Size = 8
    num_key_value_heads: Size = 8
    hidden_act: Activation = "gelu"
    norm_eps: float = 1e-5
    # Mimi's own class writes it with an underscore, and derives it from the ratios when it is absent.
    frame_rate: float | None = Field(None, validation_alias=AliasChoices("_frame_rate", "frame_rate"))


class CodecConfig(_ConfigSection):
    """The codec. ``decode_upsample_rate``: samples in a frame."""

    model_type: Literal["qwen3_tts_tokenizer_12hz"]
    encoder_config: CodecEncoderConfig = CodecEncoderConfig()
    decoder_config: CodecDecoderConfig = CodecDecoderConfig()
    encoder_valid_num_quantizers: Size = 16
    input_sample_rate: Literal[24000] = 24000
    output_sample_rate: Literal[24000] = 24000
    decode_upsample_rate: Size = 1920
    encode_downsample_rate: Size = 1920

    @model_validator(mode="after")
    def _encoder_makes_frames(self) -> Self:
        encoder = self.encoder_config
        frame_samples = 2 * prod(encoder.upsampling_ratios)
        rate_hz = encoder.sampling_rate / frame_samples
        if self.encode_downsample_rate != frame_samples or encoder.frame_rate not in (None, rate_hz):
            raise ValueError("the encoder's rates do not come to encode_downsample_rate and its frame_rate")
        return self


class GenerationConfig(_ConfigSection):
    """The checkpoint's default sampling; the ``subtalker`` is the code predictor."""

    do_sample: bool = True
    top_k: int = Field(50, ge=0)
    top_p: float = Field(1.0, ge=0, le=1)
    temperature: float = Field(0.9, gt=0)
    repetition_penalty: float = Field(1.05, gt=0)
    subtalker_dosample: bool = True
    subtalker_top_k: int = Field(50, ge=0)
    subtalker_top_p: float = Field(1.0, ge=0, le=1)
    subtalker_temperature: float = Field(0.9, gt=0)


class ModelConfig(_ConfigSection):
    """The whole model. Text ids are of the BPE vocabulary, codec ids are the talker's."""

    model_type: Literal["qwen3_tts"]
    tts_model_type: Literal["base"]
    tokenizer_type: Literal["qwen3_tts_tokenizer_12hz"] = "qwen3_tts_tokenizer_12hz"
    im_start_token_id: int = 151644
    tts_pad_token_id: int = 151671
    tts_bos_token_id: int = 151672
    tts_eos_token_id: int = 151673
    talker_config: TalkerConfig
    speaker_encoder_config: SpeakerEncoderConfig = SpeakerEncoderConfig()
    codec: CodecConfig
    generation: GenerationConfig = GenerationConfig()

    @property
    def predictor(self) -> PredictorConfig:
        return self.talker_config.code_predictor_config

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        talker, decoder = self.talker_config, self.codec.decoder_config
        if self.speaker_encoder_config.enc_dim != talker.hidden_size:
            raise ValueError("enc_dim of the speaker encoder is not the talker's hidden_size")
        if not talker.num_code_groups == decoder.num_quantizers == self.codec.encoder_valid_num_quantizers:
            raise ValueError("talker, codec encoder and codec decoder differ in their number of codebooks")
        if not all(0 <= number < talker.vocab_size for number in talker.control_ids):
            raise ValueError("a codec id lies beyond the talker's vocab_size")
        if max(talker.vocab_size - CONTROL_IDS, self.predictor.vocab_size) > decoder.codebook_size:
            raise ValueError("the talker or the code predictor has more codes than the codec")
        if prod((*decoder.upsample_rates, *decoder.upsampling_ratios)) != self.codec.decode_upsample_rate:
            raise ValueError("decode_upsample_rate is not what the decoder's rates come to")
        return self


def load_config(folder: Path) -> ModelConfig:
    """Read the three files. Raises TtsUnavailable with the file, the field and the reason."""
    codec = _validate(CodecConfig, _read(folder, CODEC_CONFIG), CODEC_CONFIG)
    generation = _validate(GenerationConfig, _read(folder, GENERATION_CONFIG), GENERATION_CONFIG)
    fields = {**_read(folder, MODEL_CONFIG), "codec": codec, "generation": generation}
    return _validate(ModelConfig, fields, MODEL_CONFIG)


def read_file(folder: Path, name: str) -> bytes:
    """Raises TtsUnavailable, naming the file."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise TtsUnavailable(f"The checkpoint lacks {name}; download it again.") from None
    except OSError as error:
        raise TtsUnavailable(f"The checkpoint's {name} cannot be read: {error.strerror}.") from error


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        fields = from_json(read_file(folder, name))
    except ValueError:
        raise TtsUnavailable(f"The checkpoint's {name} is not JSON; download it again.") from None
    if not isinstance(fields, dict):
        raise TtsUnavailable(f"The checkpoint's {name} holds no JSON object.")
    return fields


def _validate(section: type[_Config], fields: dict[str, Any], name: str) -> _Config:
    try:
        return section.model_validate(fields)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, fault["loc"])) or "all of it"
        reason = fault["msg"].removeprefix("Value error, ")
        raise TtsUnavailable(
            f"The checkpoint's {name} is not of a Qwen3-TTS-12Hz Base model: {field}: {reason}. "
            "Set TTS_MODEL_ID to one, such as Qwen/Qwen3-TTS-12Hz-0.6B-Base."
        ) from None
