"""Which tensors a Qwen3-TTS-12Hz Base checkpoint holds.

In: its configuration. Out: names and shapes, as they are published. Does not know: what is in them.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

Config = dict[str, Any]
Sizes = Iterator[tuple[str, tuple[int, ...]]]


def model_sizes(config: Config) -> Sizes:
    """Names and shapes in ``model.safetensors``."""
    talker = config["talker_config"]
    predictor = talker["code_predictor_config"]
    hidden, text = talker["hidden_size"], talker["text_hidden_size"]
    yield from _transformer("talker.model", talker, qk_norm=True)
    yield "talker.model.codec_embedding.weight", (talker["vocab_size"], hidden)
    yield "talker.model.text_embedding.weight", (talker["text_vocab_size"], text)
    yield from _linear("talker.text_projection.linear_fc1", text, text)
    yield from _linear("talker.text_projection.linear_fc2", text, hidden)
    yield "talker.codec_head.weight", (talker["vocab_size"], hidden)
    yield from _transformer("talker.code_predictor.model", predictor, qk_norm=True)
    for index in range(predictor["num_code_groups"] - 1):
        yield f"talker.code_predictor.model.codec_embedding.{index}.weight", (predictor["vocab_size"], hidden)
        size = (predictor["vocab_size"], predictor["hidden_size"])
        yield f"talker.code_predictor.lm_head.{index}.weight", size
    if predictor["hidden_size"] != hidden:
        yield from _linear("talker.code_predictor.small_to_mtp_projection", hidden, predictor["hidden_size"])
    yield from _speaker_encoder("speaker_encoder", config["speaker_encoder_config"])


def codec_sizes(config: Config) -> Sizes:
    """Names and shapes in ``speech_tokenizer/model.safetensors``."""
    yield from _mimi("encoder", config["encoder_config"])
    yield from _codec_decoder("decoder", config["decoder_config"])


def _linear(name: str, inputs: int, outputs: int) -> Sizes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Sizes:
    yield f"{name}.conv.weight", (outputs, inputs, kernel)
    yield f"{name}.conv.bias", (outputs,)


def _transformer(name: str, config: Config, *, qk_norm: bool) -> Sizes:
    hidden = config["hidden_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    for index in range(config["num_hidden_layers"]):
        layer = f"{name}.layers.{index}"
        if config.get("attention_bias"):
            yield f"{layer}.self_attn.q_proj.bias", (queries,)
            yield f"{layer}.self_attn.k_proj.bias", (keys,)
            yield f"{layer}.self_attn.v_proj.bias", (keys,)
            yield f"{layer}.self_attn.o_proj.bias", (hidden,)
        yield f"{layer}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{layer}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)
        if qk_norm:
            yield f"{layer}.self_attn.q_norm.weight", (head,)
            yield f"{layer}.self_attn.k_norm.weight", (head,)
        yield f"{layer}.mlp.gate_proj.weight", (config["intermediate_size"], hidden)
        yield f"{layer}.mlp.up_proj.weight", (config["intermediate_size"], hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, config["intermediate_size"])
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
    yield f"{name}.norm.weight", (hidden,)


def _speaker_encoder(name: str, config: Config) -> Sizes:
    channels = config.get("enc_channels", [512, 512, 512, 512, 1536])
    kernels = config.get("enc_kernel_sizes", [5, 3, 3, 3, 1])
    scale, squeezed = config.get("enc_res2net_scale", 8), config.get("enc_se_channels", 128)
    attention, last = config.get("enc_attention_channels", 128), channels[-1]
    yield from _conv(f"{name}.blocks.0", config.get("mel_dim", 128), channels[0], kernels[0])
    for index in range(1, len(channels) - 1):
        block, before, width = f"{name}.blocks.{index}", channels[index - 1], channels[index]
        yield from _conv(f"{block}.tdnn1", before, width, 1)
        for part in range(scale - 1):
            yield from _conv(
                f"{block}.res2net_block.blocks.{part}", width // scale, width // scale, kernels[index]
            )
        yield from _conv(f"{block}.tdnn2", width, width, 1)
        yield f"{block}.se_block.conv1.weight", (squeezed, width, 1)
        yield f"{block}.se_block.conv1.bias", (squeezed,)
        yield f"{block}.se_block.conv2.weight", (width, squeezed, 1)
        yield f"{block}.se_block.conv2.bias", (width,)
    yield from _conv(f"{name}.mfa", last, last, kernels[-1])
    yield from _conv(f"{name}.asp.tdnn", 3 * last, attention, 1)
    yield f"{name}.asp.conv.weight", (last, attention, 1)
    yield f"{name}.asp.conv.bias", (last,)
    yield f"{name}.fc.weight", (config["enc_dim"], 2 * last, 1)
    yield f"{name}.fc.bias", (config["enc_dim"],)


def _mimi(name: str, config: Config) -> Sizes:
    hidden, width, layer = config["hidden_size"], config["num_filters"], 0
    yield from _conv(f"{name}.encoder.layers.0", 1, width, config["kernel_size"])
    for ratio in reversed(config["upsampling_ratios"]):
        narrow = width // config["compress"]
        block = f"{name}.encoder.layers.{layer + 1}.block"
        yield from _conv(f"{block}.1", width, narrow, config["residual_kernel_size"])
        yield from _conv(f"{block}.3", narrow, width, 1)
        layer += 3
        yield from _conv(f"{name}.encoder.layers.{layer}", width, 2 * width, 2 * ratio)
        width *= 2
    yield from _conv(f"{name}.encoder.layers.{layer + 2}", width, hidden, config["last_kernel_size"])
    for index in range(config["num_hidden_layers"]):
        yield from _mimi_layer(f"{name}.encoder_transformer.layers.{index}", config)
    yield f"{name}.downsample.conv.weight", (hidden, hidden, 4)
    semantic = config["num_semantic_quantizers"]
    yield from _mimi_quantizer(f"{name}.quantizer.semantic_residual_vector_quantizer", config, semantic)
    acoustic = config["num_quantizers"] - semantic
    yield from _mimi_quantizer(f"{name}.quantizer.acoustic_residual_vector_quantizer", config, acoustic)


def _mimi_layer(name: str, config: Config) -> Sizes:
    hidden, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield f"{name}.self_attn.q_proj.weight", (queries, hidden)
    yield f"{name}.self_attn.k_proj.weight", (keys, hidden)
    yield f"{name}.self_attn.v_proj.weight", (keys, hidden)
    yield f"{name}.self_attn.o_proj.weight", (hidden, queries)
    yield f"{name}.mlp.fc1.weight", (config["intermediate_size"], hidden)
    yield f"{name}.mlp.fc2.weight", (hidden, config["intermediate_size"])
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"{name}.{norm}.weight", (hidden,)
        yield f"{name}.{norm}.bias", (hidden,)
    yield f"{name}.self_attn_layer_scale.scale", (hidden,)
    yield f"{name}.mlp_layer_scale.scale", (hidden,)


def _mimi_quantizer(name: str, config: Config, codebooks: int) -> Sizes:
    inner = config["vector_quantization_hidden_dimension"]
    yield f"{name}.input_proj.weight", (inner, config["hidden_size"], 1)
    yield f"{name}.output_proj.weight", (config["hidden_size"], inner, 1)
    for index in range(codebooks):
        codebook = f"{name}.layers.{index}.codebook"
        yield f"{codebook}.initialized", (1,)
        yield f"{codebook}.cluster_usage", (config["codebook_size"],)
        yield f"{codebook}.embed_sum", (config["codebook_size"], config["codebook_dim"])


def _codec_decoder(name: str, config: Config) -> Sizes:
    latent, hidden = config["latent_dim"], config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        yield f"{name}.pre_transformer.layers.{layer}.self_attn_layer_scale.scale", (hidden,)
        yield f"{name}.pre_transformer.layers.{layer}.mlp_layer_scale.scale", (hidden,)
    yield from _transformer(f"{name}.pre_transformer", config, qk_norm=False)
    yield from _linear(f"{name}.pre_transformer.input_proj", latent, hidden)
    yield from _linear(f"{name}.pre_transformer.output_proj", hidden, latent)
    yield from _codec_quantizer(f"{name}.quantizer.rvq_first", config, 1)
    yield from _codec_quantizer(f"{name}.quantizer.rvq_rest", config, config["num_quantizers"] - 1)
    yield from _conv(f"{name}.pre_conv", config["codebook_dim"], latent, 3)
    for index, ratio in enumerate(config["upsampling_ratios"]):
        yield from _upsampling(f"{name}.upsample.{index}", latent, ratio)
    yield from _wave_decoder(f"{name}.decoder", config)


def _codec_quantizer(name: str, config: Config, codebooks: int) -> Sizes:
    outer, inner = config["codebook_dim"], config["codebook_dim"] // 2
    yield f"{name}.input_proj.weight", (inner, outer, 1)
    yield f"{name}.output_proj.weight", (outer, inner, 1)
    for index in range(codebooks):
        codebook = f"{name}.vq.layers.{index}._codebook"
        yield f"{codebook}.cluster_usage", (config["codebook_size"],)
        yield f"{codebook}.embedding_sum", (config["codebook_size"], inner)


def _upsampling(name: str, width: int, ratio: int) -> Sizes:
    yield f"{name}.0.conv.weight", (width, width, ratio)
    yield f"{name}.0.conv.bias", (width,)
    yield f"{name}.1.gamma", (width,)
    yield from _conv(f"{name}.1.dwconv", 1, width, 7)
    yield f"{name}.1.norm.weight", (width,)
    yield f"{name}.1.norm.bias", (width,)
    yield from _linear(f"{name}.1.pwconv1", width, 4 * width)
    yield from _linear(f"{name}.1.pwconv2", 4 * width, width)


def _wave_decoder(name: str, config: Config) -> Sizes:
    widths = [config["decoder_dim"] // 2**level for level in range(len(config["upsample_rates"]) + 1)]
    yield from _conv(f"{name}.0", config["latent_dim"], widths[0], 7)
    for index, (before, width) in enumerate(pairwise(widths)):
        block = f"{name}.{index + 1}.block"
        yield from _snake(f"{block}.0", before)
        yield f"{block}.1.conv.weight", (before, width, 2 * config["upsample_rates"][index])
        yield f"{block}.1.conv.bias", (width,)
        for unit in (2, 3, 4):
            yield from _snake(f"{block}.{unit}.act1", width)
            yield from _conv(f"{block}.{unit}.conv1", width, width, 7)
            yield from _snake(f"{block}.{unit}.act2", width)
            yield from _conv(f"{block}.{unit}.conv2", width, width, 1)
    yield from _snake(f"{name}.{len(widths)}", widths[-1])
    yield from _conv(f"{name}.{len(widths) + 1}", widths[-1], 1, 7)


def _snake(name: str, width: int) -> Sizes:
    yield f"{name}.alpha", (width,)
    yield f"{name}.beta", (width,)
