"""Sizes of networks for tests and benchmarks."""

# The smallest that has every part.
TINY = {
    "llm": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 640,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    },
    "ecg": {"patch_size": 500, "width": 64, "layers": 1, "head_width": 32, "output_dim": 32},
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 28,
    },
    "vision_feature_layer": -1,
}

# Large enough that layers cost more than what is around them, on a CPU.
SMALL = {
    "llm": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    },
    "ecg": {"patch_size": 50, "width": 128, "layers": 2, "head_width": 32, "output_dim": 64},
    "vision": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 112,
        "patch_size": 14,
    },
    "vision_feature_layer": -1,
}

# A 7 B GEM, with the published towers.
FULL = {"llm": {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32000}}
