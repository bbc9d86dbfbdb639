"""The smallest network that has every part, for tests that build, save and train one."""

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
